"""What the scheduler knows of functions, workers and nodes: records, and the questions asked of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from relight.protocol.errors import Failure
from relight.protocol.link import Hello, WorkerSpec
from relight.protocol.workers import STATES, WorkerExit, WorkerState, WorkerView
from relight.scheduler.autoscale import Load
from relight.scheduler.placement import NoPlace, Room, cpu_of, memory_of
from relight.scheduler.queue import FunctionKey, FunctionQueue

_MEAN_WEIGHT = 0.2
"""How much the newest call counts in the running mean of a function's durations."""


@dataclass(slots=True, kw_only=True)
class Worker:
    """A worker that was asked for.  `since` is monotonic, `since_unix` for people."""

    id: str
    node: str
    key: FunctionKey
    spec: WorkerSpec
    state: WorkerState
    since: float
    since_unix: float
    credit: int = 1
    isolation: str = ""
    calls: set[str] = field(default_factory=set)
    is_leaving: bool = False
    exit: WorkerExit | None = None

    @property
    def free_credit(self) -> int:
        """How many more calls it takes now."""
        return self.credit - len(self.calls) if STATES[self.state].takes_calls and not self.is_leaving else 0

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
            kind=self.spec.kind,
            state=self.state,
            since=self.since_unix,
            calls=tuple(sorted(self.calls)),
            isolation=self.isolation,
            exit=self.exit,
        )


@dataclass(slots=True, kw_only=True)
class Function:
    """One function of one version: its queue, its workers, and how its starts have gone.

    `failures` counts the starts that failed one after another; until `blocked_until` no other is tried.
    """

    key: FunctionKey
    spec: WorkerSpec
    queue: FunctionQueue = field(default_factory=FunctionQueue)
    workers: dict[str, Worker] = field(default_factory=dict)
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

    def load(self, now: float) -> Load:
        """What the autoscaler needs to know."""
        credit = max((worker.credit for worker in self.workers.values()), default=1)
        running = sum(len(worker.calls) for worker in self.workers.values() if not worker.is_leaving)
        return Load(waiting=self.queue.ready(now), running=running, credit=credit, mean_seconds=self.mean_seconds)

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

    def room(self, without: Worker | None = None) -> Room:
        """What is free, had `without` left already."""
        workers = [worker for worker in self.workers.values() if worker is not without]
        asked = [worker.spec.function.resources for worker in workers]
        taken = {gpu for worker in workers for gpu in worker.spec.gpus}
        return Room(
            node=self.id,
            cpu=self.hello.cpu,
            memory_mib=self.hello.memory_mib,
            gpus=self.hello.gpus,
            free_cpu=self.hello.cpu - sum(cpu_of(resources) for resources in asked),
            free_memory_mib=self.hello.memory_mib - sum(memory_of(resources) for resources in asked),
            free_gpus=tuple(gpu for gpu in self.hello.gpus if gpu.id not in taken),
            starting=sum(worker.is_starting for worker in workers),
            start_limit=max(2, int(2 * self.hello.cpu)),
        )
