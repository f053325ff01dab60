"""Workers that are started ahead of any call: how many, who takes them, and what they give way to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from relight.protocol.exits import WorkerExit
from relight.protocol.link import HeldWorker, WorkerSpec
from relight.protocol.manifest import Resources, Scaling
from relight.protocol.workers import WorkerState
from relight.scheduler.brake import LONGEST_SECONDS
from relight.scheduler.leases import Lease
from unit.scheduler.test_loop import World

WINDOW = 60.0


class Parking(World):
    """A world that keeps what calls found."""

    def __init__(self, buffer: int = 1, **scaling: int) -> None:
        self.found: dict[str, float | None] = {}
        super().__init__(scaling=Scaling(buffer_workers=buffer, scaledown_window_seconds=WINDOW, **scaling))

    def claimed(self, leases: Sequence[Lease]) -> None:
        self.found.update({lease.call.id: lease.parked_seconds for lease in leases})

    def stopped(self) -> list[str]:
        return [stop.worker for orders in self.flush() for stop in orders.stop]

    def kept(self) -> dict[str, WorkerState]:
        return {worker.id: worker.state for worker in self.scheduler.workers() if not worker.is_leaving}


def test_a_buffer_is_ready_before_any_call_and_stays_though_none_comes() -> None:
    world = Parking(buffer=2)
    world.node()
    workers = world.ready(2)

    world.advance(10 * WINDOW)

    assert (world.flush(), set(world.kept())) == ([], set(workers))


def test_the_first_call_after_a_silence_is_given_to_a_parked_worker_at_once_and_another_takes_its_place() -> None:
    world = Parking()
    world.node()
    (parked,) = world.ready()
    world.advance(10 * WINDOW)

    world.submit("a")
    sent = world.flush()

    assert [run.worker for orders in sent for run in orders.run] == [parked]
    assert sum(len(orders.start) for orders in sent) == 1
    assert world.found == {"a": 0.0}


def test_a_call_that_waited_for_its_worker_or_found_one_that_was_used_did_not_find_it_parked() -> None:
    world = Parking(buffer=0)
    world.node()
    world.submit("waited")
    world.ready()
    world.end(world.runs()[0])

    world.submit("warm")

    assert world.found == {"waited": None, "warm": None}


def test_what_a_call_waited_for_a_parked_worker_is_measured_from_when_it_was_due() -> None:
    world = Parking(max_workers=1)
    world.submit("early")  # no node is there yet
    world.clock.time += 2.0
    held = HeldWorker(worker="w", spec=spec_of(world), state=WorkerState.READY, since=world.clock.time)

    world.node(workers=(held,))

    assert world.found == {"early": 2.0}


def test_a_used_worker_takes_the_next_call_so_that_the_buffer_stays_unused_and_is_the_one_that_leaves() -> None:
    world = Parking()
    world.node()
    world.ready()
    world.submit("a")
    world.ready(1)
    world.end(("a", world.scheduler.lease("a").token))  # type: ignore[union-attr]  # it runs

    world.submit("b")
    world.end(("b", world.scheduler.lease("b").token))  # type: ignore[union-attr]  # it runs
    world.flush()
    world.advance(WINDOW + 1)

    assert world.found["b"] is None
    (used,) = world.stopped()
    assert [state for worker, state in world.kept().items()] == [WorkerState.READY]
    assert used not in world.kept()


@pytest.mark.parametrize(
    ("scaling", "wanted"), [({"max_workers": 1}, 1), ({"min_workers": 1}, 2), ({"min_workers": 4}, 4)]
)
def test_a_buffer_counts_within_max_workers_and_the_floor_within_the_buffer(
    scaling: dict[str, int], wanted: int
) -> None:
    world = Parking(buffer=2, **scaling)
    world.node()

    assert len(world.started()) == wanted


def test_the_buffer_of_a_worker_that_is_busy_for_long_is_not_given_up_and_started_again() -> None:
    world = Parking()
    world.node()
    world.ready()
    world.submit("long")
    world.ready(1)

    for _ in range(12):
        world.scheduler.heard("n1", ["long"])
        world.advance(WINDOW / 4)

    assert [(orders.stop, orders.start) for orders in world.flush() if orders.stop or orders.start] == []


def test_a_version_that_was_superseded_lets_its_buffer_go_at_once_and_one_that_was_stopped_as_well() -> None:
    for end in (
        lambda world: world.scheduler.supersede_version("v-f"),
        lambda world: world.scheduler.stop_version("v-f", now=False),
    ):
        world = Parking()
        world.node()
        (parked,) = world.ready()

        end(world)
        stopped = world.stopped()
        world.report(parked, WorkerState.GONE, exit=WorkerExit(reason="stopped"))
        world.advance(WINDOW)

        assert (stopped, world.started()) == ([parked], [])


def test_a_buffer_gives_way_to_a_call_and_comes_back_when_there_is_room_again() -> None:
    world = Parking(buffer=1)
    world.node()
    (parked,) = world.ready()
    big = world.function("g", resources=Resources(cpu=2), scaling=Scaling(scaledown_window_seconds=1))
    world.submit("b", key=big)
    stopped = world.stopped()

    world.report(parked, WorkerState.GONE, exit=WorkerExit(reason="stopped"))
    begun = [start.spec.function.name for orders in world.flush() for start in orders.start]

    assert (stopped, begun) == ([parked], ["g"])
    (worker,) = [one.id for one in world.scheduler.workers()]
    world.report(worker, WorkerState.READY)
    world.scheduler.release("b", world.scheduler.lease("b").token, 1.0)  # type: ignore[union-attr]  # it runs
    world.scheduler.refill([big])
    world.advance(2)
    assert worker in world.stopped()
    world.report(worker, WorkerState.GONE, exit=WorkerExit(reason="stopped"))
    world.advance(0.25)
    assert len(world.started()) == 1


def test_where_there_is_no_room_for_a_buffer_nobody_is_asked_for_it() -> None:
    world = Parking(buffer=1)
    other = world.function("g", resources=Resources(cpu=2))
    world.submit("b", key=other)
    world.node()
    assert [start.spec.function.name for orders in world.flush() for start in orders.start] == ["g"]

    for _ in range(40):
        world.advance(0.25)

    assert world.flush() == []


@pytest.mark.parametrize("is_ready_first", [False, True])
def test_a_buffer_whose_workers_die_is_started_ever_more_rarely(is_ready_first: bool) -> None:
    world = Parking()
    world.node()
    starts = 0
    for _ in range(4 * 3600):
        for worker in world.started():
            starts += 1
            if is_ready_first:
                world.report(worker, WorkerState.READY)
            world.report(worker, WorkerState.GONE, exit=WorkerExit(reason="signal:SIGSEGV", signal=11))
        world.advance(0.25)

    assert 3600 / LONGEST_SECONDS <= starts <= 3600 / LONGEST_SECONDS + 12
    world.submit("a")
    assert "signal:SIGSEGV" in world.scheduler.why_waiting("a", world.key)


def test_a_node_that_is_gone_is_replaced_and_one_that_comes_back_keeps_what_it_has() -> None:
    world = Parking()
    world.node(incarnation="i1")
    (parked,) = world.ready()
    held = HeldWorker(worker=parked, spec=spec_of(world), state=WorkerState.READY, since=1.0)

    world.node(incarnation="i1", workers=(held,))
    after_a_break = world.started()
    world.node(incarnation="i2")

    assert after_a_break == []
    assert len(world.started()) == 1


def test_a_bindings_buffer_is_there_only_while_its_calls_are() -> None:
    world = Parking()
    key = world.key._replace(binding='{"parameters":{"size":"7b"}}')
    world.scheduler.add_function(key, replace(spec_of(world), binding=key.binding))
    world.node()
    assert len(world.started()) == 1  # that of the function itself

    world.submit("a", key=key)

    assert len(world.started()) == 2
    for worker in [one for one in world.scheduler.workers() if one.key == key]:
        world.report(worker.id, WorkerState.READY)
    world.scheduler.release("a", world.scheduler.lease("a").token, 1.0)  # type: ignore[union-attr]  # it runs
    world.scheduler.refill([key])
    world.flush()
    world.advance(WINDOW + 1)
    assert len(world.stopped()) == 2


def spec_of(world: World) -> WorkerSpec:
    return world.scheduler._functions[world.key].spec
