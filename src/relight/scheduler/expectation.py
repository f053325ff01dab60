"""When the next call is expected: from how long the pauses of this function have been, and how often that came true.

A pause begins when nothing waits or runs any more, and ends with the next call.  Where the middle nine tenths of the last
pauses lie close together (a job that comes each ten minutes) the next call is expected between the shortest and the longest
of these, and a worker is wanted from a little before until then.  Where they do not, nothing is expected: a guess that is
seldom right costs more than it saves.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass, field

KEPT_PAUSES = 50
"""So many of the last pauses are remembered."""

FEWEST_PAUSES = 5
"""Nothing is expected of a function that has paused less often."""

NARROW = 0.25
"""The middle nine tenths of the pauses must lie within so much of their median."""

LEAD_SECONDS = 1.0
"""So long before the earliest expected call a worker is started, and so long after the latest it stays."""


@dataclass(slots=True)
class Expectation:
    """The pauses of one function.  `expected` counts the times a worker was wanted ahead, `met` the calls that came then."""

    expected: int = 0
    met: int = 0
    _pauses: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_PAUSES))
    _sorted: list[float] = field(default_factory=list)
    _idle_since: float | None = None
    _is_open: bool = False

    @property
    def hit_rate(self) -> float | None:
        """The share of expected calls that came when they were; None before any was."""
        return self.met / self.expected if self.expected else None

    def look(self, now: float, *, is_idle: bool) -> bool:
        """Time is `now`, and there are calls or not; whether one is expected about now.  Times never go back."""
        if not is_idle:
            if self._idle_since is not None:
                self._end(now - self._idle_since)
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = now
        window = self.window()
        if window is None:
            return False
        since = now - self._idle_since
        is_near = window[0] <= since <= window[1]
        if is_near and not self._is_open:
            self._is_open, self.expected = True, self.expected + 1
        return is_near

    def window(self) -> tuple[float, float] | None:
        """From when to when after a pause began the call is expected, in seconds; None where pauses say nothing."""
        count = len(self._sorted)
        if count < FEWEST_PAUSES:
            return None
        low, middle, high = (self._sorted[min(count - 1, int(count * part))] for part in (0.05, 0.5, 0.95))
        if high - low > NARROW * middle:
            return None
        return max(0.0, low - LEAD_SECONDS), high + LEAD_SECONDS

    def _end(self, pause: float) -> None:
        window = self.window()
        if self._is_open and window is not None and pause <= window[1]:
            self.met += 1
        self._is_open = False
        if len(self._pauses) == KEPT_PAUSES:
            self._sorted.remove(self._pauses[0])
        self._pauses.append(pause)
        insort(self._sorted, pause)
