"""When to look at a function again though nothing happens: the sweep is too seldom for a rate, or for a short delay."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from relight.scheduler.queue import FunctionKey


@dataclass(slots=True)
class Alarms:
    """One time for each function that wants one, in monotonic seconds."""

    _times: dict[FunctionKey, float] = field(default_factory=dict)

    def set(self, key: FunctionKey, at: float) -> None:
        """Look at a function then, or before if it is to be looked at sooner."""
        self._times[key] = min(at, self._times.get(key, math.inf))

    def next_at(self) -> float:
        """When the next one is; infinity for never."""
        return min(self._times.values(), default=math.inf)

    def take(self, now: float) -> list[FunctionKey]:
        """The functions that are to be looked at by now."""
        due = [key for key, at in self._times.items() if at <= now]
        for key in due:
            del self._times[key]
        return due
