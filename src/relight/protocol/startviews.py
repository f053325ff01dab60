"""What a person or a program may ask to see of starts: one by one, or together."""

from __future__ import annotations

from dataclasses import dataclass

from relight.protocol.starts import Phase, StartLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class StartView:
    """A start as it is kept: of which worker, when it was over (seconds since 1970), and how it went.

    `failure` is empty when the worker became ready, else the reason of its exit.  `is_ahead`: no call waited for it; the
    first that finds the worker so has a start of its own, on level 0p.
    """

    worker: str
    node: str
    app: str
    environment: str
    version: str
    function: str
    binding: str
    level: StartLevel
    why: str
    phases: tuple[Phase, ...]
    seconds: float
    at: float
    failure: str = ""
    is_ahead: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StartQuery:
    """Which starts to show, newest first; empty fields ask for all.  `since` and `before` are seconds since 1970."""

    app: str = ""
    environment: str = ""
    function: str = ""
    level: StartLevel | None = None
    since: float = 0.0
    before: float = 0.0
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class StartGroup:
    """The starts of a function on one level that made a worker ready, and how many others did not.

    No call waited for `ahead` of them; of the rest, `share` are on this level.  Each percentile is a start that there was.  `buckets` counts the starts by how
    long they took: up to the bound in `StartSummary.bounds` at the same place, and the last are longer than all.
    `phases` has the median of each.
    """

    app: str
    function: str
    level: StartLevel
    count: int
    failed: int
    ahead: int
    share: float
    p50: float
    p90: float
    p99: float
    buckets: tuple[int, ...]
    phases: tuple[Phase, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartReason:
    """Why starts of a function were on this level and no quicker one: a code, and the newest sentence that said so."""

    app: str
    function: str
    level: StartLevel
    code: str
    why: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelShare:
    """How many of all starts that a call waited for were on a level."""

    level: StartLevel
    count: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSummary:
    """Starts by function and level.  `starts` were looked at, from `since` on: all there are unless `is_whole` is false.

    `hit_rate` is how many of the starts that a call waited for found what they needed ready: those on level 1, and quicker.
    """

    starts: int
    since: float
    is_whole: bool
    bounds: tuple[float, ...]
    hit_rate: float = 0.0
    levels: tuple[LevelShare, ...] = ()
    groups: tuple[StartGroup, ...] = ()
    reasons: tuple[StartReason, ...] = ()
