"""A call: what is asked, the states it goes through, and what is known of it.

    queued ─claimed─▶ running ─▶ succeeded | failed | cancelled | timed_out
      ▲                  │
      └── lease_lost, retried ──┘         queued ─▶ cancelled | expired | failed

At least one execution, at most one visible result: a claim carries a fencing token, and only the newest token ends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from relight.protocol.errors import Failure
from relight.protocol.exits import WorkerExit
from relight.protocol.payload import Payload


class CallState(str, Enum):
    """Where a call stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether nothing can happen to the call any more."""
        return self not in (CallState.QUEUED, CallState.RUNNING)


class CallEvent(str, Enum):
    """What can happen to a call."""

    CLAIMED = "claimed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"
    LEASE_LOST = "lease_lost"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    EXPIRED = "expired"


_Q, _R = CallState.QUEUED, CallState.RUNNING

TRANSITIONS: dict[tuple[CallState, CallEvent], CallState] = {
    (_Q, CallEvent.CLAIMED): _R,
    (_Q, CallEvent.CANCELLED): CallState.CANCELLED,
    (_Q, CallEvent.EXPIRED): CallState.EXPIRED,
    (_Q, CallEvent.FAILED): CallState.FAILED,  # its function cannot start
    (_R, CallEvent.SUCCEEDED): CallState.SUCCEEDED,
    (_R, CallEvent.FAILED): CallState.FAILED,
    (_R, CallEvent.RETRIED): _Q,
    (_R, CallEvent.LEASE_LOST): _Q,
    (_R, CallEvent.CANCELLED): CallState.CANCELLED,
    (_R, CallEvent.TIMED_OUT): CallState.TIMED_OUT,
}
"""Every step a call can take; what is not here cannot happen."""


PENDING_REASONS: dict[str, str] = {
    "no_worker": "it is next in line for a worker",
    "starting": "a worker is being started; which phase that is in follows",
    "at_max_workers": "as many workers as its function may have are busy",
    "no_capacity": "no node has room for another worker; what there is too little of follows",
    "no_node": "no node is connected",
    "crash_loop": "the last workers did not start; the next is tried in a while",
    "rate_limited": "its function has begun as many calls as its rate allows",
    "quota": "its workspace uses as much as it may",
    "behind_key": "calls with the same key come first",
    "retry_backoff": "it failed, and is tried again in a while",
    "not_before": "it was asked for later",
    "paused": "its function was paused",
    "budget": "its app, or its workspace, has spent what it may this month",
    "replacing": "the workers of the version before are to be gone first",
    "deadlock": "it is in a circle of calls that wait for each other",
}
"""Why a call waits: what stands before the colon of every `pending_reason`, and what it means."""


class Token(NamedTuple):
    """A fencing token: the epoch of the scheduler that granted it, and a number that only grows within it."""

    epoch: int
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """One call, asked for.  The caller names it (`id`), so asking twice is harmless.

    `environment` is a place the app is deployed to, or the id of a run.  `group` ties the calls of one map together,
    `parent` is the call that made it; where `is_awaited`, that waits for this one, which ends with it unless it succeeds.
    `binding` says which workers of the function may take it (`manifest.Binding`); `session` that the worker which served
    it is to do so again, and where it `is_strict` no other.  Of those that wait, the highest `priority` (-100 to 100)
    begins first; calls of one `key` begin in the order they came.  It may wait for `queue_timeout_seconds` (None: as
    long as its function says).
    """

    id: str
    app: str
    function: str
    payload: Payload
    environment: str = "main"
    method: str = ""
    accept: tuple[str, ...] = ("pickle5",)
    group: str = ""
    parent: str = ""
    is_awaited: bool = False
    binding: str = ""
    priority: int = 0
    key: str = ""
    queue_timeout_seconds: float | None = None
    session: str = ""
    is_strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallKey:
    """A name that a caller gives a call, so that asking again is no second call (`Idempotency-Key`).

    It is `owner`'s own (a token's id), and means something for one `function` (with app and environment).  `digest` is of
    all that is asked: the same key with another is refused.
    """

    owner: str
    function: str
    key: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebRequest:
    """What a web request asked, who asked it, and what came of it.

    `status` 0: whoever asked was told none; `bytes_out` are those of the answer's body.  What stood in the query is left
    out: it may be a secret.
    """

    verb: str
    path: str
    status: int = 0
    client: str = ""
    bytes_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallView:
    """What is known of a call.  Times are seconds since 1970; `sequence` orders the ends on one server, 0 before.

    `attempts` counts the tries that were charged: a worker killed for a neighbour's call costs none.  `items` says, once
    a generator has ended, how many it made.  A web request is a call, too, and `request` says which; it is told once it
    is over.
    """

    id: str
    app: str
    environment: str
    version: str
    function: str
    method: str = ""
    state: CallState = CallState.QUEUED
    attempts: int = 0
    pending_reason: str = ""
    worker: str = ""
    group: str = ""
    parent: str = ""
    binding: str = ""
    submitted_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    result: Payload | None = None
    failure: Failure | None = None
    sequence: int = 0
    items: int = 0
    request: WebRequest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """One try of a call: where, from when to when, and how it ended (a CallEvent's value, empty while it runs).

    `exit` is how its worker ended, where that ended over it.
    """

    call: str
    number: int
    worker: str
    node: str
    started_at: float
    ended_at: float | None = None
    outcome: str = ""
    detail: str = ""
    exit: WorkerExit | None = None
