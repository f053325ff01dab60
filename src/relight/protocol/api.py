"""What a client and the gateway say to each other, where JSON would not do: values are bytes.

A body of type `application/x-relight` is one message of `protocol.codec`.  The rest of the API is JSON.
"""

from __future__ import annotations

from dataclasses import dataclass

from relight.protocol.calls import AttemptView, CallRequest, CallView
from relight.protocol.manifest import Manifest
from relight.protocol.payload import Payload
from relight.protocol.starts import StartReport
from relight.protocol.versions import Strategy
from relight.protocol.workers import WorkerInterval

MEDIA_TYPE = "application/x-relight"
MAX_WAIT_SECONDS = 60.0
"""The longest a request waits for calls to end before it answers with where they stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """POST /v1/calls: keep these calls, then wait up to `wait_seconds` until all of them have ended.

    `is_again` says that the caller asked before and heard no answer: calls already there are taken as they are.
    `is_quiet`: the answer holds no calls; that it comes says that they are kept.  `needs_results`: nobody will read items, so
    a function that yields is refused; who waits needs no saying so.
    """

    calls: tuple[CallRequest, ...]
    wait_seconds: float = 0.0
    is_again: bool = False
    is_quiet: bool = False
    needs_results: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Await:
    """POST /v1/calls/wait: wait until one of `ids` has ended, or one of `group` after end number `after`.

    The answer holds those that have: of `ids` all of them (those still waiting too, so that their reason is seen).
    `caller` is the call inside which this is asked: while it waits, its worker lends its CPU.
    """

    ids: tuple[str, ...] = ()
    group: str = ""
    after: int = 0
    wait_seconds: float = 0.0
    caller: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallViews:
    """Calls as they stand.  `group_reason` says why nothing of a group has ended yet."""

    calls: tuple[CallView, ...]
    group_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """POST /v1/calls/cancel: cancel these calls, and all of `group`; answered by {"cancelled": n} in JSON."""

    ids: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadItems:
    """POST /v1/calls/items: the items of a generator after number `taken`, as soon as there is one or it has ended.

    Asking says that those up to `taken` are with the reader: they are dropped, and the generator may go on.
    """

    call: str
    taken: int = 0
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """The answer: items in order from number `taken` + 1 on, and the call as it stands once they are read."""

    call: CallView
    items: tuple[Payload, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDetail:
    """GET /v1/calls/{id}: a call, its tries, and the life of the worker that has it, with how that was started."""

    call: CallView
    attempts: tuple[AttemptView, ...] = ()
    worker_intervals: tuple[WorkerInterval, ...] = ()
    start: StartReport | None = None


TRY_SECONDS = 20.0
"""How long a deploy waits for its modules to be loaded before it answers that they are not yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """POST /v1/deploys: make `manifest` the version that `environment` leads to.

    A run (`relight run`, `with app.run()`) is a deploy to an environment of its own: `run-…`, which ends with the client.

    With `is_tried`, and an id of the client's own making, its modules are loaded first: where that fails the deploy does, and
    nothing has changed.  The answer comes after TRY_SECONDS at the latest, and is not yet `is_live` while they are being
    loaded: ask again with the same id.  With `canary_percent` only so many of the calls lead to it; with the strategy
    SHADOW none do, and it gets copies of so many.
    """

    manifest: Manifest
    environment: str = "main"
    id: str = ""
    is_tried: bool = False
    canary_percent: float = 100.0
    tags: tuple[tuple[str, str], ...] = ()
    commit: str = ""
    strategy: Strategy = Strategy.ROLLING


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The answer: the new version, and the one it replaced ("" for none); where what answers web requests does so.

    `is_live`: calls lead to it now.
    """

    version: str
    app: str
    environment: str
    replaced: str = ""
    is_live: bool = True
    urls: tuple[tuple[str, str], ...] = ()
