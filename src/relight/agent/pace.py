"""How fast one worker's output is read: as fast as it comes, up to a rate that leaves the machine to others.

What a worker writes costs the agent and the server more than it costs the worker.  One that writes without end would have them at
that and nothing else, and its neighbours' calls wait.  A worker that is read more slowly waits in `write`; nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable

RATE_BYTES = 2 * 1024 * 1024
"""So much is read of one worker in a second, in the long run."""

BURST_BYTES = 1024 * 1024
"""So much is read at once of one that was quiet before."""

LINE_BYTES = 80
"""What a line costs beside its text."""


SIP_BYTES = 4 * 1024
"""So much is read at a time of one that is over its rate: what it is made into keeps nobody waiting for long."""


class Pace:
    """A bucket that fills with `RATE_BYTES` a second; `now` is a clock in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._left = float(BURST_BYTES)
        self._at = now()

    @property
    def is_over(self) -> bool:
        """Whether more was read than the rate allows."""
        return self._left <= 0

    def take(self, size: int, lines: int) -> float:
        """So many bytes in so many lines were read: how many seconds to rest before more are."""
        now = self._now()
        self._left = min(BURST_BYTES, self._left + (now - self._at) * RATE_BYTES) - size - lines * LINE_BYTES
        self._at = now
        return max(0.0, -self._left / RATE_BYTES)
