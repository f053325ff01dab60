"""Flex, active or dedicated, how many, for how long, and where: what is cheapest of what keeps its targets.

Every candidate is replayed, and priced on every card that sells it; the formulas beside them say in one line each what to
expect, and are shown as a check, not believed instead.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from relight.metering.cards import Card
from relight.metering.money import show_money
from relight.planner.costs import Holds, Horizon
from relight.planner.formulas import MOST_WORKERS, Formulas, expect
from relight.planner.options import Option, Workload, replay_all
from relight.planner.policies import DAY_SECONDS, Capacity, Hours, Policy
from relight.planner.traces import Trace
from relight.planner.windows import HALVINGS, WINDOWS, best_window, closer, flex_windows
from relight.protocol.errors import InvalidRequest

BUFFERS = (0, 1)
"""Buffers that flex is tried with."""

FIRST_GUESSES = 4
"""So many numbers of held workers are tried on each side of what the formulas say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The best option, why, what else there was (cheapest first of each kind of capacity), and what the formulas say.

    `fixed` is the cheapest flex with nothing but a window that is cold no oftener than the best; None where no window is.
    `options` are all that were replayed.
    """

    best: Option
    others: tuple[Option, ...]
    formulas: Formulas
    reason: str
    is_met: bool = True
    fixed: Option | None = None
    options: tuple[Option, ...] = ()

    def saving(self) -> tuple[int, int]:
        """What it saves against the cheapest flex, in nano-dollars a trace and whole percent; (0, 0) for flex itself."""
        flex = [one for one in self.others if one.policy.capacity is Capacity.FLEX]
        if not flex or self.best.policy.capacity is Capacity.FLEX:
            return 0, 0
        return _less(self.best, flex[0])

    def saving_on_windows(self) -> tuple[int, int] | None:
        """The same against the best fixed window at the same cold share; None where no window is as seldom cold."""
        return _less(self.best, self.fixed) if self.fixed is not None else None


Progress = Callable[[int, int], None]
"""Told how many policies were replayed, of how many at most."""


def make_plan(load: Workload, cards: Mapping[str, Card], progress: Progress = lambda count, most: None) -> Plan:
    """What to choose.  Raises InvalidRequest where no card has a price for it."""
    formulas = expect(load, cards)
    policies = candidates(load, formulas)
    most = len(policies) + (len(BUFFERS) + 1) * HALVINGS
    options = replay_all(load, cards, policies, lambda count: progress(count, most))
    if load.targets.are_asked:
        for buffer in BUFFERS:
            options += closer(load, cards, flex_windows(options, buffer), load.targets.are_met)
    made = choose(load, cards, options, formulas)
    bound = made.best.outcome.cold_share
    options += closer(load, cards, flex_windows(options, 0), lambda outcome: outcome.cold_share <= bound)
    made = choose(load, cards, options, formulas)  # a window in between may be cheaper than all before
    progress(most, most)
    return replace(made, fixed=best_window(options, made.best.outcome.cold_share), options=tuple(options))


def choose(load: Workload, cards: Mapping[str, Card], options: Sequence[Option], formulas: Formulas) -> Plan:
    """The cheapest option that keeps the targets; where none does, the one that comes nearest, and that is said."""
    if not options:
        known = ", ".join(cards)
        raise InvalidRequest(f"cannot plan: none of the cards {known} has a price for {_what(load.holds)}; name others")
    good = [one for one in options if one.keeps_up and load.targets.are_met(one.outcome)]
    ranked = sorted(good, key=lambda one: (one.nanos, one.outcome.wait(0.95)))
    if not ranked:
        ranked = sorted(options, key=lambda one: (one.outcome.cold_share, one.outcome.wait(0.95), one.nanos))
    kinds: dict[Capacity, Option] = {}
    for one in ranked if good else sorted(options, key=lambda one: one.nanos):
        kinds.setdefault(one.policy.capacity, one)
    is_met = bool(good) and (load.targets.budget_nanos is None or ranked[0].nanos <= load.targets.budget_nanos)
    others = tuple(sorted(kinds.values(), key=lambda one: one.nanos))
    reason = _reason(ranked[0], others, formulas, load)
    return Plan(best=ranked[0], others=others, formulas=formulas, reason=reason, is_met=is_met)


def candidates(load: Workload, formulas: Formulas) -> list[Policy]:
    """What is worth a replay: flex in every window, with a buffer and without; held workers about what the formulas say."""
    windows = sorted({*WINDOWS, max(1.0, round(formulas.window_seconds, 1))})
    flex = [Policy(window_seconds=window, buffer_workers=buffer) for window in windows for buffer in BUFFERS]
    guesses = sorted({*_around(formulas.held_workers), *_around(math.ceil(formulas.load))})
    short = [windows[0], formulas.window_seconds if formulas.window_seconds >= 1 else 5.0]
    active = [
        Policy(capacity=Capacity.ACTIVE, workers=count, window_seconds=window)
        for count in guesses
        for window in sorted({round(one, 1) for one in short})
    ]
    dedicated = [Policy(capacity=Capacity.DEDICATED, workers=count) for count in guesses]
    hours = [
        Policy(capacity=Capacity.ACTIVE, window_seconds=window, hours=hours)
        for hours in day_floors(load.trace)
        for window in (5.0, 60.0)
    ]
    return [*flex, *active, *dedicated, *hours]


def day_floors(trace: Trace) -> list[tuple[Hours, ...]]:
    """The part of the day in which nearly all calls come, where there is such a part: held for their mean, and their peak."""
    if trace.length < DAY_SECONDS / 2:
        return []
    by_hour = Counter(int(at % DAY_SECONDS // 3600) for at in trace.arrivals)
    busy = [hour for hour in range(24) if by_hour[hour] * 24 > 0.5 * len(trace)]
    if not busy or len(busy) > 16:
        return []
    begin, end = min(busy), max(busy) + 1
    days = max(1.0, trace.length / DAY_SECONDS)
    inside = sum(
        took for at, took in zip(trace.arrivals, trace.seconds, strict=True) if begin <= at % DAY_SECONDS / 3600 < end
    )
    mean = inside / ((end - begin) * 3600 * days)
    counts = {max(1, math.floor(mean)), max(1, math.ceil(mean)), max(1, math.ceil(mean + 2 * math.sqrt(mean)))}
    return [(Hours(begin=begin, end=end, workers=count),) for count in sorted(counts)]


def _around(count: int) -> set[int]:
    near = range(count - FIRST_GUESSES, count + FIRST_GUESSES + 1)
    return {one for one in (*near, 2 * count) if 1 <= one <= MOST_WORKERS}


def _less(one: Option, other: Option) -> tuple[int, int]:
    """What the first costs less, in nano-dollars and whole percent of the other."""
    saved = other.nanos - one.nanos
    return saved, round(100 * saved / max(1, other.nanos))


def _what(holds: Holds) -> str:
    return " + ".join(holds.gpus) if holds.gpus else f"{holds.cpu_millis / 1000:g} cores without a GPU"


def _asked(one: Option, horizon: Horizon) -> str:
    return f"{show_money(one.monthly())} a month" if horizon.recurs else show_money(one.nanos)


def _reason(best: Option, others: Sequence[Option], formulas: Formulas, load: Workload) -> str:
    """Why, in a sentence."""
    used = f"{formulas.load:.2g} workers run on average"
    costs = {one.policy.capacity.value: one for one in others}
    beside = [
        f"{kind} ({one.policy}) would cost {_asked(one, load.horizon)}"
        for kind, one in costs.items()
        if one.policy != best.policy
    ]
    even = f", and held capacity pays from {formulas.break_even:.0%} on" if formulas.break_even is not None else ""
    target = (
        f"; 95 % of calls wait at most {best.outcome.wait(0.95):.3g} s" if load.targets.wait_p95 is not None else ""
    )
    return f"{used}{even}{target}" + (f"; {'; '.join(beside)}" if beside else "")
