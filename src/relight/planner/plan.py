"""Flex, active or dedicated, how many, for how long, and where: what is cheapest of what keeps its targets.

Every candidate is replayed, and priced on every card that sells it; the formulas beside them say in one line each what to
expect, and are shown as a check, not believed instead.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from relight.metering.cards import Card
from relight.metering.money import show_money
from relight.planner.costs import Holds, Horizon, cost, hourly
from relight.planner.policies import DAY_SECONDS, Capacity, Hours, Policy
from relight.planner.simulator import Outcome, simulate
from relight.planner.traces import Trace
from relight.protocol.errors import InvalidRequest
from relight.protocol.workers import WorkerKind

WINDOWS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0)
"""Scale-down windows that are tried, in seconds."""

MOST_WORKERS = 200
"""A plan holds no more workers than these."""

KEEPS_UP = 1.05
"""A replay that takes so many times as long as its trace was overtaken by it."""

FIRST_GUESSES = 4
"""So many numbers of held workers are tried on each side of what the formulas say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What must hold: the wait that 95 % of calls do not exceed, in seconds, the share of cold calls, nano-dollars a trace."""

    wait_p95: float | None = None
    cold_share: float | None = None
    budget_nanos: int | None = None

    def are_met(self, outcome: Outcome) -> bool:
        """Whether a replay keeps them; money apart."""
        is_quick = self.wait_p95 is None or outcome.wait(0.95) <= self.wait_p95
        return is_quick and (self.cold_share is None or outcome.cold_share <= self.cold_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is planned for.  `starts` are what cold starts were seen to take, in seconds."""

    trace: Trace
    holds: Holds = field(default_factory=Holds)
    starts: Sequence[float] = (0.01,)
    targets: Targets = field(default_factory=Targets)
    horizon: Horizon = field(default_factory=Horizon)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A policy, replayed, and what it costs on the card where that is least."""

    policy: Policy
    outcome: Outcome
    card: str
    nanos: int
    length: float

    def monthly(self) -> int:
        """The same for a month of such traffic, which takes `length` seconds to come."""
        return round(self.nanos * Fraction(730 * 3600) / Fraction(self.length))

    @property
    def keeps_up(self) -> bool:
        """Whether calls are done about as soon as they come; else they would wait ever longer."""
        return self.outcome.length <= KEEPS_UP * self.length + 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Formulas:
    """What theory expects, each beside the replay it is a check of.

    `break_even` is the utilisation from which held capacity is cheaper, `held_workers` the newsvendor's number of workers
    that pay when they are held, `window_seconds` how long an idle worker is worth keeping (ski rental).
    """

    load: float
    break_even: float | None
    held_workers: int
    window_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The best option, why, what else there was (cheapest first of each kind of capacity), and what the formulas say."""

    best: Option
    others: tuple[Option, ...]
    formulas: Formulas
    reason: str
    is_met: bool = True

    def saving(self) -> tuple[int, int]:
        """What it saves against the cheapest flex, in nano-dollars a trace and whole percent; (0, 0) for flex itself."""
        flex = [one for one in self.others if one.policy.capacity is Capacity.FLEX]
        if not flex or self.best.policy.capacity is Capacity.FLEX:
            return 0, 0
        saved = flex[0].nanos - self.best.nanos
        return saved, round(100 * saved / max(1, flex[0].nanos))


Replayed = Callable[[int], None]
"""Told how many candidates were replayed."""


def make_plan(load: Workload, cards: Mapping[str, Card], progress: Replayed = lambda count: None) -> Plan:
    """What to choose.  Raises InvalidRequest where no card has a price for it."""
    formulas = expect(load, cards)
    options = replay_all(load, cards, candidates(load, formulas), progress)
    return choose(load, cards, options, formulas)


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


