"""What an hour of a worker and a call will cost: from the card, from what a worker is to hold, and from calls of before."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from relight.metering.cards import Card
from relight.metering.money import HOUR_US
from relight.planner.costs import Holds, hourly
from relight.protocol.workers import WorkerKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Calls of before, and for how long their workers were charged in all: starts and idle time where those are billed."""

    calls: int = 0
    billed_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Nano-dollars by a card; None where it has no price.  `call_nanos` is None, too, where no call was made before.

    `calls` is on how many it rests, `call_seconds` how long a worker was charged for each of them.
    """

    card: str
    flex_hour_nanos: int | None
    active_hour_nanos: int | None
    call_nanos: int | None = None
    call_seconds: float | None = None
    calls: int = 0


def estimate(card: Card, holds: Holds, past: Past) -> Estimate:
    """By the hour, and by call: as long as a call was charged for before, at the price of what a worker will hold now."""
    flex, active = (hourly(card, holds, kind) for kind in (WorkerKind.FLEX, WorkerKind.ACTIVE))
    if not past.calls:
        return Estimate(card=card.key, flex_hour_nanos=flex, active_hour_nanos=active)
    each_us = Fraction(past.billed_us, past.calls)
    by_time = None if flex is None else round(flex * each_us / HOUR_US)
    fee = 0 if card.call is None else round(card.call)
    return Estimate(
        card=card.key,
        flex_hour_nanos=flex,
        active_hour_nanos=active,
        call_nanos=None if by_time is None else by_time + fee,
        call_seconds=float(each_us) / 1e6,
        calls=past.calls,
    )
