"""The tables of the documents, computed: from the table of states, from the cards, and by the planner.

A document has them between `<!-- name: begin -->` and `<!-- name: end -->`; `refresh` makes them what they are now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from relight.metering.cards import Card, load_cards
from relight.metering.money import show_money, whole
from relight.planner.costs import Holds, cost
from relight.planner.formulas import break_even
from relight.planner.options import Option, Workload
from relight.planner.plan import make_plan
from relight.planner.policies import Capacity, Policy
from relight.planner.simulator import simulate
from relight.planner.traces import steady
from relight.planner.workloads import KINDS, plan_for
from relight.protocol.workers import STATES

_MARKED = re.compile(r"(<!-- (\w+): begin -->\n).*?(<!-- \2: end -->)", re.DOTALL)
_H100 = Holds(gpus=("H100",))
_PAIR = ("runpod", "dedicated")


def refresh(text: str) -> str:
    """A document with its tables as they are now.  Raises KeyError for a name that no table has."""
    return _MARKED.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def _states() -> str:
    """Which states are billed."""
    rows = [
        (
            f"`{state.value}`",
            rule.meaning,
            "billed" if rule.billed_flex else "-",
            "billed" if rule.billed_active else "-",
        )
        for state, rule in STATES.items()
    ]
    return _table(("state", "means", "flex", "active"), rows)


def _prices() -> str:
    """An hour of each GPU on RunPod's card, as flex, active and held, and the utilisation from which held is cheaper."""
    cards = load_cards()
    rows = []
    for gpu in cards["runpod"].gpus:
        held = cards["dedicated"].gpu(gpu.kind)
        if gpu.flex is None or gpu.active is None or held is None or held.active is None:
            continue
        even = break_even(whole(held.active), whole(gpu.flex))
        prices = (show_money(whole(price)) for price in (gpu.flex, gpu.active, held.active))
        rows.append((gpu.kind, *prices, f"{even:.0%}"))
    return _table(("GPU", "flex, an hour", "active", "held", "held is cheaper from"), rows)


def _steady() -> str:
    """What a month of one steady stream of calls costs, by how busy it would keep one worker."""
    rows = []
    for utilisation in (0.1, 0.3, 0.45, 0.6, 0.9):
        load = Workload(trace=steady(utilisation, 60.0, 6 * 3600.0), holds=_H100, starts=(2.0,))
        plan = make_plan(load, _chosen(_PAIR))
        costs = {one.policy.capacity: show_money(one.monthly()) for one in plan.others}
        best = plan.best.policy.capacity.value
        rows.append((f"{utilisation:.0%}", *(costs[kind] for kind in Capacity), f"**{best}**"))
    return _table(("busy", "flex", "active", "dedicated", "cheapest"), rows)


def _windows() -> str:
    """What waiting for the next call costs, and saves, for a chatbot's day."""
    kind, cards = KINDS["bursty"], load_cards()
    trace, rows = kind.trace(), []
    for window in (1.0, 5.0, 15.0, 60.0, 300.0, 900.0):
        policy = Policy(window_seconds=window)
        outcome = simulate(trace, policy, kind.starts)
        nanos = cost(cards["runpod"], outcome, policy, kind.holds)
        rows.append(
            (
                f"{window:g} s",
                f"{outcome.cold_share:.0%}",
                f"{outcome.wait(0.95):.2f} s",
                f"{outcome.utilisation:.0%}",
                show_money(nanos),
            )
        )
    return _table(("window", "cold calls", "95 % wait at most", "used", "a day on RunPod's card"), rows)


def _classes() -> str:
    """What each class of workloads is advised, with the figure of a trace of its kind."""
    rows = []
    for name, kind in KINDS.items():
        best = plan_for(kind, load_cards()).best
        amount = f"{show_money(best.monthly())} a month" if kind.horizon.recurs else f"{show_money(best.nanos)} in all"
        rows.append((name, kind.says, kind.advice, f"{best.policy} on `{best.card}`: {amount}, {_quality(best)}"))
    return _table(("class", "such as", "advice", "its replay"), rows)


def _quality(best: Option) -> str:
    return f"{best.outcome.cold_share:.1%} cold"


def _chosen(names: Sequence[str]) -> dict[str, Card]:
    cards = load_cards()
    return {name: cards[name] for name in names}


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return text.replace("| --- ", "|---").replace("|--- |", "|---|") if rows else text


TABLES: Mapping[str, Callable[[], str]] = {
    "states": _states,
    "prices": _prices,
    "steady": _steady,
    "windows": _windows,
    "classes": _classes,
}
"""Every table, by the name that a document has for it."""
