"""What a plan chooses among: a policy, replayed on a workload, at what it costs on the card where that is least."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from relight.metering.cards import Card
from relight.planner.costs import Holds, Horizon, cost
from relight.planner.policies import Capacity, Policy
from relight.planner.simulator import Outcome, simulate
from relight.planner.traces import Trace

KEEPS_UP = 1.05
"""A replay that takes so many times as long as its trace was overtaken by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What must hold: the wait that 95 % of calls do not exceed, in seconds, the share of cold calls, nano-dollars a trace."""

    wait_p95: float | None = None
    cold_share: float | None = None
    budget_nanos: int | None = None

    @property
    def are_asked(self) -> bool:
        """Whether anything but money was asked for."""
        return self.wait_p95 is not None or self.cold_share is not None

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


Replayed = Callable[[int], None]
"""Told how many policies were replayed."""


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


def with_gpu(load: Workload, kind: str, speed: float = 1.0) -> Workload:
    """The same work on another GPU, on which it runs `speed` times as fast."""
    trace = replace(load.trace, seconds=[took / speed for took in load.trace.seconds])
    return replace(load, trace=trace, holds=replace(load.holds, gpus=(kind,)))
