"""Time, handed in: the one door to the machine's clocks, so that a test can hold both of them still."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a part of relight may know of time."""

    def now(self) -> float:
        """Seconds since 1970, by the wall clock: for records that people read, never for durations."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back: for durations, leases and deadlines."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # 30 ms that a caller without a loop need not pay

        await asyncio.sleep(seconds)


def now_ms() -> int:
    """Milliseconds since 1970: the time part of an id."""
    return time.time_ns() // 1_000_000
