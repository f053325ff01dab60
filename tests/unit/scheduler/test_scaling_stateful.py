"""Scaling through whatever happens, on the real scheduler under a clock that stands still.

Two nodes obey; a server may end and another begin with what was kept, nodes may lose their link or die, versions are
deployed, and numbers are changed, in any order.  However it comes: there are never more workers than there may be, none
that a floor keeps is let go, and none that has a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relight.protocol.calls import Token
from relight.protocol.errors import Failure
from relight.protocol.link import HeldWorker, Hello, Orders, RunCall, WorkerChange, WorkerSpec
from relight.protocol.manifest import CodeBundle, FunctionSpec, Queueing, Resources, Scaling
from relight.protocol.payload import Payload
from relight.protocol.workers import WorkerState
from relight.scheduler.leases import Claimed, Lease
from relight.scheduler.loop import Policy, Scheduler, Timing
from relight.scheduler.orders import OrderBook
from relight.scheduler.queue import FunctionKey, WaitingCall
from relight.scheduler.state import Function, Tuning, Worker
from scheduled import IMAGE, LEASE_SECONDS, Clock

PAYLOAD = Payload(format="json", data=b"1", size=1)
NODES = ("n1", "n2")
Held = dict[str, tuple[Token, int]]


@dataclass
class Process:
    """A worker as it truly is, on its node; `calls` are with it, in their order."""

    spec: WorkerSpec
    state: WorkerState = WorkerState.STARTING
    calls: Held = field(default_factory=dict)

    @property
    def version(self) -> str:
        return self.spec.version


@dataclass
class Machine:
    """A node: it does what it is told, and tells what it did, while its link is up."""

    name: str
    incarnation: int = 1
    is_linked: bool = False
    processes: dict[str, Process] = field(default_factory=dict)
    ends: list[tuple[str, Token]] = field(default_factory=list)


@dataclass
class Kept:
    """A call as the store has it."""

    version: str
    claim: Claimed | None = None
    is_over: bool = False


class Scaled(RuleBasedStateMachine):
    """The world, and what must be true of it."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.machines = {name: Machine(name) for name in NODES}
        self.calls: dict[str, Kept] = {}
        self.workers: dict[str, tuple[str, str]] = {}  # as the store knows them: their node and version
        self.deployed: dict[str, Scaling] = {}
        self.said: Scaling | None = None
        self.version = ""
        self.epoch = 0
        self.orders: list[tuple[str, Orders]] = []
        self.soon: list[Callable[[], None]] = []
        self.away_since = self.clock.time

    # -- what the scheduler tells, and is told

    def granted(self, leases: Sequence[Lease]) -> None: ...

    def claimed(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            claim = Claimed(token=lease.token, worker=lease.worker, node=lease.node, attempt=lease.attempt)
            self.calls[lease.call.id].claim = claim

    def lost(self, leases: Sequence[Lease], why: str) -> None:
        for lease in leases:
            self.calls[lease.call.id].claim = None
            self.scheduler.submit([self.waiting(lease.call.id, attempts=lease.attempt, token=lease.token)])

    def expired(self, calls: Sequence[WaitingCall], why: str) -> None:
        raise AssertionError("no call may be late here")

    def cannot_start(self, calls: Sequence[WaitingCall], failure: Failure) -> None:
        raise AssertionError("every start succeeds here")

    def payload_missing(self, leases: Sequence[Lease]) -> None:
        raise AssertionError("every payload is at hand here")

    def brake_changed(self, function: Function) -> None: ...

    def beyond_wanted(self, function: Function) -> None:
        raise AssertionError("so many calls never wait here")

    def worker_entered(self, worker: Worker, detail: str) -> None:
        self.workers[worker.id] = (worker.node, worker.key.version)
        if worker.state is WorkerState.GONE:
            del self.workers[worker.id]

    def tuning(self, spec: WorkerSpec) -> Tuning:
        return Tuning(scaling=self.said or spec.function.scaling, queue=Queueing())

    def scaling(self, version: str) -> Scaling:
        return self.said or self.deployed[version]

    def spec(self, version: str) -> WorkerSpec:
        function = FunctionSpec(
            name="f",
            module="m",
            qualname="f",
            image=IMAGE,
            resources=Resources(cpu=0.125, memory_mib=16),
            scaling=self.deployed[version],
        )
        code = CodeBundle(digest="d", size=1, folder="/app")
        return WorkerSpec(
            workspace="default", app="a", environment="main", version=version, function=function, code=code
        )

    def waiting(self, call: str, **more: object) -> WaitingCall:
        key = FunctionKey(self.calls[call].version, "f")
        return WaitingCall(id=call, workspace="default", key=key, payload=PAYLOAD, is_again=bool(more), **more)  # type: ignore[arg-type]  # shorthand

    # -- servers and nodes

    @initialize(scaling=st.builds(Scaling, max_workers=st.integers(1, 4)))
    def begin(self, scaling: Scaling) -> None:
        self.start_server()
        self.deploy(scaling)
        for name in NODES:
            self.link(name)

    def start_server(self) -> None:
        """A scheduler with what was kept: deploys, then workers, then calls."""
        self.epoch += 1
        self.orders.clear()
        self.soon.clear()
        book = OrderBook(lambda node, orders: self.orders.append((node, orders)), self.soon.append, self.soon.append)
        timing = Timing(lease_seconds=LEASE_SECONDS, sweep_seconds=0.25)
        self.scheduler = Scheduler(self.epoch, timing, self.clock, book, self, Policy(tuner=self.tuning))
        unfinished = {name: call for name, call in self.calls.items() if not call.is_over}
        for version in dict.fromkeys([self.version, *(call.version for call in unfinished.values())]):
            if version:
                is_old = version != self.version
                self.scheduler.add_function(FunctionKey(version, "f"), self.spec(version), is_superseded=is_old)
        for worker, (node, version) in self.workers.items():
            self.scheduler.expect(worker, node, FunctionKey(version, "f"))
        waiting = []
        for name, call in unfinished.items():
            if call.claim is None:
                waiting.append(self.waiting(name))
            else:
                self.scheduler.restore(self.waiting(name), call.claim)
        self.scheduler.submit(waiting)

    def link(self, name: str) -> None:
        machine = self.machines[name]
        machine.is_linked = True
        held = tuple(
            HeldWorker(
                worker=worker,
                spec=process.spec,
                state=WorkerState.BUSY if process.calls and process.state is WorkerState.READY else process.state,
                since=1.0,
                calls=tuple((call, token, attempt) for call, (token, attempt) in process.calls.items()),
            )
            for worker, process in machine.processes.items()
        )
        hello = Hello(
            node=name, incarnation=str(machine.incarnation), protocol=1, cpu=2.0, memory_mib=1024, workers=held
        )
        for worker in self.scheduler.connect(hello):
            self.end_process(machine, worker)
        ends, machine.ends = machine.ends, []
        for call, token in ends:
            self.report_end(call, token)
        self.settle()

    def settle(self) -> None:
        """Let orders reach the nodes that are linked; those to others are lost, as on a link that is down."""
        while self.soon:
            soon, self.soon[:] = list(self.soon), []
            for run in soon:
                run()
            orders, self.orders[:] = list(self.orders), []
            for node, order in orders:
                if self.machines[node].is_linked:
                    self.obey(self.machines[node], order)

    def obey(self, machine: Machine, orders: Orders) -> None:
        for start in orders.start:
            machine.processes[start.worker] = Process(start.spec)
            there, ceiling = self.count(start.spec.version), self.scaling(start.spec.version).max_workers
            assert ceiling is None or there <= ceiling, f"{there} workers where there may be {ceiling}"
        for cancel in orders.cancel:
            for process in machine.processes.values():
                if process.calls.get(cancel.call, (None, 0))[0] == cancel.token:
                    del process.calls[cancel.call]
        for stop in orders.stop:
            if stop.worker in machine.processes:
                self.obey_stop(machine, stop.worker, now=stop.now)
        for run in orders.run:
            self.obey_run(machine, run)
        for back in orders.ask_back:
            for process in machine.processes.values():
                held = process.calls.get(back.call)
                if held is not None and held[0] == back.token and process.state is WorkerState.STARTING:
                    del process.calls[back.call]
                    self.scheduler.take_back(back.call, back.token)

    def obey_stop(self, machine: Machine, worker: str, *, now: bool) -> None:
        process = machine.processes[worker]
        assert not now, "no node is silent for long enough that one should be killed"
        assert not process.calls, f"{worker} has {list(process.calls)}, and was told to leave"
        if process.version == self.version and self.count(self.version) <= self.floor(self.version):
            raise AssertionError(f"{worker} was told to leave, and a floor keeps it")
        self.end_process(machine, worker)
        self.tell(machine, worker, WorkerState.GONE)

    def obey_run(self, machine: Machine, run: RunCall) -> None:
        assert run.worker in machine.processes, f"{run.call} was given to {run.worker}, which is not there"
        machine.processes[run.worker].calls[run.call] = (run.token, run.attempt)

    def end_process(self, machine: Machine, worker: str) -> None:
        machine.processes.pop(worker, None)

    def tell(self, machine: Machine, worker: str, state: WorkerState) -> None:
        self.scheduler.worker_changed(machine.name, WorkerChange(worker=worker, state=state, at=self.clock.time))

    def report_end(self, call: str, token: Token) -> None:
        lease = self.scheduler.release(call, token, 1.0)
        if lease is not None:
            assert not self.calls[call].is_over, f"{call} ended twice"
            self.calls[call].is_over = True
            self.scheduler.refill([lease.call.key])

    def count(self, version: str) -> int:
        return sum(one.version == version for machine in self.machines.values() for one in machine.processes.values())

    def floor(self, version: str) -> int:
        scaling = self.scaling(version)
        return min(scaling.min_workers, 4 if scaling.max_workers is None else scaling.max_workers)

    def busy(self) -> list[tuple[Machine, str, str]]:
        """The calls that run: where, on which worker, and which."""
        return [
            (machine, worker, call)
            for machine in self.machines.values()
            for worker, process in machine.processes.items()
            for call in list(process.calls)[:1]
            if process.state is WorkerState.READY
        ]

    # -- what happens

    @rule(count=st.integers(1, 5))
    def submit(self, count: int) -> None:
        names = [f"call-{len(self.calls) + n}" for n in range(count)]
        self.calls.update({name: Kept(self.version) for name in names})
        self.scheduler.submit([self.waiting(name) for name in names])
        self.settle()

    @rule(which=st.integers(0, 10))
    def finish_a_start(self, which: int) -> None:
        starting = [
            (machine, worker)
            for machine in self.machines.values()
            for worker, process in machine.processes.items()
            if process.state is WorkerState.STARTING
        ]
        if starting:
            machine, worker = starting[which % len(starting)]
            machine.processes[worker].state = WorkerState.READY
            if machine.is_linked:
                self.tell(machine, worker, WorkerState.READY)
                self.settle()

    @rule(which=st.integers(0, 10))
    def end_a_call(self, which: int) -> None:
        busy = self.busy()
        if busy:
            machine, worker, call = busy[which % len(busy)]
            token, _ = machine.processes[worker].calls.pop(call)
            if machine.is_linked:
                self.report_end(call, token)
                self.settle()
            else:
                machine.ends.append((call, token))

    @rule(
        scaling=st.builds(
            Scaling,
            min_workers=st.integers(0, 3),
            max_workers=st.integers(1, 5),
            buffer_workers=st.integers(0, 2),
            scaledown_window_seconds=st.sampled_from([0.0, 5.0, 60.0]),
            scaleup_delay_seconds=st.sampled_from([0.0, 2.0]),
            scaledown_per_minute=st.none() | st.just(1.0),
            target_utilization=st.sampled_from([1.0, 0.5]),
            prewarm=st.booleans(),
        )
        | st.none()
    )
    def scale(self, scaling: Scaling | None) -> None:
        self.said = scaling
        self.scheduler.retune()
        self.settle()

    @rule(scaling=st.builds(Scaling, min_workers=st.integers(0, 2), max_workers=st.integers(1, 4)))
    def deploy(self, scaling: Scaling) -> None:
        """Another version, or one that is as an earlier one was, which is what a rollback comes to."""
        before, self.version = self.version, f"v{len(self.deployed)}"
        self.deployed[self.version] = scaling
        self.scheduler.add_function(FunctionKey(self.version, "f"), self.spec(self.version))
        if before:
            self.scheduler.supersede_version(before)
        self.settle()

    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0, 61.0]))
    def let_time_pass(self, seconds: float) -> None:
        """A link is never down for as long as a lease lasts: calls would be given to others, as they should."""
        for machine in self.machines.values():
            if not machine.is_linked and self.clock.time + seconds - self.away_since >= LEASE_SECONDS:
                self.link(machine.name)
        end = self.clock.time + seconds
        while self.clock.time < end:
            self.clock.time = min(end, self.clock.time + 5.0)
            for machine in self.machines.values():
                if machine.is_linked:
                    calls = [call for process in machine.processes.values() for call in process.calls]
                    self.scheduler.heard(machine.name, calls)
            self.scheduler.wake()
            self.scheduler.sweep()
            self.settle()

    @rule(name=st.sampled_from(NODES))
    def lose_a_link(self, name: str) -> None:
        if all(machine.is_linked for machine in self.machines.values()):
            self.away_since = self.clock.time
        self.machines[name].is_linked = False
        self.scheduler.disconnect(name)
        self.settle()

    @rule(name=st.sampled_from(NODES))
    def link_again(self, name: str) -> None:
        if not self.machines[name].is_linked:
            self.link(name)

    @rule(name=st.sampled_from(NODES))
    def kill_an_agent(self, name: str) -> None:
        """All it had ends with it, and another comes in its place."""
        machine = self.machines[name]
        machine.incarnation += 1
        machine.processes.clear()
        machine.ends.clear()
        self.link(name)

    @rule()
    def kill_the_server(self) -> None:
        if all(machine.is_linked for machine in self.machines.values()):
            self.away_since = self.clock.time
        for machine in self.machines.values():
            machine.is_linked = False
        self.start_server()
        self.settle()

    # -- what is always true

    @invariant()
    def floors_are_kept_where_there_is_room(self) -> None:
        if not self.version or not all(machine.is_linked for machine in self.machines.values()):
            return
        function = self.scheduler.function(FunctionKey(self.version, "f"))
        assert function is not None
        staying = len(function.staying()) + len(function.expected)
        leaving = len(function.workers) - len(function.staying())
        is_held_up = function.no_place is not None or leaving > 0
        assert staying >= self.floor(self.version) or is_held_up, f"{staying} workers under a floor"

    def teardown(self) -> None:
        """Left alone, all that was taken ends."""
        if not self.version:
            return
        self.scale(Scaling(max_workers=4))
        for _ in range(400):
            for name in NODES:
                self.link_again(name)
            if all(call.is_over for call in self.calls.values()):
                return
            self.finish_a_start(0)
            self.end_a_call(0)
            self.let_time_pass(0.5)
        left = {name: call for name, call in self.calls.items() if not call.is_over}
        raise AssertionError(f"these calls did not end: {left}")


TestScaling = Scaled.TestCase
TestScaling.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_a_call_that_two_workers_hold_since_two_servers_ended_is_taken_from_the_earlier() -> None:
    scaled = Scaled()
    scaled.begin(Scaling(max_workers=4))
    scaled.submit(1)
    first, other = sorted(scaled.machines.values(), key=lambda machine: not machine.processes)

    scaled.kill_the_server()
    scaled.link(other.name)
    scaled.scale(Scaling(min_workers=2, max_workers=4))
    had = [list(process.calls) for machine in (first, other) for process in machine.processes.values()]
    scaled.kill_the_server()
    scaled.link(first.name)
    scaled.link(other.name)

    has = [list(process.calls) for machine in (first, other) for process in machine.processes.values()]
    assert (had, has) == ([["call-0"], ["call-0"]], [[], ["call-0"]])
