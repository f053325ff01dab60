"""Policies: how many workers there are and what kind of capacity they are, as a user could set it.

What a policy decides is decided by the scheduler's own autoscaler: `decider` is the one place that knows how it is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

from relight.protocol.manifest import Scaling
from relight.scheduler.autoscale import Autoscaler, Load, Observation

DAY_SECONDS = 86_400.0


class Capacity(str, Enum):
    """Flex comes and goes; active is on while its floor says so; dedicated is machines held by the hour."""

    FLEX = "flex"
    ACTIVE = "active"
    DEDICATED = "dedicated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Every day from one hour to another, in hours of a day that begins with the trace: a floor of `workers`."""

    begin: float
    end: float
    workers: int

    @property
    def seconds(self) -> float:
        """How long that is."""
        return (self.end - self.begin) * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a function scales.  `workers` are always there (active or dedicated), `hours` say when more are.

    Dedicated capacity does not grow: there are `workers`, and calls wait.
    """

    capacity: Capacity = Capacity.FLEX
    workers: int = 0
    window_seconds: float = 60.0
    buffer_workers: int = 0
    max_workers: int | None = None
    hours: tuple[Hours, ...] = ()

    @property
    def scaling(self) -> Scaling:
        """The settings of it, but for the hours."""
        return Scaling(
            min_workers=self.workers,
            max_workers=self.workers if self.capacity is Capacity.DEDICATED else self.max_workers,
            scaledown_window_seconds=self.window_seconds,
            buffer_workers=self.buffer_workers,
        )

    def floor(self, at: float) -> int:
        """How many workers are held at a time of the trace."""
        hour = at % DAY_SECONDS / 3600
        return max([self.workers, *(one.workers for one in self.hours if one.begin <= hour < one.end)])

    def floor_ends(self, after: float) -> list[float]:
        """The next moments at which the floor may change."""
        day = after - after % DAY_SECONDS
        edges = [edge * 3600 for one in self.hours for edge in (one.begin, one.end)]
        moments = [day + more + edge for more in (0.0, DAY_SECONDS) for edge in edges]
        return sorted(moment for moment in moments if moment > after)[:1]

    def __str__(self) -> str:
        if self.capacity is Capacity.DEDICATED:
            return f"dedicated × {self.workers}"
        parts = [f"active × {self.workers}" if self.workers else "" if self.hours else "flex"]
        parts += [f"active × {one.workers} from {one.begin:g} to {one.end:g} h" for one in self.hours]
        parts += [f"window {self.window_seconds:g} s"]
        parts += [f"buffer {self.buffer_workers}"] if self.buffer_workers else []
        return ", ".join(filter(None, parts))


Decide = Callable[[float, Load, int], int]
"""How many workers there should be: at a time, under a load, with so many there."""


@dataclass(slots=True)
class _Floors:
    """Autoscalers by the floor they keep: they are few, and asked with every call."""

    scaling: Scaling
    known: dict[int, Autoscaler] = field(default_factory=dict)

    def decide(self, floor: int, at: float, load: Load, there: int) -> int:
        """How many workers there should be above this floor."""
        if floor not in self.known:
            self.known[floor] = Autoscaler(replace(self.scaling, min_workers=floor))
        return self.known[floor].decide(Observation(now=at, unix=at, load=load, workers=there)).workers


def decider(policy: Policy) -> Decide:
    """The scheduler's autoscaler, set as the policy says."""
    floors = _Floors(policy.scaling)
    return lambda at, load, there: floors.decide(policy.floor(at), at, load, there)
