"""The brake on crash loops: a function whose workers end badly again and again waits before it is given another.  Pure.

    crash: the first in a row is free ▶ then 0.1 s, 0.2 s, 0.4 s … up to the longest ▶ … ▶ a call that ends lifts it

Workers that were up together count as one crash: ten that die of the same thing at once are one reason to wait.  It is
of one function of one version, so a new version starts afresh.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from relight.protocol.errors import Failure
from relight.protocol.exits import WorkerExit

FIRST_SECONDS = 0.1
"""How long the second crash in a row holds up the next start; each one after that twice as long."""

START_ATTEMPTS = 3
"""After so many starts in a row that the function's own code failed, the calls that wait for them fail too."""

CRASH_ATTEMPTS = 10
"""The same for starts whose process was killed: that may be the machine's fault, so it is given more time."""

LONGEST_SECONDS = 30.0
"""No start is held up for longer, unless a setting says otherwise."""

FORGET_SECONDS = 600.0
"""Workers that lived for so long after the last crash were no part of its loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brake:
    """How the workers of a function have ended of late.  Times are monotonic seconds.

    `crashes` in a row; until `blocked_until` no worker is started.  `failure` is the last crash, for people.
    """

    crashes: int = 0
    crashed_at: float = 0.0
    blocked_until: float = 0.0
    exit: WorkerExit | None = None
    failure: Failure | None = None

    def is_on(self, now: float) -> bool:
        """Whether it holds up starts."""
        return self.blocked_until > now

    def is_over(self, now: float) -> bool:
        """Whether nothing of it counts any more."""
        return not self.crashes or now - max(self.blocked_until, self.crashed_at) > FORGET_SECONDS

    def why(self, now: float) -> str:
        """The reason for which a call waits, `code: sentence`; "" while it holds nothing up."""
        if not self.is_on(now) or self.failure is None:
            return ""
        kind = self.exit.reason if self.exit is not None else "start_failed"
        often = f"crash {self.crashes} in a row: " if self.crashes > 1 else ""
        return (
            f"crash_loop:{kind}: {often}{self.failure.message}; the next start is in {self.blocked_until - now:.1f} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """A worker ended badly at `at`, which was asked for at `since`.  `is_free`: the first in a row holds nothing up."""

    at: float
    since: float
    exit: WorkerExit | None
    failure: Failure
    is_free: bool = False


def crashed(brake: Brake, crash: Crash, longest_seconds: float = LONGEST_SECONDS) -> Brake:
    """What becomes of it with one more crash."""
    if brake.is_over(crash.at):
        brake = Brake()
    told = replace(brake, exit=crash.exit, failure=crash.failure)
    if brake.crashes and crash.since < brake.crashed_at:
        return told  # it was up when the last one crashed
    crashes = brake.crashes + 1
    wait = _wait(crashes, is_free=crash.is_free, longest_seconds=longest_seconds)
    return replace(told, crashes=crashes, crashed_at=crash.at, blocked_until=crash.at + wait)


def _wait(crashes: int, *, is_free: bool, longest_seconds: float) -> float:
    """Seconds to wait after so many crashes in a row."""
    doublings = crashes - (2 if is_free else 1)
    return min(FIRST_SECONDS * 2.0 ** min(doublings, 60), longest_seconds) if doublings >= 0 else 0.0
