"""How many workers a function should have: pure, from what waits, what runs and how long calls take."""

from __future__ import annotations

import math
from dataclasses import dataclass

from relight.protocol.manifest import Scaling

DRAIN_SECONDS = 0.25
"""Workers are added until what waits would be done in about this time, by the calls measured so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A function at one moment.  `mean_seconds` of a call is None until one has ended.

    `stuck` are workers that have been at one call for longer than DRAIN_SECONDS; `moving` the calls with all others.
    Where a worker runs several at once, it is to have `target` of them; `held` are those that run.
    """

    waiting: int
    moving: int = 0
    stuck: int = 0
    mean_seconds: float | None = None
    held: int = 0
    target: int = 1

    @property
    def is_nothing(self) -> bool:
        """Whether no call waits or runs."""
        return not (self.waiting or self.moving or self.stuck or self.held)


def wanted_workers(load: Load, scaling: Scaling) -> int:
    """The number of workers that fits the load and leaves the buffer free, between the floor and the ceiling."""
    ceiling = math.inf if scaling.max_workers is None else scaling.max_workers
    ready = load.stuck + math.ceil((load.held + _for_moving(load)) / load.target) + scaling.buffer_workers
    return int(min(max(ready, scaling.min_workers), ceiling))


def _for_moving(load: Load) -> int:
    """Workers for all that a worker will come to soon: one each where calls are long, fewer where they are short."""
    calls = load.waiting + load.moving
    if not calls or load.mean_seconds is None:
        return calls
    return max(1, min(calls, math.ceil(calls * load.mean_seconds / DRAIN_SECONDS)))
