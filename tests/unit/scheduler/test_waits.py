"""Running calls that wait for others: what their workers lend, and how long a circle of them stands."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from relight.protocol.link import GpuFact, Hello, WorkerSpec
from relight.protocol.manifest import CodeBundle, FunctionSpec, GpuRequest, HostImage, Resources, Scaling
from relight.protocol.workers import WorkerState
from relight.scheduler.brake import Brake
from relight.scheduler.deadlock import Wait
from relight.scheduler.leases import Leases
from relight.scheduler.placement import NoPlace, place
from relight.scheduler.queue import FunctionKey, WaitingCall
from relight.scheduler.state import Function, Node, Worker
from relight.scheduler.waits import LINGER_SECONDS, LOOK_SECONDS, STAND_SECONDS, Waits, World
from relight.scheduler.yielding import give_way
from scheduled import wanted_workers

IMAGE = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
NOW = 1000.0


@dataclass
class Place:
    """One node with two cores, and what a test puts there."""

    functions: dict[FunctionKey, Function] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    leases: Leases = field(default_factory=lambda: Leases(1, 30.0))

    def __post_init__(self) -> None:
        gpus = (GpuFact(id="g0", kind="A100"),)
        hello = Hello(node="n", incarnation="i", protocol=1, cpu=2.0, memory_mib=1024, gpus=gpus)
        self.nodes["n"] = Node(id="n", hello=hello)
        world = World(functions=self.functions, workers=self.workers, nodes=self.nodes, leases=self.leases)
        self.waits = Waits(world)

    def function(
        self, name: str, *, resources: Resources | None = None, most: int | None = None, least: int = 0
    ) -> Function:
        spec = FunctionSpec(
            name=name,
            module="m",
            qualname=name,
            image=IMAGE,
            resources=resources or Resources(),
            scaling=Scaling(max_workers=most, min_workers=least),
        )
        key = FunctionKey("v", name)
        code = CodeBundle(digest="d", size=1, folder="/app")
        worker = WorkerSpec(workspace="w", app="a", environment="main", version="v", function=spec, code=code)
        function = self.functions[key] = Function(key=key, spec=worker)
        return function

    def worker(self, function: Function, name: str, *calls: str, gpus: tuple[str, ...] = ()) -> Worker:
        state = WorkerState.BUSY if calls else WorkerState.IDLE
        worker = Worker(
            id=name,
            node="n",
            key=function.key,
            spec=replace(function.spec, gpus=gpus),
            state=state,
            since=NOW + len(self.workers),
            since_unix=NOW,
        )
        worker.calls = set(calls)
        self.workers[name] = function.workers[name] = self.nodes["n"].workers[name] = worker
        for call in calls:
            self.leases.grant(WaitingCall(id=call, workspace="w", key=function.key), name, "n", NOW)
        return worker

    def queue(self, function: Function, *calls: str, not_before: float = 0.0) -> None:
        for call in calls:
            function.queue.push(WaitingCall(id=call, workspace="w", key=function.key, not_before=not_before), NOW)

    def end(self, now: float) -> list[str]:
        return [call for call, _, _ in self.waits.look(now)]


@pytest.fixture
def here() -> Place:
    return Place()


def circle(here: Place) -> Function:
    """A call of a function waits for another of it, and there may be one worker."""
    function = here.function("f", most=1)
    here.worker(function, "w1", "parent")
    here.queue(function, "child")
    here.waits.begin("parent", Wait(calls=("child",)), NOW)
    return function


# -- lending


def test_a_worker_whose_call_waits_lends_its_cpu_and_keeps_its_memory_and_gpus(here: Place) -> None:
    function = here.function("f", resources=Resources(cpu=1.5, memory_mib=256))
    here.worker(function, "w1", "parent", gpus=("g0",))
    before = here.nodes["n"].room()

    assert here.waits.begin("parent", Wait(calls=("child",)), NOW)

    lent = here.nodes["n"].room()
    assert (before.free_cpu, lent.free_cpu) == (0.5, 2.0)
    assert (before.free_memory_mib, lent.free_memory_mib) == (768, 768)
    assert (before.free_gpus, lent.free_gpus) == ((), ())


def test_a_cpu_is_lent_until_the_last_of_several_waits_is_over(here: Place) -> None:
    worker = here.worker(here.function("f"), "w1", "parent")
    first, second = Wait(calls=("a",)), Wait(calls=("b",))
    assert here.waits.begin("parent", first, NOW)
    assert not here.waits.begin("parent", second, NOW)

    here.waits.end("parent", first, NOW, is_over=True)
    assert worker.is_lending
    here.waits.end("parent", second, NOW, is_over=True)

    assert not worker.is_lending


def test_a_wait_that_is_asked_again_lingers_in_between(here: Place) -> None:
    worker = here.worker(here.function("f"), "w1", "parent")
    wait = Wait(calls=("a",))
    here.waits.begin("parent", wait, NOW)

    here.waits.end("parent", wait, NOW, is_over=False)

    here.waits.look(NOW + LINGER_SECONDS / 2)
    assert worker.is_lending
    here.waits.look(NOW + LINGER_SECONDS * 2)
    assert not worker.is_lending


def test_a_call_that_does_not_run_lends_nothing(here: Place) -> None:
    assert not here.waits.begin("nobody", Wait(calls=("a",)), NOW)


def test_a_worker_whose_call_waits_is_given_none_ahead_and_counts_as_busy(here: Place) -> None:
    function = here.function("f")
    function.mean_seconds = 0.0001
    worker = here.worker(function, "w1", "parent")
    worker.credit, worker.moved_at = 128, NOW
    here.queue(function, "child")
    assert worker.takes(function.depth(), NOW)
    assert wanted_workers(function.load(NOW), Scaling()) == 1

    here.waits.begin("parent", Wait(calls=("child",)), NOW)

    assert not worker.takes(function.depth(), NOW)
    assert wanted_workers(function.load(NOW), Scaling()) == 2


# -- circles


def test_a_circle_is_shown_at_once_and_broken_when_it_has_stood(here: Place) -> None:
    function = circle(here)

    assert here.end(NOW) == []
    assert here.waits.reason("child").startswith("deadlock: cannot start f: its only worker runs a call that waits")
    assert here.end(NOW + STAND_SECONDS - 0.1) == []
    assert here.end(NOW + STAND_SECONDS + LOOK_SECONDS) == ["child"]
    assert here.waits.reason("parent") == ""
    function.queue.remove("child")
    assert here.end(NOW + STAND_SECONDS + 2 * LOOK_SECONDS) == []


def test_a_circle_that_was_undone_meanwhile_stands_anew(here: Place) -> None:
    function = circle(here)
    here.end(NOW)
    wait = Wait(calls=("child",))
    here.waits.begin("parent", wait, NOW + 1)
    function.brake = Brake(crashes=1, blocked_until=NOW + 2)  # something else holds it up for a while
    here.end(NOW + 1)

    assert here.waits.reason("child") == ""
    assert here.end(NOW + STAND_SECONDS + 0.5) == []
    assert here.end(NOW + 2 * STAND_SECONDS + 0.5 + LOOK_SECONDS) == ["child"]


def test_the_end_of_the_waiting_call_ends_the_circle(here: Place) -> None:
    circle(here)
    here.end(NOW)
    lease = here.leases.get("parent")
    assert lease is not None

    here.leases.release("parent", lease.token)

    assert here.end(NOW + STAND_SECONDS + LOOK_SECONDS) == []
    assert not here.workers["w1"].waiting


@pytest.mark.parametrize(
    "change",
    [
        "another worker is at work",
        "another worker is free",
        "a retry is due later",
        "the next start is held back",
        "there may be more workers",
        "the app is stopped",
    ],
)
def test_what_will_go_on_by_itself_is_no_circle(here: Place, change: str) -> None:
    function = circle(here)
    if change == "another worker is at work":
        here.worker(function, "w2", "other")
    elif change == "another worker is free":
        here.worker(function, "w2")
    elif change == "a retry is due later":
        function.queue.remove("child")
        here.queue(function, "child", not_before=NOW + 60)
    elif change == "the next start is held back":
        function.brake = Brake(crashes=1, blocked_until=NOW + 60)
    elif change == "there may be more workers":
        function.tune(replace(function.tuning, scaling=replace(function.scaling, max_workers=2)))
    else:
        function.is_stopped = True

    here.end(NOW)

    assert here.end(NOW + STAND_SECONDS + LOOK_SECONDS) == []


def test_a_gpu_that_only_waiting_calls_hold_is_a_circle(here: Place) -> None:
    gpu = Resources(gpu=(GpuRequest(kind="A100", count=1),))
    here.worker(here.function("f", resources=gpu), "w1", "parent", gpus=("g0",))
    here.queue(here.function("g", resources=gpu), "child")
    here.waits.begin("parent", Wait(calls=("child",)), NOW)

    here.end(NOW)

    assert here.end(NOW + STAND_SECONDS + LOOK_SECONDS) == ["child"]
    assert "all room on the nodes is held by calls that wait" in here.waits.reason("child")


@pytest.mark.parametrize("change", ["its holder is at work", "a node is away", "no node has so many"])
def test_room_that_may_come_is_no_circle(here: Place, change: str) -> None:
    many = 2 if change == "no node has so many" else 1
    gpu = Resources(gpu=(GpuRequest(kind="A100", count=1),))
    here.worker(here.function("f"), "w1", "parent", gpus=() if change == "its holder is at work" else ("g0",))
    here.queue(here.function("g", resources=Resources(gpu=(GpuRequest(kind="A100", count=many),))), "child")
    if change == "its holder is at work":
        here.worker(here.function("h", resources=gpu), "w2", "other", gpus=("g0",))
    if change == "a node is away":
        here.nodes["m"] = Node(id="m", hello=replace(here.nodes["n"].hello, node="m"), is_connected=False)
    here.waits.begin("parent", Wait(calls=("child",)), NOW)

    here.end(NOW)

    assert here.end(NOW + STAND_SECONDS + LOOK_SECONDS) == []


# -- giving way


def test_as_many_idle_workers_give_way_as_it_takes(here: Place) -> None:
    half = here.function("half", resources=Resources(cpu=0.5))
    for number in range(6):  # three cores' worth of them: they lent what they have back now
        here.worker(half, f"w{number}")
    wanted = here.function("wanted", resources=Resources(cpu=0.5))
    assert isinstance(place(wanted.spec.function.resources, [here.nodes["n"].room()]), NoPlace)

    gone = give_way(wanted, list(here.nodes.values()), here.functions)

    assert [one.id for one in gone] == ["w0", "w1", "w2"]


def test_workers_that_would_make_no_difference_stay(here: Place) -> None:
    idle = here.function("idle")
    here.worker(idle, "w0")
    here.worker(idle, "w1", gpus=("g0",))
    wanted = here.function("wanted", resources=Resources(gpu=(GpuRequest(kind="A100", count=1),)))

    assert [one.id for one in give_way(wanted, list(here.nodes.values()), here.functions)] == ["w1"]


def test_workers_that_a_floor_keeps_stay(here: Place) -> None:
    kept = here.function("kept", resources=Resources(cpu=1.0), least=1)
    here.worker(kept, "w0")
    here.worker(kept, "w1")
    one, two = (here.function(f"wants{cpu}", resources=Resources(cpu=cpu)) for cpu in (1.0, 2.0))

    assert [worker.id for worker in give_way(one, list(here.nodes.values()), here.functions)] == ["w0"]
    assert give_way(two, list(here.nodes.values()), here.functions) == []
