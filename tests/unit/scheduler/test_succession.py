"""A version that replaces another at once: what waits is its own, and no worker of it is beside one of the other's."""

from __future__ import annotations

from dataclasses import replace

from relight.protocol.calls import Token
from relight.protocol.manifest import Scaling
from relight.protocol.payload import Payload
from relight.protocol.workers import WorkerState
from relight.scheduler.leases import Claimed
from relight.scheduler.queue import FunctionKey, WaitingCall
from scheduled import World, held_worker

NEW = FunctionKey("v-2", "f")


def replaced(world: World) -> None:
    """Another version of the same function takes its place."""
    function = world.scheduler.function(world.key)
    assert function is not None
    world.scheduler.serve_version(NEW.version, is_alone=True)
    world.scheduler.add_function(NEW, replace(function.spec, version=NEW.version))
    world.scheduler.replace_version(world.key.version, NEW.version)


def why(world: World, call: str) -> str:
    return world.scheduler.why_waiting(call, NEW)


def test_a_version_begins_when_the_last_worker_before_it_is_gone() -> None:
    world = World()
    world.node()
    world.submit("a")
    (old,) = world.ready()
    runs = world.runs()

    replaced(world)
    world.submit("b", key=NEW)
    early = (world.started(), why(world, "b"))
    world.end(*runs)
    drained = world.started()
    world.report(old, WorkerState.GONE)
    (new,) = world.started()

    assert early == ([], "replacing: 1 workers of the version before are to be gone first, and have 1 calls to end")
    assert drained == []
    worker = world.scheduler.worker(new)
    assert worker is not None
    assert worker.key == NEW


def test_what_waits_is_for_the_version_after_and_what_runs_is_not_stopped() -> None:
    world = World(scaling=Scaling(max_workers=1))
    world.node()
    world.submit("a")
    world.ready()
    world.submit("b", "c")

    replaced(world)

    orders = world.flush()
    assert world.inherited_calls == [("b", "v-2"), ("c", "v-2")]
    assert [(stop.now) for sent in orders for stop in sent.stop] == [False]
    assert world.scheduler.lease("a") is not None


def test_what_a_running_call_waits_for_stays_with_its_version() -> None:
    world = World()
    world.node()
    world.submit("a")
    world.ready()
    replaced(world)
    payload = Payload(format="json", data=b"1")
    child = WaitingCall(id="child", workspace="default", key=world.key, payload=payload, parent="a", is_awaited=True)

    world.scheduler.submit([child])
    (helper,) = world.started()
    world.report(helper, WorkerState.READY)
    world.end(*[run for run in world.runs() if run[0] == "child"])

    assert world.inherited_calls == []
    worker = world.scheduler.worker(helper)
    assert worker is not None
    assert worker.is_leaving


def test_a_call_that_is_tried_again_is_tried_by_the_version_after() -> None:
    world = World()
    world.node()
    world.submit("a")
    (old,) = world.ready()
    world.runs()
    replaced(world)
    world.report(old, WorkerState.GONE)

    world.submit("a")

    assert world.inherited_calls == [("a", "v-2")]


def test_without_workers_before_it_a_version_begins_at_once() -> None:
    world = World()
    world.node()
    replaced(world)

    world.submit("b", key=NEW)

    assert len(world.started()) == 1


def test_a_scheduler_that_comes_back_waits_for_what_ran_before() -> None:
    world = World()
    call = WaitingCall(id="a", workspace="default", key=world.key, payload=Payload(format="json", data=b"1"))
    world.scheduler.restore(call, Claimed(token=Token(6, 1), worker="w", node="n1", attempt=1))
    replaced(world)
    world.submit("b", key=NEW)
    unseen = why(world, "b")
    world.node(workers=(held_worker(world, "w", ("a", Token(6, 1), 1)),))
    seen = (world.started(), why(world, "b"))
    world.report("w", WorkerState.GONE)

    assert unseen.startswith("replacing: 1 workers")
    assert seen[0] == []
    assert seen[1].startswith("replacing: 1 workers")
    assert len(world.started()) == 1


def test_the_way_back_waits_for_what_came_after() -> None:
    world = World()
    world.node()
    replaced(world)
    world.submit("b", key=NEW)
    (new,) = world.ready()

    world.scheduler.serve_version(world.key.version, is_alone=True)
    world.scheduler.replace_version(NEW.version, world.key.version)
    world.submit("c")
    early = world.started()
    world.report(new, WorkerState.GONE)

    assert early == []
    assert len(world.started()) == 1
