"""What an agent and the server say to each other: orders down, reports up, each a list.

The node dials out and says Hello; the server answers Welcome.  From then on the server sends Orders and the agent
Reports.  An end is repeated until an order acknowledges it; a heartbeat is a report that lists the calls held.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from relight.protocol.calls import CallEvent, Token
from relight.protocol.codec import Kinds
from relight.protocol.errors import Failure
from relight.protocol.exits import WorkerExit
from relight.protocol.fitness import Check
from relight.protocol.manifest import CodeBundle, FunctionSpec, Json
from relight.protocol.payload import Payload
from relight.protocol.starts import StartReport
from relight.protocol.templates import TemplateOutcome
from relight.protocol.usage import UsageRecord, UsedBy
from relight.protocol.workers import WorkerKind, WorkerState

HEARTBEAT_SECONDS = 3.0
"""A node that has nothing to report still says so this often."""

LEASE_SECONDS = 30.0
"""A call whose node has been silent for so long is given to another."""

# -- what is carried


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """All a node needs to start a worker.  `function` has the options of `binding`, `parameters` are its values.

    `gpus` are the ids of those it has been given, of each of which `gpu_share` is its own.
    """

    workspace: str
    app: str
    environment: str
    version: str
    function: FunctionSpec
    code: CodeBundle
    kind: WorkerKind = WorkerKind.FLEX
    gpus: tuple[str, ...] = ()
    gpu_share: float = 1.0
    parameters: tuple[tuple[str, Json], ...] = ()
    binding: str = ""


def template_key(spec: WorkerSpec) -> str:
    """What two workers must have in common to be forked from one template.

    The version says which code; functions of one module share it, unless their objects are made before the fork.
    """
    function = spec.function
    own = (function.name, spec.parameters) if function.has_snap or function.serialized else ()
    parts = (
        *(spec.workspace, spec.app, spec.environment, spec.version, spec.code.digest, function.image),
        *(function.env, function.network, function.module, own),
        *(("gpu",) if function.resources.gpu else ()),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def used_by(spec: WorkerSpec) -> UsedBy:
    """Whose a worker is, and what it holds."""
    resources = spec.function.resources
    return UsedBy(
        workspace=spec.workspace,
        app=spec.app,
        environment=spec.environment,
        version=spec.version,
        function=spec.function.name,
        binding=spec.binding,
        kind=spec.kind,
        cpu=resources.cpu,
        memory_mib=resources.memory_mib,
        gpus=spec.gpus,
        gpu_share=spec.gpu_share,
        tags=spec.function.tags,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWorker:
    """Start a worker under this name."""

    worker: str
    spec: WorkerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class StopWorker:
    """Let a worker end what it has and leave; `now` kills it."""

    worker: str
    now: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCall:
    """Give a call to a worker, which may still be being started.  Only this `token` may end it."""

    worker: str
    call: str
    token: Token
    attempt: int
    payload: Payload
    method: str = ""
    accept: tuple[str, ...] = ("pickle5",)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelCall:
    """Stop a call that is running; its end comes as any other."""

    call: str
    token: Token


@dataclass(frozen=True, slots=True, kw_only=True)
class AskBack:
    """Give a call back, uncharged, if the worker that is to run it is still being started."""

    call: str
    token: Token


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantItems:
    """A generator's reader has room for its items up to number `items`, and has those up to `taken`."""

    call: str
    token: Token
    items: int
    taken: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallItem:
    """An item of a generator; told again on a new link until its reader has taken it."""

    call: str
    token: Token
    number: int
    payload: Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnd:
    """How an attempt ended, after `items` of them if it was a generator's.

    `is_charged` is false for a neighbour of the call for whose sake a worker was killed.  `seconds` is how long it ran,
    `used_us` what of its worker's time is its, in microseconds: all of that, where it ran alone.  `cpu_us` is the CPU time
    that its worker says it took; None where it does not say.  Tokens are what the function reported in it.
    """

    call: str
    token: Token
    outcome: CallEvent
    worker: str
    result: Payload | None = None
    failure: Failure | None = None
    is_charged: bool = True
    items: int = 0
    seconds: float = 0.0
    used_us: int = 0
    cpu_us: int | None = None
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerChange:
    """A worker entered `state` at `at` (seconds since 1970, the node's clock).

    `credit` is how many calls may be with it, one of which runs; `failure` says why a start failed; `detail` is for people.
    `sandbox` is the name of its control groups on the node.  `start` tells how it was started: once it is ready, or as
    far as it came where it is gone without having been.
    """

    worker: str
    state: WorkerState
    at: float
    credit: int = 1
    isolation: str = ""
    sandbox: str = ""
    detail: str = ""
    failure: Failure | None = None
    exit: WorkerExit | None = None
    start: StartReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLines:
    """Lines that a worker wrote one after another, read from it at `at`.

    `source` is `stdout`, `stderr` or `system` (relight's own words about it); `call` is empty for what no call wrote.
    """

    worker: str
    at: float
    source: str
    texts: tuple[str, ...]
    call: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFact:
    """One GPU of a node, or one slice of it.  A simulated one was declared by hand, and is always shown as simulated.

    `id` is the driver's (`GPU-…`, `MIG-…`), `name` what its maker calls it.  `parent` is of a slice the id of its GPU.
    """

    id: str
    kind: str
    is_simulated: bool = False
    name: str = ""
    memory_mib: int = 0
    parent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """How a GPU was used a moment ago.  `utilization_percent` is None where the driver does not say.

    `workers` are those that hold memory of it, with how many MiB.
    """

    id: str
    memory_used_mib: int
    utilization_percent: int | None = None
    workers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldWorker:
    """A worker that an agent already has when it says Hello, and the calls it holds."""

    worker: str
    spec: WorkerSpec
    state: WorkerState
    since: float
    credit: int = 1
    isolation: str = ""
    sandbox: str = ""
    calls: tuple[tuple[str, Token, int], ...] = ()
    start: StartReport | None = None