def replay_all(
    load: Workload, cards: Mapping[str, Card], policies: Iterable[Policy], progress: Replayed = lambda count: None
) -> list[Option]:
    """Every policy that some card sells, on its cheapest card."""
    options = []
    for count, policy in enumerate(policies, 1):
        sellers = [card for card in cards.values() if card.is_reserved == (policy.capacity is Capacity.DEDICATED)]
        if not sellers:
            continue
        outcome = simulate(load.trace, policy, load.starts)
        priced = [
            (nanos, card.key)
            for card in sellers
            if (nanos := cost(card, outcome, policy, load.holds, load.horizon)) is not None
        ]
        if priced:
            nanos, card = min(priced)
            options.append(Option(policy=policy, outcome=outcome, card=card, nanos=nanos, length=load.trace.length))
        progress(count)
    return options


def candidates(load: Workload, formulas: Formulas) -> list[Policy]:
    """What is worth a replay: flex in every window, with a buffer and without; held workers about what the formulas say."""
    windows = sorted({*WINDOWS, max(1.0, round(formulas.window_seconds, 1))})
    flex = [Policy(window_seconds=window, buffer_workers=buffer) for window in windows for buffer in (0, 1)]
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


def expect(load: Workload, cards: Mapping[str, Card]) -> Formulas:
    """What the formulas say, by the cheapest prices of each kind."""
    flex = _least(cards, load.holds, WorkerKind.FLEX, is_reserved=False)
    active = _least(cards, load.holds, WorkerKind.ACTIVE, is_reserved=False)
    dedicated = _least(cards, load.holds, WorkerKind.ACTIVE, is_reserved=True)
    held = min((price for price in (active, dedicated) if price is not None), default=None)
    start = sum(load.starts) / len(load.starts)
    return Formulas(
        load=load.trace.load,
        break_even=break_even(dedicated, flex) if dedicated is not None and flex else None,
        held_workers=held_workers(load.trace, held / flex) if held is not None and flex else 0,
        window_seconds=keep_warm(start),
    )


def break_even(dedicated: int, flex: int, *, workers: int = 1, efficiency: float = 1.0) -> float:
    """u* = k · p_dedicated ÷ p_flex · η: the utilisation from which a machine that holds `workers` is cheaper when it is held,
    where flex workers are charged for `efficiency` of the time that they would be busy."""
    return dedicated / flex / workers * efficiency


def held_workers(trace: Trace, ratio: float) -> int:
    """The newsvendor's quantile: a further worker pays when it is held as long as the share of time in which it has work is
    above the price of holding it, as a share of what flex costs."""
    if ratio >= 1:
        return 0
    times = concurrency(trace)
    needed, left = 0, 1.0 - times.get(0, 0.0)
    while left > ratio and needed < MOST_WORKERS:
        needed += 1
        left -= times.get(needed, 0.0)
    return needed


def keep_warm(start_seconds: float) -> float:
    """Ski rental: an idle worker is kept as long as its idling has cost no more than the start that it saves; whoever does so
    never pays twice what a seer would."""
    return start_seconds


def concurrency(trace: Trace) -> dict[int, float]:
    """Which share of the time so many calls would run at once, if none waited."""
    steps = sorted(
        [(at, 1) for at in trace.arrivals]
        + [(at + took, -1) for at, took in zip(trace.arrivals, trace.seconds, strict=True)]
    )
    shares: dict[int, float] = {}
    running, before = 0, 0.0
    for at, step in steps:
        shares[running] = shares.get(running, 0.0) + (at - before)
        running, before = running + step, at
    return {count: seconds / trace.length for count, seconds in shares.items()}


def _around(count: int) -> set[int]:
    near = range(count - FIRST_GUESSES, count + FIRST_GUESSES + 1)
    return {one for one in (*near, 2 * count) if 1 <= one <= MOST_WORKERS}


def _least(cards: Mapping[str, Card], holds: Holds, kind: WorkerKind, *, is_reserved: bool) -> int | None:
    prices = [hourly(card, holds, kind) for card in cards.values() if card.is_reserved == is_reserved]
    return min((price for price in prices if price is not None), default=None)


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


def with_gpu(load: Workload, kind: str, speed: float = 1.0) -> Workload:
    """The same work on another GPU, on which it runs `speed` times as fast."""
    trace = Trace(load.trace.arrivals, [took / speed for took in load.trace.seconds])
    return replace(load, trace=trace, holds=replace(load.holds, gpus=(kind,)))
