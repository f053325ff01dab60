"""What a replay costs on a card: by the lives of its workers, or by the hours that capacity is held.  Whole nano-dollars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from relight.metering.cards import Card
from relight.metering.money import HOUR_US
from relight.metering.pricing import Use, price_billed
from relight.planner.policies import Capacity, Policy
from relight.planner.simulator import Life, Outcome
from relight.protocol.usage import StateTimes
from relight.protocol.workers import WorkerKind, WorkerState


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """What one worker holds."""

    cpu_millis: int = 1000
    memory_mib: int = 4096
    gpus: tuple[str, ...] = ()

    def use(self, kind: WorkerKind) -> Use:
        """As it is priced."""
        return Use(kind=kind, cpu_millis=self.cpu_millis, memory_mib=self.memory_mib, gpus=self.gpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """How long the traffic goes on: as in the trace, again and again (`recurs`), or once."""

    recurs: bool = True


def cost(card: Card, outcome: Outcome, policy: Policy, holds: Holds, horizon: Horizon | None = None) -> int | None:
    """What so much of a trace costs; None where the card has no price for it, or does not sell that kind of capacity.

    Dedicated capacity is paid by the hour, used or not: the share of the trace's length where the traffic recurs, else its
    whole hours, and the card's least term.  Of a policy with a floor, what the floor holds is billed as active.
    """
    if (policy.capacity is Capacity.DEDICATED) != card.is_reserved:
        return None
    if card.is_reserved:
        return _amount(card, holds, WorkerKind.ACTIVE, policy.workers * _held_us(card, outcome, horizon or Horizon()))
    active_us, flex_us = _billed(card, outcome.lives, policy, outcome.length)
    amounts = [
        _amount(card, holds, WorkerKind.ACTIVE, active_us),
        _amount(card, holds, WorkerKind.FLEX, flex_us),
        price_billed(card, Use(calls=outcome.calls), 0).nanos,
    ]
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def hourly(card: Card, holds: Holds, kind: WorkerKind = WorkerKind.FLEX) -> int | None:
    """What an hour of one worker costs that is charged all the time."""
    return _amount(card, holds, kind, HOUR_US)


def _held_us(card: Card, outcome: Outcome, horizon: Horizon) -> int:
    length_us = round(outcome.length * 1e6)
    if horizon.recurs:
        return length_us
    return max(-(-length_us // HOUR_US), card.terms.minimum_term_hours) * HOUR_US


def _billed(card: Card, lives: Iterable[Life], policy: Policy, length: float) -> tuple[int, int]:
    """What is charged as active, and as flex."""
    if not policy.hours:
        active = sum(card.billed_us(WorkerKind.ACTIVE, life.times) for life in lives if life.is_held)
        return active, sum(card.billed_us(WorkerKind.FLEX, life.times) for life in lives if not life.is_held)
    held_us = _floor_us(policy, length)
    whole = _totals(lives)
    there_us = sum(microseconds for _, microseconds in whole)
    flex_us = sum(card.billed_us(WorkerKind.FLEX, life.times) for life in lives)
    share = Fraction(min(held_us, there_us), max(1, there_us))
    active_us = card.billed_us(WorkerKind.ACTIVE, ((WorkerState.BUSY, min(held_us, there_us)),))
    return active_us, flex_us - int(flex_us * share)


def _floor_us(policy: Policy, length: float) -> int:
    """Worker-time that the floor of a policy holds within the trace."""
    edges = sorted({0.0, length, *_edges(policy, length)})
    held = sum(policy.floor(begin) * (end - begin) for begin, end in pairwise(edges))
    return round(held * 1e6)


def _edges(policy: Policy, length: float) -> list[float]:
    edges, at = [], 0.0
    while moments := [moment for moment in policy.floor_ends(at) if moment < length]:
        at = moments[0]
        edges.append(at)
    return edges


def _totals(lives: Iterable[Life]) -> StateTimes:
    states = (WorkerState.STARTING, WorkerState.BUSY, WorkerState.IDLE)
    sums = [
        sum(life.starting_us for life in lives),
        sum(life.busy_us for life in lives),
        sum(life.idle_us for life in lives),
    ]
    return tuple(zip(states, sums, strict=True))


def _amount(card: Card, holds: Holds, kind: WorkerKind, billed_us: int) -> int | None:
    return price_billed(card, holds.use(kind), billed_us).nanos if billed_us else 0
