"""A scheduler between a node that obeys and a control that listens, under a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relight.protocol.calls import Token
from relight.protocol.errors import Failure
from relight.protocol.link import HeldWorker, Hello, Orders, WorkerChange, WorkerSpec
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Scaling
from relight.protocol.payload import Payload
from relight.protocol.workers import WorkerState
from relight.scheduler.autoscale import Autoscaler, Load, Observation
from relight.scheduler.brake import Brake
from relight.scheduler.leases import Lease
from relight.scheduler.loop import Policy, Scheduler, Timing
from relight.scheduler.orders import OrderBook
from relight.scheduler.placement import Quota
from relight.scheduler.queue import FunctionKey, WaitingCall
from relight.scheduler.state import Function, Tuning, Worker, as_deployed

IMAGE = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
LEASE_SECONDS = 30.0


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


class World:
    """A scheduler between a node that obeys and a control that listens."""

    def __init__(self, quota: Quota | None = None, **function: object) -> None:
        self.clock = Clock()
        self.orders: list[tuple[str, Orders]] = []
        self.granted_calls: list[str] = []
        self.lost_calls: list[tuple[str, str]] = []
        self.begun: list[str] = []
        self.failed: list[tuple[str, str]] = []
        self.expired_calls: list[str] = []
        self.brakes: list[Brake] = []
        self.wanted_beyond: list[FunctionKey] = []
        self.inherited_calls: list[tuple[str, str]] = []
        self.states: list[tuple[str, WorkerState]] = []
        self.before_delivery: Callable[[Lease], object] = lambda lease: None
        self._soon: list[Callable[[], None]] = []
        self._runs: list[tuple[str, Token]] = []
        book = OrderBook(lambda node, orders: self.orders.append((node, orders)), self._soon.append, self._soon.append)
        timing = Timing(lease_seconds=LEASE_SECONDS, sweep_seconds=0.25)
        self.tunings: dict[str, Tuning] = {}
        self.scheduler = Scheduler(7, timing, self.clock, book, self, Policy(quota=quota or Quota(), tuner=self.tune))
        self.key = self.function("f", **function)

    # -- what the scheduler tells

    def granted(self, leases: Sequence[Lease]) -> None:
        self.granted_calls += [lease.call.id for lease in leases]

    def claimed(self, leases: Sequence[Lease]) -> None:
        self.begun += [lease.call.id for lease in leases]

    def lost(self, leases: Sequence[Lease], why: str) -> None:
        self.lost_calls += [(lease.call.id, why) for lease in leases]

    def expired(self, calls: Sequence[WaitingCall], why: str) -> None:
        self.expired_calls += [call.id for call in calls]

    def cannot_start(self, calls: Sequence[WaitingCall], failure: Failure) -> None:
        self.failed += [(call.id, failure.message) for call in calls]

    def brake_changed(self, function: Function) -> None:
        self.brakes.append(function.brake)

    def payload_missing(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            self.before_delivery(lease)
            self.scheduler.deliver(lease, Payload(format="json", data=b"from the store"))

    def beyond_wanted(self, function: Function) -> None:
        self.wanted_beyond.append(function.key)

    def inherited(self, function: Function, calls: Sequence[WaitingCall]) -> None:
        self.inherited_calls += [(call.id, function.heir) for call in calls]

    def worker_entered(self, worker: Worker, detail: str) -> None:
        self.states.append((worker.id, worker.state))

    def tune(self, spec: WorkerSpec) -> Tuning:
        return self.tunings.get(spec.function.name) or as_deployed(spec)

    # -- what a test does

    def function(self, name: str, **more: object) -> FunctionKey:
        spec = FunctionSpec(name=name, module="m", qualname=name, image=IMAGE, **more)  # type: ignore[arg-type]  # shorthand
        code = CodeBundle(digest="d", size=1, folder="/app")
        key = FunctionKey(f"v-{name}", name)
        worker = WorkerSpec(
            workspace="default", app="a", environment="main", version=key.version, function=spec, code=code
        )
        self.scheduler.add_function(key, worker)
        return key

    def node(self, name: str = "n1", incarnation: str = "i1", workers: tuple[HeldWorker, ...] = ()) -> tuple[str, ...]:
        hello = Hello(node=name, incarnation=incarnation, protocol=1, cpu=2.0, memory_mib=1024, workers=workers)
        return self.scheduler.connect(hello)

    def submit(self, *names: str, key: FunctionKey | None = None, payload: bytes | None = b"1") -> None:
        value = None if payload is None else Payload(format="json", data=payload)
        self.scheduler.submit(
            [WaitingCall(id=name, workspace="default", key=key or self.key, payload=value) for name in names]
        )

    def flush(self) -> list[Orders]:
        """The orders that have left since this was last asked."""
        soon, self._soon[:] = list(self._soon), []
        for run in soon:
            run()
        sent, self.orders = [orders for _, orders in self.orders], []
        return sent

    def started(self) -> list[str]:
        """The workers that were ordered; the calls that went along with them are among the next `runs`."""
        sent = self.flush()
        self._runs += _runs_in(sent)
        return [start.worker for orders in sent for start in orders.start]

    def change(self, worker: str, state: WorkerState, **more: object) -> WorkerChange:
        return WorkerChange(worker=worker, state=state, at=self.clock.time, **more)  # type: ignore[arg-type]  # shorthand

    def report(self, worker: str, state: WorkerState, **more: object) -> None:
        self.scheduler.worker_changed("n1", self.change(worker, state, **more))

    def ready(self, count: int = 1) -> list[str]:
        """Let the workers that were ordered become ready."""
        workers = self.started()
        assert len(workers) == count
        for worker in workers:
            self.report(worker, WorkerState.READY)
        return workers

    def runs(self) -> list[tuple[str, Token]]:
        """The calls that were given to workers since this was last asked, with their starts or later."""
        runs, self._runs = [*self._runs, *_runs_in(self.flush())], []
        return runs

    def end(self, *runs: tuple[str, Token], seconds: float = 1.0) -> None:
        """These attempts end well, after so many seconds each."""
        for call, token in runs:
            assert self.scheduler.release(call, token, seconds) is not None
        self.scheduler.refill([self.key])

    def advance(self, seconds: float) -> None:
        self.clock.time += seconds
        self.scheduler.sweep()


def _runs_in(sent: Sequence[Orders]) -> list[tuple[str, Token]]:
    return [(run.call, run.token) for orders in sent for run in orders.run]


def wanted_workers(load: Load, scaling: Scaling) -> int:
    """What an autoscaler that has seen nothing else says."""
    return Autoscaler(scaling).decide(Observation(now=0.0, unix=0.0, load=load)).workers


def held_worker(
    world: World, name: str, *calls: tuple[str, Token, int], state: WorkerState = WorkerState.BUSY
) -> HeldWorker:
    """A worker as its node tells it, with what it has."""
    spec = WorkerSpec(
        workspace="default",
        app="a",
        environment="main",
        version=world.key.version,
        function=FunctionSpec(name="f", module="m", qualname="f", image=IMAGE),
        code=CodeBundle(digest="d", size=1, folder="/app"),
    )
    return HeldWorker(worker=name, spec=spec, state=state, since=1.0, calls=calls)
