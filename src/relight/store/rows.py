"""What is written, as values: one frozen record for each kind of write."""

from __future__ import annotations

from dataclasses import dataclass

from relight.protocol.calls import CallEvent, CallRequest, CallState, Token
from relight.protocol.errors import Failure
from relight.protocol.manifest import Manifest
from relight.protocol.payload import Payload
from relight.protocol.versions import Strategy
from relight.protocol.workers import WorkerView


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    """A call to keep, and the version its name led to.

    It may wait until `expires_at` (seconds since 1970; None: for ever); `is_beyond`: in the store alone, until it is brought.
    """

    request: CallRequest
    version: str
    at: float
    expires_at: float | None = None
    is_beyond: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCall:
    """What a caller's key stands for.  `digest` is of what was asked under it; `is_new`: it does since now."""

    call: str
    digest: str
    is_new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A call given to a worker.  Kept only when `token` is newer than the one that is there."""

    call: str
    token: Token
    attempt: int
    worker: str
    node: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """An attempt's end, with its claim, which need not have been kept before.  A generator made `items`.

    `used_us` is what of its worker's time is the call's, tokens are what it reported.

    Kept only when no newer token is there; `event` says what becomes of the call.
    """

    claim: Claim
    event: CallEvent
    at: float
    result: Payload | None = None
    failure: Failure | None = None
    not_before: float = 0.0
    is_charged: bool = True
    items: int = 0
    used_us: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndQueued:
    """The end of a call that never ran, or waits to run again."""

    call: str
    event: CallEvent
    at: float
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A call that a new server takes over.  `token` is None when it was never claimed."""

    id: str
    workspace: str
    app: str
    environment: str
    version: str
    function: str
    method: str
    binding: str
    accept: tuple[str, ...]
    state: CallState
    attempts: int
    token: Token | None
    worker: str
    node: str
    not_before: float
    submitted_at: float
    group: str = ""
    parent: str = ""
    is_awaited: bool = False
    session: str = ""
    is_strict: bool = False
    priority: int = 0
    order_key: str = ""
    expires_at: float | None = None
    payload: Payload | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The calls of a function, as one binding has it, that wait in the store alone: how many of each priority."""

    workspace: str
    app: str
    environment: str
    version: str
    function: str
    binding: str
    counts: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningRow:
    """What was said of a function after it was deployed, as JSON."""

    workspace: str
    app: str
    environment: str
    function: str
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """An immutable version, of an app in an environment."""

    workspace: str
    id: str
    app: str
    environment: str
    manifest: Manifest
    at: float
    made_by: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    commit: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRow:
    """Where a name leads: to a version, and `canary_percent` of its calls, or copies of so many, to another."""

    version: str
    manifest: Manifest
    canary: str = ""
    canary_manifest: Manifest | None = None
    canary_percent: float = 0.0
    strategy: Strategy = Strategy.ROLLING


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A worker as it is from `at` on."""

    view: WorkerView
    at: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A token: its hash, never itself.  `scope` is one of `protocol.views.Scope`, `app` empty for all apps."""

    workspace: str
    id: str
    hash: str
    at: float
    name: str = ""
    scope: str = "admin"
    app: str = ""
    expires_at: float | None = None
    last_used_at: float | None = None