# -- agent → server


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """An agent comes, or comes back.  A new `incarnation` means that all it had before is gone.

    `checks` is what it found of its machine when it began, `now` what its wall clock shows, in seconds since 1970.
    """

    node: str
    incarnation: str
    protocol: int
    cpu: float
    memory_mib: int
    gpus: tuple[GpuFact, ...] = ()
    isolation: str = "namespaces"
    pid: int = 0
    workers: tuple[HeldWorker, ...] = ()
    templates: tuple[TemplateOutcome, ...] = ()
    checks: tuple[Check, ...] = ()
    now: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """What happened on a node since its last word, in order within each list.  `held` are the calls it has now.

    `gpus` come with a heartbeat.  `logs` are told again, under the same `log_batch`, until that is acknowledged; it grows
    from 1 for each incarnation.  `usage` is told again until `Orders.usage_kept` names it; that of a worker comes no later
    than word that it is gone.
    """

    ends: tuple[CallEnd, ...] = ()
    workers: tuple[WorkerChange, ...] = ()
    items: tuple[CallItem, ...] = ()
    logs: tuple[LogLines, ...] = ()
    log_batch: int = 0
    held: tuple[str, ...] | None = None
    templates: tuple[TemplateOutcome, ...] = ()
    gpus: tuple[GpuUse, ...] = ()
    usage: tuple[UsageRecord, ...] = ()


# -- server → agent


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The server takes the node; `unknown_workers` are to be stopped: nobody here asked for them."""

    epoch: int
    protocol: int
    unknown_workers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a node shall do.  `acknowledged` names (call, token) whose ends are kept and need not be told again.

    `logs_kept` is the last batch of lines that is kept.  `prepare` are workers whose templates are soon needed, `forget`
    versions whose templates are not any more.  `usage_kept` names (worker, n) of records that are kept.
    """

    prepare: tuple[WorkerSpec, ...] = ()
    forget: tuple[str, ...] = ()
    start: tuple[StartWorker, ...] = ()
    stop: tuple[StopWorker, ...] = ()
    run: tuple[RunCall, ...] = ()
    cancel: tuple[CancelCall, ...] = ()
    grant: tuple[GrantItems, ...] = ()
    ask_back: tuple[AskBack, ...] = ()
    acknowledged: tuple[tuple[str, Token], ...] = ()
    logs_kept: int = 0
    usage_kept: tuple[tuple[str, int], ...] = ()


TO_SERVER = Kinds(Hello, Reports)
TO_AGENT = Kinds(Welcome, Orders)
