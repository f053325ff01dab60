"""A worker: the states of its life in one table, from which the UI, the reasons and the bills are read.

requested → placing → pulling → starting → ready → busy ⇄ idle → draining → gone
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from relight.protocol.exits import WorkerExit
from relight.protocol.starts import StartReport


class WorkerState(str, Enum):
    """Where a worker stands."""

    REQUESTED = "requested"
    PLACING = "placing"
    PULLING = "pulling"
    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    IDLE = "idle"
    DRAINING = "draining"
    GONE = "gone"


class WorkerKind(str, Enum):
    """Flex comes and goes with the traffic; active is always on; shadow, billed as flex, is for copies of calls."""

    FLEX = "flex"
    ACTIVE = "active"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRule:
    """One row of the table: what may follow, whether a worker in it takes calls, and which kinds it is billed for."""

    may_become: frozenset[WorkerState]
    takes_calls: bool = False
    billed_flex: bool = False
    billed_active: bool = False
    meaning: str


def _to(*states: WorkerState) -> frozenset[WorkerState]:
    return frozenset((*states, WorkerState.GONE))


_S = WorkerState

STATES: dict[WorkerState, StateRule] = {
    _S.REQUESTED: StateRule(may_become=_to(_S.PLACING), meaning="the scheduler wants one more"),
    _S.PLACING: StateRule(may_become=_to(_S.PULLING, _S.STARTING), meaning="a node with room has been told"),
    _S.PULLING: StateRule(may_become=_to(_S.STARTING), meaning="the node fetches its image and code"),
    _S.STARTING: StateRule(
        may_become=_to(_S.READY, _S.DRAINING), billed_active=True, meaning="sandbox, imports, enter"
    ),
    _S.READY: StateRule(
        may_become=_to(_S.BUSY, _S.IDLE, _S.DRAINING),
        takes_calls=True,
        billed_active=True,
        meaning="started, never used",
    ),
    _S.BUSY: StateRule(
        may_become=_to(_S.IDLE, _S.DRAINING),
        takes_calls=True,
        billed_flex=True,
        billed_active=True,
        meaning="runs calls",
    ),
    _S.IDLE: StateRule(
        may_become=_to(_S.BUSY, _S.DRAINING), takes_calls=True, billed_active=True, meaning="waits for the next call"
    ),
    _S.DRAINING: StateRule(
        may_become=_to(), billed_flex=True, billed_active=True, meaning="ends what it has, takes no more"
    ),
    _S.GONE: StateRule(may_become=frozenset(), meaning="its sandbox is empty"),
}
"""Every state, in the order of a life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """What is known of a worker.  `since` is when its state began, in seconds since 1970.

    `binding` says which calls of its function it takes (`manifest.Binding`).  `sandbox` names its control groups on the node.
    `start` tells how it was started, once it was.  `gpus` are the ids of those it has, of each of which `gpu_share` is its own;
    `gpu_memory_mib` is what it held of them when its node last said so.
    """

    id: str
    node: str
    app: str
    environment: str
    version: str
    function: str
    binding: str = ""
    kind: WorkerKind = WorkerKind.FLEX
    state: WorkerState = WorkerState.REQUESTED
    since: float = 0.0
    calls: tuple[str, ...] = ()
    isolation: str = ""
    sandbox: str = ""
    exit: WorkerExit | None = None
    start: StartReport | None = None
    gpus: tuple[str, ...] = ()
    gpu_share: float = 1.0
    gpu_memory_mib: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInterval:
    """One stretch of a worker's life.  The intervals of a worker tile it: each `until` is the next one's `since`."""

    worker: str
    state: WorkerState
    since: float
    until: float | None = None
    detail: str = ""
