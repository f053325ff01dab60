"""How often calls may begin: a token bucket that holds a period's calls and fills evenly."""

from __future__ import annotations

from relight.protocol.manifest import RateLimit


class Rate:
    """The bucket of one function.  Times are monotonic seconds; a new one is full."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._tokens = float(limit.calls)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Take one call's token; False when there is none."""
        if not self.left(now):
            return False
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """A call that took a token does not begin yet."""
        self._tokens = min(self._limit.calls, self._tokens + 1)

    def left(self, now: float) -> int:
        """How many calls may begin now."""
        if self._at is not None and now > self._at:
            self._tokens = min(self._limit.calls, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        return int(self._tokens + 1e-9)

    def next_at(self, now: float) -> float:
        """When the next call may begin."""
        return now if self.left(now) else now + (1 - self._tokens) / self._per_second

    @property
    def _per_second(self) -> float:
        return self._limit.calls / self._limit.seconds

    def __str__(self) -> str:
        return f"its function begins at most {self._limit.calls} calls in {self._limit.seconds:g} s"
