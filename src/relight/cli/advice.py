"""`relight simulate` and `relight plan`: what traffic would cost under other settings, and which to choose."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import click

from relight.cli.applying import apply, check_may_write
from relight.cli.completion import APPS
from relight.cli.options import json_option
from relight.cli.tables import show_duration, show_json, show_table
from relight.cli.traffic import (
    WARM_START,
    Name,
    chosen_cards,
    every_card,
    history,
    holds_of,
    measured_starts,
    name_of,
)
from relight.metering.cards import Card
from relight.metering.money import nanodollars, show_money, whole
from relight.planner.costs import Holds, Horizon, cost
from relight.planner.drawing import draw, draw_text
from relight.planner.gpus import advise, choose_gpus
from relight.planner.options import Option, Targets, Workload
from relight.planner.plan import Plan, make_plan
from relight.planner.policies import Capacity, Policy
from relight.planner.simulator import Outcome
from relight.planner.simulator import simulate as replay
from relight.planner.traces import Trace, read_trace
from relight.planner.windows import WINDOWS
from relight.planner.workloads import KINDS, MATTERS, plan_for, provider_for
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Json
from relight.sdk.connection import connect

_STEPS = 1000  # of the bar of a plan


@click.command()
@click.option(
    "--trace",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="CSV: arrival,seconds.",
)
@click.option("--only", default="", metavar="COLUMN=VALUE", help="Only these rows of the trace.")
@click.option(
    "--window",
    "windows",
    multiple=True,
    type=float,
    metavar="SECONDS",
    help="Scale-down windows to try; 1 to 900 when left out.",
)
@click.option(
    "--floor", "floors", multiple=True, type=int, default=(0,), show_default=True, help="Workers that are always there."
)
@click.option(
    "--buffer",
    "buffers",
    multiple=True,
    type=int,
    default=(0,),
    show_default=True,
    help="Workers beyond what calls need.",
)
@click.option("--gpu", default="", help="What each worker holds: a kind of GPU.")
@click.option("--cpu", default=1.0, show_default=True, help="Its cores.")
@click.option("--memory", default=1024, show_default=True, metavar="MIB", help="Its memory.")
@click.option(
    "--start", "starts", multiple=True, type=float, metavar="SECONDS", help="What starts take; several are drawn from."
)
@click.option("--card", "names", multiple=True, help="Rate cards; all when left out.")
@click.option("--seed", default=0, show_default=True, help="Another seed draws other starts.")
@json_option
def simulate(
    *, path: Path, only: str, windows: tuple[float, ...], floors: tuple[int, ...], buffers: tuple[int, ...], gpu: str,
    cpu: float, memory: int, starts: tuple[float, ...], names: tuple[str, ...], seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Replay a trace through the autoscaler under a grid of settings: cold calls, waits, worker-seconds, and cost per card.

    \b
    Example:
      relight simulate --trace calls.csv --window 5 --window 60 --gpu H100 --start 2
    """
    trace = read_trace(path, only=only)
    cards = chosen_cards(names)
    holds = Holds(cpu_millis=round(cpu * 1000), memory_mib=memory, gpus=(gpu.upper(),) if gpu else ())
    grid = [
        Policy(
            capacity=Capacity.ACTIVE if floor else Capacity.FLEX,
            workers=floor,
            buffer_workers=buffer,
            window_seconds=window,
        )
        for window, floor, buffer in itertools.product(windows or WINDOWS, floors, buffers)
    ]
    outcomes = []
    with _bar(len(trace) * len(grid), "replaying") as advance:
        for at, policy in enumerate(grid):
            begun = at * len(trace)
            told = _Told(advance, begun)
            outcomes.append(replay(trace, policy, starts or (WARM_START,), seed=seed, progress=told))
    sold = {name: card for name, card in cards.items() if not card.is_reserved}
    priced = [
        {name: cost(card, outcome, policy, holds) for name, card in sold.items()}
        for policy, outcome in zip(grid, outcomes, strict=True)
    ]
    if as_json:
        rows = [
            _plain_outcome(policy, outcome, costs)
            for policy, outcome, costs in zip(grid, outcomes, priced, strict=True)
        ]
        return show_json({"calls": len(trace), "length_seconds": trace.length, "policies": list[Json](rows)})
    known = [name for name in sold if any(costs[name] is not None for costs in priced)]
    columns = (
        "POLICY",
        "COLD",
        "P50",
        "P95",
        "P99",
        "STARTS",
        "BUSY",
        "IDLE",
        "USED",
        *(name.upper() for name in known),
    )
    table = [
        _outcome_row(policy, outcome, costs, known)
        for policy, outcome, costs in zip(grid, outcomes, priced, strict=True)
    ]
    show_table(columns, table, "nothing to replay")


