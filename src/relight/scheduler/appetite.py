"""What a worker counts as that asks for no CPU: what the calls of its function were seen to take of a core.

Where nothing is known it counts as DEFAULT_CPU.  Calls that wait for the network, or sleep, take a hundredth of that, and as
many more of them run beside each other; one that calculates is never counted as more than nobody knew it to be.

It is the workers who tell, and they may lie: they get a share of the CPU by it, which the kernel keeps fair, and no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from relight.scheduler.placement import DEFAULT_CPU

LEAST_CPU = 0.02
"""A worker counts as so much of a core at least: fifty of those that sleep are a core's."""

PRIOR_SECONDS = 0.25
"""How long calls must have run before what was seen of them counts as much as what is taken for granted."""

KEPT = 0.98
"""What was seen before counts so much less with each call."""

STEP = 0.005
"""It is rounded up to whole steps, so that it changes seldom."""


@dataclass(slots=True)
class Appetite:
    """One function's: `cores` is what a worker of it counts as.  Everything in seconds."""

    cores: float = DEFAULT_CPU
    _cpu: float = DEFAULT_CPU * PRIOR_SECONDS
    _time: float = PRIOR_SECONDS

    def note(self, seconds: float, cpu_seconds: float) -> None:
        """A call ran for so long, alone on its worker, and took so much CPU time."""
        self._cpu = KEPT * self._cpu + cpu_seconds
        self._time = KEPT * self._time + max(seconds, cpu_seconds)
        seen = STEP * math.ceil(self._cpu / max(self._time, 1e-9) / STEP - 1e-9)
        self.cores = min(DEFAULT_CPU, max(LEAST_CPU, seen))
