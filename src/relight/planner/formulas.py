"""What theory expects of a workload: break-even, the newsvendor's quantile, ski rental.  Each is a check of a replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from relight.metering.cards import Card
from relight.planner.costs import Holds, hourly
from relight.planner.options import Workload
from relight.planner.traces import Trace
from relight.protocol.workers import WorkerKind

MOST_WORKERS = 200
"""A plan holds no more workers than these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Formulas:
    """What theory expects, each beside the replay it is a check of.

    `break_even` is the utilisation from which held capacity is cheaper, `held_workers` the newsvendor's number of workers
    that pay when they are held, `window_seconds` how long an idle worker is worth keeping (ski rental).  `hour_nanos` are
    the least prices of a flex worker and of a held one, active or dedicated, for an hour; None where no card has both.
    """

    load: float
    break_even: float | None
    held_workers: int
    window_seconds: float
    hour_nanos: tuple[int, int] | None = None


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
        hour_nanos=(flex, held) if held is not None and flex else None,
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


def _least(cards: Mapping[str, Card], holds: Holds, kind: WorkerKind, *, is_reserved: bool) -> int | None:
    prices = [hourly(card, holds, kind) for card in cards.values() if card.is_reserved == is_reserved]
    return min((price for price in prices if price is not None), default=None)