@click.command()
@click.argument("what", default="", metavar="[APP/FUNCTION]", shell_complete=APPS)
@click.option(
    "--trace",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV instead of what was called here.",
)
@click.option("--only", default="", metavar="COLUMN=VALUE", help="Only these rows of the trace.")
@click.option("--p95", type=float, metavar="SECONDS", help="The wait that 95 % of calls may have.")
@click.option("--cold", type=float, metavar="SHARE", help="How many calls may be cold: 0.01 is one in a hundred.")
@click.option("--budget", metavar="DOLLARS", help="What a trace of such traffic may cost.")
@click.option("--once", is_flag=True, help="The traffic does not recur: least terms count in full.")
@click.option("--gpu", default="", help="What each worker holds; what the function asks for when left out.")
@click.option(
    "--start",
    "starts",
    multiple=True,
    type=float,
    metavar="SECONDS",
    help="What starts take; as measured when left out.",
)
@click.option("--card", "names", multiple=True, help="Rate cards; all when left out.")
@click.option("--model", "billions", type=float, metavar="BILLIONS", help="Say which GPUs hold a model of that size.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8", "int4"]),
    default="fp16",
    show_default=True,
    help="Of that model.",
)
@click.option("--profile", type=click.Choice(list(KINDS)), help="Advice for a class of workloads instead.")
@click.option(
    "--matters",
    type=click.Choice(MATTERS),
    default="cost",
    show_default=True,
    help="What matters most, with --profile.",
)
@click.option("--interview", is_flag=True, help="Ask for both.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the options into a file too: .svg or .png."
)
@click.option("--environment", "-e", default="", help="Only calls there; settings are written there, else to main.")
@click.option(
    "--apply", "applies", is_flag=True, help="Write the settings to APP/FUNCTION, after showing what changes."
)
@click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask before that.")
@json_option
def plan(
    *, what: str, path: Path | None, only: str, p95: float | None, cold: float | None, budget: str | None, once: bool,
    gpu: str, starts: tuple[float, ...], names: tuple[str, ...], billions: float | None, precision: str,
    profile: str | None, matters: str, interview: bool, plot: Path | None, environment: str, applies: bool,
    is_sure: bool, as_json: bool,
) -> None:  # fmt: skip
    """Say what is cheapest for a function's traffic: flex, active or dedicated workers, how many, for how long, and where.

    \b
    Example:
      relight plan shop/square --p95 0.5 --apply
      relight plan --trace calls.csv --gpu H100 --start 2 --plot plan.svg
      relight plan --profile bursty --matters latency
    """
    cards = chosen_cards(names)
    if billions is not None:
        return _show_gpus(billions, precision, cards, as_json=as_json)
    if interview:
        profile, matters = _interview()
    if profile:
        return _show_profile(profile, matters, cards if names else every_card(), as_json=as_json)
    targets = Targets(wait_p95=p95, cold_share=cold, budget_nanos=whole(nanodollars(budget)) if budget else None)
    name = name_of(what, environment) if what else None
    if applies:
        name = check_may_write(name, is_sure=is_sure, as_json=as_json)
    load = _workload(name, path, only, gpu, starts)
    load = Workload(
        trace=load.trace, holds=load.holds, starts=load.starts, targets=targets, horizon=Horizon(recurs=not once)
    )
    with _bar(_STEPS, "replaying") as advance:
        made = make_plan(load, cards, lambda done, most: advance(_STEPS * done // most))
    if plot is not None:
        draw(plot, made)
    if as_json:
        answer = _plain_plan(made)
        if applies and name is not None:
            answer["applied"] = apply(name, made, load, is_sure=is_sure, as_json=True)
        return show_json(answer)
    _show_plan(made, load)
    for line in draw_text(made):
        click.echo(line)
    if applies and name is not None:
        apply(name, made, load, is_sure=is_sure, as_json=False)


# -- what to plan for


def _workload(name: Name | None, path: Path | None, only: str, gpu: str, starts: Sequence[float]) -> Workload:
    if path is not None:
        holds = Holds(gpus=(gpu.upper(),) if gpu else ())
        return Workload(trace=read_trace(path, only=only), holds=holds, starts=starts or (WARM_START,))
    if name is None:
        raise InvalidRequest("cannot plan: nothing says for what; name APP/FUNCTION, or a --trace file")
    connection = connect()
    trace = history(connection, name)
    if not len(trace):
        raise InvalidRequest(f"cannot plan {name}: no call of it has ended here; call it, or give a --trace file")
    holds = holds_of(connection.json("GET", name.path()), gpu)
    return Workload(trace=trace, holds=holds, starts=starts or measured_starts(connection, name))


# -- what is shown


class Bar(Protocol):
    """What shows how far something has come."""

    def update(self, n_steps: int, /) -> None:
        """So much further."""


class Advance:
    """Moves a bar to a place; does nothing without one."""

    def __init__(self, bar: Bar | None) -> None:
        self._bar = bar
        self._at = 0

    def __call__(self, place: int) -> None:
        if self._bar is not None and place > self._at:
            self._bar.update(place - self._at)
        self._at = max(self._at, place)


class _Told:
    """Tells a bar how many calls of one replay among several have come."""

    def __init__(self, advance: Advance, begun: int) -> None:
        self._advance = advance
        self._begun = begun

    def __call__(self, calls: int) -> None:
        self._advance(self._begun + calls)


@contextmanager
def _bar(length: int, label: str) -> Iterator[Advance]:
    """A bar on a terminal's stderr."""
    stderr = sys.stderr
    if not stderr.isatty() or not length:
        yield Advance(None)
        return
    with click.progressbar(length=length, label=label, file=stderr) as bar:
        yield Advance(bar)


def _show_plan(made: Plan, load: Workload) -> None:
    best = made.best
    click.echo(f"choose {best.policy}, on card {best.card}: {_money(best, load)}")
    if not made.is_met:
        click.echo("no option keeps every target; this one comes nearest")
    click.echo(f"why: {made.reason}")
    saved, percent = made.saving()
    if saved > 0:
        click.echo(f"it saves {show_money(saved)} of this trace against flex, {percent} %")
    click.echo(_beside_windows(made))
    rows = [
        (
            str(one.policy),
            one.card,
            _money(one, load),
            f"{one.outcome.cold_share:.1%}",
            show_duration(one.outcome.wait(0.95)),
        )
        for one in made.others
    ]
    show_table(("THE BEST OF EACH KIND", "CARD", "COST", "COLD", "P95"), rows, "")
    formulas = made.formulas
    even = f"{formulas.break_even:.0%}" if formulas.break_even is not None else "unknown"
    click.echo(
        f"\nby formula: {formulas.load:.3g} workers run on average; held capacity pays from {even} of the time on; "
        f"{formulas.held_workers} held workers pay (newsvendor); keep an idle one {formulas.window_seconds:.3g} s (ski rental)"
    )
    click.echo(_settings(best.policy))


def _beside_windows(made: Plan) -> str:
    """How it compares with the best fixed window."""
    found, cold = made.saving_on_windows(), f"{made.best.outcome.cold_share:.2%}"
    if found is None or made.fixed is None:
        return f"no fixed window up to {WINDOWS[-1]:g} s is as seldom cold ({cold})"
    if not found[0]:
        return f"no policy is cheaper than this fixed window at the same cold share ({cold})"
    saved, percent = found
    return f"the best fixed window at the same cold share, {made.fixed.policy.window_seconds:g} s, costs {show_money(saved)} more of this trace: it saves {percent} %"


def _settings(policy: Policy) -> str:
    """What to write into the decorator."""
    parts = [f"min_workers={policy.workers}"] if policy.workers else []
    parts += [f"max_workers={policy.workers}"] if policy.capacity is Capacity.DEDICATED else []
    parts += [f"scaledown_window={policy.window_seconds:g}"] if policy.capacity is not Capacity.DEDICATED else []
    parts += [f"buffer_workers={policy.buffer_workers}"] if policy.buffer_workers else []
    hours = "; ".join(f"{one.workers} workers from {one.begin:g}:00 to {one.end:g}:00" for one in policy.hours)
    return f"settings: @app.function({', '.join(parts)})" + (f", and a floor of {hours}" if hours else "")


def _show_profile(profile: str, matters: str, cards: dict[str, Card], *, as_json: bool) -> None:
    kind = KINDS[profile]
    made = plan_for(kind, cards)
    provider, why = provider_for(matters, cards, kind.holds.gpus[0])
    if as_json:
        answer = _plain_plan(made)
        return show_json(
            {
                "profile": profile,
                "says": kind.says,
                "advice": kind.advice,
                "provider": provider,
                "provider_reason": why,
                **answer,
            }
        )
    click.echo(f"{profile}: {kind.says}\nadvice: {kind.advice}")
    click.echo(f"provider, where {matters} matters most: {provider}; {why}")
    _show_plan(made, Workload(trace=Trace([], []), horizon=kind.horizon))


def _interview() -> tuple[str, str]:
    for name, kind in KINDS.items():
        click.echo(f"  {name:18}{kind.says}")
    profile = click.prompt("which is yours most like", type=click.Choice(list(KINDS)))
    return str(profile), str(click.prompt("what matters most", type=click.Choice(MATTERS), default="cost"))


def _show_gpus(billions: float, precision: str, cards: dict[str, Card], *, as_json: bool) -> None:
    choices = choose_gpus(billions, cards, precision)
    if as_json:
        return show_json(
            {
                "advice": advise(billions, precision),
                "choices": [
                    {"gpu": one.gpu, "count": one.count, "card": one.card, "hour": one.hour} for one in choices
                ],
            }
        )
    click.echo(advise(billions, precision))
    show_table(
        ("GPU", "COUNT", "CARD", "AN HOUR"),
        [(one.gpu, str(one.count), one.card, show_money(one.hour)) for one in choices],
        "no card has a GPU for it",
    )


def _money(one: Option, load: Workload) -> str:
    return f"{show_money(one.monthly())} a month" if load.horizon.recurs else f"{show_money(one.nanos)} in all"


def _outcome_row(
    policy: Policy, outcome: Outcome, costs: dict[str, int | None], known: Sequence[str]
) -> tuple[str, ...]:
    return (
        str(policy),
        f"{outcome.cold_share:.2%}",
        *(show_duration(outcome.wait(share)) for share in (0.5, 0.95, 0.99)),
        str(outcome.starts),
        f"{outcome.busy_seconds:,.0f}s",
        f"{outcome.idle_seconds:,.0f}s",
        f"{outcome.utilisation:.0%}",
        *(show_money(costs[name]) for name in known),
    )


def _plain_outcome(policy: Policy, outcome: Outcome, costs: dict[str, int | None]) -> dict[str, Json]:
    return {
        "policy": str(policy),
        "calls": outcome.calls,
        "cold_share": outcome.cold_share,
        "wait_p50": outcome.wait(0.5),
        "wait_p95": outcome.wait(0.95),
        "wait_p99": outcome.wait(0.99),
        "starts": outcome.starts,
        "busy_seconds": outcome.busy_seconds,
        "idle_seconds": outcome.idle_seconds,
        "starting_seconds": outcome.starting_seconds,
        "utilisation": outcome.utilisation,
        "costs": [{"card": name, "nanos": nanos} for name, nanos in costs.items()],
    }


def _plain_option(one: Option) -> dict[str, Json]:
    return {
        "capacity": one.policy.capacity.value,
        "policy": str(one.policy),
        "workers": one.policy.workers,
        "window_seconds": one.policy.window_seconds,
        "buffer_workers": one.policy.buffer_workers,
        "hours": [{"begin": hours.begin, "end": hours.end, "workers": hours.workers} for hours in one.policy.hours],
        "card": one.card,
        "nanos": one.nanos,
        "month_nanos": one.monthly(),
        "cold_share": one.outcome.cold_share,
        "wait_p95": one.outcome.wait(0.95),
    }


def _plain_plan(made: Plan) -> dict[str, Json]:
    saved, percent = made.saving()
    formulas = made.formulas
    return {
        "best": _plain_option(made.best),
        "others": [_plain_option(one) for one in made.others],
        "reason": made.reason,
        "is_met": made.is_met,
        "saved_nanos": saved,
        "saved_percent": percent,
        "fixed_window": _plain_option(made.fixed) if made.fixed is not None else None,
        "formulas": {
            "load": formulas.load,
            "break_even": formulas.break_even,
            "held_workers": formulas.held_workers,
            "window_seconds": formulas.window_seconds,
        },
    }
