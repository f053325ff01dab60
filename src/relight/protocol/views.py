"""What a person or a program may ask to see, beside calls and workers; and how they ask."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from relight.protocol.calls import CallState
from relight.protocol.fitness import Check
from relight.protocol.link import GpuFact, GpuUse
from relight.protocol.templates import TemplateView


@dataclass(frozen=True, slots=True, kw_only=True)
class CallQuery:
    """Which calls to list, newest first; empty fields ask for all.

    `before` is the id to go on from, `since` seconds since 1970; `kind` is `call` or `request`.
    """

    app: str = ""
    environment: str = ""
    function: str = ""
    state: CallState | None = None
    limit: int = 50
    before: str = ""
    parent: str = ""
    since: float = 0.0
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlace:
    """A call that waits or runs, and where."""

    id: str
    app: str
    environment: str
    version: str
    function: str
    binding: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One line as it is kept.  `id` grows in the order of keeping; `at` is seconds since 1970."""

    id: int = 0
    at: float
    app: str
    environment: str
    function: str
    worker: str
    call: str
    source: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which lines to read, oldest first; empty fields ask for all.

    `after` is the id to go on from; `tail` asks for so many of the newest rather than the oldest `limit`.  `since` and
    `until` are seconds since 1970.  `search` is text that a line must hold, as it is written or in either case.
    """

    call: str = ""
    app: str = ""
    environment: str = ""
    function: str = ""
    worker: str = ""
    source: str = ""
    search: str = ""
    ignore_case: bool = False
    since: float = 0.0
    until: float = 0.0
    after: int = 0
    limit: int = 1000
    tail: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The last word of a run's stream."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppView:
    """An app where it is deployed, its workers, and how many of its calls wait and run."""

    app: str
    environment: str
    version: str
    functions: tuple[str, ...]
    deployed_at: float
    workers: int = 0
    queued: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionStats:
    """GET /v1/apps/{app}/functions/{function}/stats: how many of its calls wait and run, and its workers that can run
    them."""

    backlog: int = 0
    running: int = 0
    workers: int = 0

    @property
    def num_total_runners(self) -> int:
        """Another word for `workers`."""
        return self.workers


@dataclass(frozen=True, slots=True, kw_only=True)
class AppTemplates:
    """GET /v1/apps/{app}/templates: what became of the templates of its version, one for each function."""

    version: str
    templates: tuple[TemplateView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A machine: what it has, what of it is free, how its GPUs were used when it last said so, and what was found of its fitness.

    `clock_ahead_seconds` is how far its wall clock was ahead of the server's when it came.
    """

    id: str
    is_connected: bool
    isolation: str
    cpu: float
    free_cpu: float
    memory_mib: int
    free_memory_mib: int
    gpus: tuple[GpuFact, ...]
    free_gpus: tuple[str, ...]
    workers: int
    gpu_use: tuple[GpuUse, ...] = ()
    is_fit: bool = True
    checks: tuple[Check, ...] = ()
    clock_ahead_seconds: float = 0.0


class Scope(str, Enum):
    """What a token may do; each may do what those before it may."""

    READ = "read"
    CALL = "call"
    DEPLOY = "deploy"
    ADMIN = "admin"

    def includes(self, needed: Scope) -> bool:
        """Whether whoever has this may do what needs `needed`."""
        return _RANKS[self] >= _RANKS[needed]


_RANKS = {scope: rank for rank, scope in enumerate(Scope)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks: the workspace they act in, the token they showed (empty on the local socket), and what they may do.

    `app`: they may see and call that app alone; empty for all.  `worker` is the worker that asks, from inside its sandbox:
    it shows no token, and sees nothing but `environment`.
    """

    workspace: str
    token_id: str = ""
    scope: Scope = Scope.ADMIN
    app: str = ""
    environment: str = ""
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """A token, without its secret.  Times are seconds since 1970; `is_own` marks the server's own."""

    id: str
    name: str
    scope: Scope
    app: str
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None
    is_own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A token that shall be made.  `expires_seconds` None: it does not expire."""

    name: str
    scope: Scope = Scope.CALL
    app: str = ""
    expires_seconds: float | None = None
