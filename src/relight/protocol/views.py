"""What a person or a program may ask to see, beside calls and workers; and how they ask."""

from __future__ import annotations

from dataclasses import dataclass

from relight.protocol.calls import CallState
from relight.protocol.link import GpuFact


@dataclass(frozen=True, slots=True, kw_only=True)
class CallQuery:
    """Which calls to list, newest first; empty fields ask for all.  `before` is the id to go on from."""

    app: str = ""
    environment: str = ""
    function: str = ""
    state: CallState | None = None
    limit: int = 50
    before: str = ""


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
    """Which lines to read, oldest first; empty fields ask for all.  `after` is the id to go on from."""

    call: str = ""
    app: str = ""
    environment: str = ""
    function: str = ""
    worker: str = ""
    search: str = ""
    after: int = 0
    limit: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The last word of a run's stream."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppView:
    """An app where it is deployed."""

    app: str
    environment: str
    version: str
    functions: tuple[str, ...]
    deployed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A machine: what it has, and what of it is free."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks: the workspace they act in, and the token they showed (empty on the local socket)."""

    workspace: str
    token_id: str = ""
