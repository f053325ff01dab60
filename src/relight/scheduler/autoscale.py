"""How many workers a function should have: pure, from what waits, what runs and how long calls take."""

from __future__ import annotations

import math
from dataclasses import dataclass

from relight.protocol.manifest import Scaling

DRAIN_SECONDS = 0.25
"""Workers are added until what waits would be done in about this time, by the calls measured so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A function at one moment.  `mean_seconds` of a call is None until one has ended; `credit` is calls per worker."""

    waiting: int
    running: int
    credit: int = 1
    mean_seconds: float | None = None


def wanted_workers(load: Load, scaling: Scaling) -> int:
    """The number of workers that fits the load, between the floor and the ceiling."""
    busy = math.ceil(load.running / load.credit)
    wanted = busy + _for_waiting(load)
    ceiling = math.inf if scaling.max_workers is None else scaling.max_workers
    return int(min(max(wanted, scaling.min_workers), ceiling))


def _for_waiting(load: Load) -> int:
    if not load.waiting:
        return 0
    one_each = math.ceil(load.waiting / load.credit)
    if load.mean_seconds is None:
        return one_each
    return max(1, min(one_each, math.ceil(load.waiting * load.mean_seconds / DRAIN_SECONDS / load.credit)))
