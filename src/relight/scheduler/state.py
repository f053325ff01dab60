"""What the scheduler knows of functions, workers and nodes: records, and the questions asked of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from relight.protocol.errors import Failure
from relight.protocol.link import Hello, WorkerSpec
from relight.protocol.starts import StartReport
from relight.protocol.workers import STATES, WorkerExit, WorkerState, WorkerView
from relight.scheduler.autoscale import DRAIN_SECONDS, Load
from relight.scheduler.leases import Lease
from relight.scheduler.placement import NoPlace, Room, cpu_of, memory_of
from relight.scheduler.queue import FunctionKey, FunctionQueue

_MEAN_WEIGHT = 0.2
"""How much the newest call counts in the running mean of a function's durations."""

AHEAD_SECONDS = 0.01
"""A worker is given calls ahead that will take it about so long, so that it does not wait for each to come."""

STALL_SECONDS = 0.05
"""A worker that has been at one call for so long is given none ahead."""


@dataclass(slots=True, kw_only=True)
class Worker:
    """A worker that was asked for.  `since` is monotonic, `since_unix` for people.

    `credit` is how many calls may be with it; `moved_at` is when it came to the call that it runs;
    `waiting` are those of its calls that wait for others.
    """

    id: str
    node: str
    key: FunctionKey
    spec: WorkerSpec
    state: WorkerState
    since: float
    since_unix: float
    credit: int = 1
    isolation: str = ""
    sandbox: str = ""
    calls: set[str] = field(default_factory=set)
    is_leaving: bool = False
    exit: WorkerExit | None = None
    start: StartReport | None = None
    moved_at: float = 0.0
    waiting: set[str] = field(default_factory=set)

    @property
    def is_free(self) -> bool:
        """Whether it would begin a call at once."""
        return not self.calls and STATES[self.state].takes_calls and not self.is_leaving

    def takes(self, depth: int, now: float) -> bool:
        """Whether it may be given one more call, where `depth` may be with it."""
        if not self.calls:
            return self.is_free
        if len(self.calls) >= min(depth, self.credit) or now - self.moved_at > STALL_SECONDS or self.is_lending:
            return False
        return STATES[self.state].takes_calls and not self.is_leaving

    @property
    def is_lending(self) -> bool:
        """Whether the call that it runs waits for others: its CPU is free for them, its memory and its GPUs are not."""
        return not self.waiting.isdisjoint(self.calls)

    @property
    def is_starting(self) -> bool:
        """Whether it is on its way to its first call."""
        return not STATES[self.state].takes_calls and self.state is not WorkerState.DRAINING

    def view(self) -> WorkerView:
        """What is shown of it."""
        return WorkerView(
            id=self.id,
            node=self.node,
            app=self.spec.app,
            environment=self.spec.environment,
            version=self.spec.version,
            function=self.spec.function.name,
            binding=self.spec.binding,
            kind=self.spec.kind,
            state=self.state,
            since=self.since_unix,
            calls=tuple(sorted(self.calls)),
            isolation=self.isolation,
            sandbox=self.sandbox,
            exit=self.exit,
            start=self.start,
        )


@dataclass(slots=True, kw_only=True)
class Function:
    """One function of one version: its queue, its workers, and how its starts have gone.

    `failures` counts the starts that failed one after another; until `blocked_until` no other is tried.  `held` are the
    calls, by id, that wait with workers that are being started (`scheduler.holds`).
    """

    key: FunctionKey
    spec: WorkerSpec
    queue: FunctionQueue = field(default_factory=FunctionQueue)
    workers: dict[str, Worker] = field(default_factory=dict)
    held: dict[str, Lease] = field(default_factory=dict)
    mean_seconds: float | None = None
    failures: int = 0
    blocked_until: float = 0.0
    last_failure: Failure | None = None
    no_place: NoPlace | None = None
    is_stopped: bool = False
    is_superseded: bool = False

    def floor(self) -> int:
        """How many workers there are even when nothing waits."""
        return 0 if self.is_stopped or self.is_superseded else self.spec.function.scaling.min_workers

    def staying(self) -> list[Worker]:
        """The workers that are not on their way out."""
        return [one for one in self.workers.values() if not one.is_leaving and one.state is not WorkerState.DRAINING]

    def depth(self) -> int:
        """How many calls may be with one worker: more than one only where they are short."""
        return 1 if self.mean_seconds is None else max(1, int(AHEAD_SECONDS / max(self.mean_seconds, 1e-6)))

    def load(self, now: float) -> Load:
        """What the autoscaler needs to know."""
        busy = [worker for worker in self.workers.values() if worker.calls and not worker.is_leaving]
        stuck = [one for one in busy if one.is_lending or (now - one.moved_at > DRAIN_SECONDS and not one.is_starting)]
        moving = sum(len(worker.calls) for worker in busy) - sum(len(worker.calls) for worker in stuck)
        return Load(waiting=self.queue.ready(now), moving=moving, stuck=len(stuck), mean_seconds=self.mean_seconds)

    def measure(self, seconds: float) -> None:
        """A call took so long."""
        mean = seconds if self.mean_seconds is None else self.mean_seconds
        self.mean_seconds = mean + _MEAN_WEIGHT * (seconds - mean)


@dataclass(slots=True, kw_only=True)
class Node:
    """A machine that has said Hello."""

    id: str
    hello: Hello
    is_connected: bool = True
    workers: dict[str, Worker] = field(default_factory=dict)

    def room(self, gone: Collection[str] = ()) -> Room:
        """What is free, had the workers of `gone` left already.  One whose call waits for others lends its CPU."""
        workers = [worker for worker in self.workers.values() if worker.id not in gone]
        asked = [worker.spec.function.resources for worker in workers]
        taken = {gpu for worker in workers for gpu in worker.spec.gpus}
        return Room(
            node=self.id,
            cpu=self.hello.cpu,
            memory_mib=self.hello.memory_mib,
            gpus=self.hello.gpus,
            free_cpu=self.hello.cpu - sum(cpu_of(one.spec.function.resources) for one in workers if not one.is_lending),
            free_memory_mib=self.hello.memory_mib - sum(memory_of(resources) for resources in asked),
            free_gpus=tuple(gpu for gpu in self.hello.gpus if gpu.id not in taken),
            starting=sum(worker.is_starting for worker in workers),
            start_limit=max(2, int(2 * self.hello.cpu)),
        )
