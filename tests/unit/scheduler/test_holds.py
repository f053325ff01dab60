"""Calls that go along with the order to start their worker: they never wait longer for that, and never count as begun."""

from __future__ import annotations

from relight.protocol.calls import Token
from relight.protocol.errors import Failure
from relight.protocol.exits import WorkerExit
from relight.protocol.link import Hello, Orders
from relight.protocol.manifest import Scaling
from relight.protocol.workers import WorkerState
from relight.scheduler.brake import START_ATTEMPTS
from relight.scheduler.queue import WaitingCall
from relight.scheduler.state import STALL_SECONDS
from scheduled import LEASE_SECONDS, World, held_worker

FAILURE = Failure(code="start_failed", message="no module named 'x'")
FAILED = WorkerExit(reason="start_failed")


def asked_back(sent: list[Orders]) -> list[str]:
    return [one.call for orders in sent for one in orders.ask_back]


def runs_of(sent: list[Orders]) -> list[tuple[str, str]]:
    return [(run.call, run.worker) for orders in sent for run in orders.run]


def started_by(*calls: str) -> tuple[World, list[str]]:
    """Calls that went along with the starts of workers, which are under way."""
    world = World()
    world.node()
    world.submit(*calls)
    return world, world.started()


def test_the_call_that_a_worker_is_started_for_goes_along_in_the_same_message() -> None:
    world = World()
    world.node()
    world.submit("a")

    (orders,) = world.flush()

    assert [(run.call, run.worker) for run in orders.run] == [("a", orders.start[0].worker)]
    assert world.begun == []
    assert world.scheduler.why_waiting("a", world.key) == "starting:placing: a worker is on its way"


def test_a_held_call_begins_when_its_worker_is_ready_and_not_before() -> None:
    world, (worker,) = started_by("a")
    world.report(worker, WorkerState.STARTING)
    world.clock.time += 2.0
    world.report(worker, WorkerState.READY)
    lease = world.scheduler.lease("a")

    assert lease is not None
    assert (lease.is_held, lease.granted_at, lease.attempt) == (False, world.clock.time, 1)
    assert world.begun == ["a"]
    assert world.states[-2:] == [(worker, WorkerState.READY), (worker, WorkerState.BUSY)]
    assert world.scheduler.why_waiting("a", world.key) == ""


def test_a_held_call_is_said_to_have_begun_when_its_worker_was_ready_though_that_is_told_later() -> None:
    world, (worker,) = started_by("a")
    world.clock.time += 1.0
    change = world.change(worker, WorkerState.READY)
    world.clock.time += 0.01

    world.scheduler.worker_changed("n1", change)

    lease = world.scheduler.lease("a")
    assert lease is not None
    assert lease.granted_at == world.clock.time - 0.01


def test_a_start_that_fails_gives_its_call_back_which_counts_no_attempt_and_goes_first() -> None:
    world = World(scaling=Scaling(max_workers=1))
    world.node()
    world.submit("a", "b")
    (worker,) = world.started()
    world.runs()

    world.report(worker, WorkerState.GONE, failure=FAILURE, exit=FAILED)
    between = world.scheduler.why_waiting("a", world.key)
    world.advance(1.0)

    assert between.startswith("crash_loop:start_failed: ")
    assert world.runs() == [("a", Token(7, 2))]
    assert world.lost_calls == []
    lease = world.scheduler.lease("a")
    assert lease is not None
    assert lease.attempt == 1


def test_starts_that_fail_again_and_again_fail_the_call_they_were_to_run() -> None:
    world = World(scaling=Scaling(max_workers=1))
    world.node()
    world.submit("a", "b")
    for _ in range(START_ATTEMPTS):
        (worker,) = world.started()
        world.report(worker, WorkerState.GONE, failure=FAILURE, exit=FAILED)
        world.advance(1.0)

    assert sorted(call for call, _ in world.failed) == ["a", "b"]


def test_a_worker_that_is_free_has_a_held_call_back_from_one_that_is_not_ready_yet() -> None:
    world, (first, second) = started_by("a", "b")
    runs = dict(world.runs())
    world.report(first, WorkerState.READY)
    assert asked_back(world.flush()) == []

    world.end(("a", runs["a"]))
    sent = world.flush()
    again = world.scheduler.take_back("b", runs["b"])

    assert asked_back(sent) == ["b"]
    assert again
    assert runs_of(world.flush()) == [("b", first)]
    assert {one.id: one.calls for one in world.scheduler.workers()} == {first: {"b"}, second: set()}


def test_a_call_that_is_asked_back_too_late_stays_where_it_began() -> None:
    world, (first, second) = started_by("a", "b")
    runs = dict(world.runs())
    world.report(first, WorkerState.READY)
    world.end(("a", runs["a"]))

    world.report(second, WorkerState.READY)

    assert not world.scheduler.take_back("b", runs["b"])
    lease = world.scheduler.lease("b")
    assert lease is not None
    assert (lease.worker, lease.token, lease.is_asked_back) == (second, runs["b"], False)


def test_calls_that_wait_are_given_to_a_free_worker_before_one_that_has_just_gone_along() -> None:
    world = World(scaling=Scaling(max_workers=2))
    world.node()
    world.submit("a", "b", "c")
    first, _ = world.started()
    runs = dict(world.runs())
    world.report(first, WorkerState.READY)

    world.end(("a", runs["a"]))
    sent = world.flush()

    assert (runs_of(sent), asked_back(sent)) == ([("c", first)], [])


def test_a_call_that_has_gone_along_with_a_slow_start_is_before_those_that_came_later() -> None:
    world = World(scaling=Scaling(max_workers=2))
    world.node()
    world.submit("a", "b", "c")
    first, _ = world.started()
    runs = dict(world.runs())
    world.report(first, WorkerState.READY)
    world.clock.time += 2 * STALL_SECONDS

    world.end(("a", runs["a"]))
    sent = world.flush()
    world.scheduler.take_back("b", runs["b"])

    assert (runs_of(sent), asked_back(sent)) == ([], ["b"])
    assert runs_of(world.flush()) == [("b", first)]


def test_short_calls_do_not_go_along_while_a_worker_is_up() -> None:
    world = World()
    world.node()
    world.submit("a")
    (worker,) = world.started()
    world.report(worker, WorkerState.READY, credit=4)
    world.end(*world.runs(), seconds=0.001)

    world.submit(*(f"c{n}" for n in range(500)))
    sent = world.flush()

    assert [orders.start != () for orders in sent] == [True]
    assert {name for _, name in runs_of(sent)} == {worker}


def test_a_held_call_that_is_cancelled_is_for_its_node_to_end() -> None:
    world, (worker,) = started_by("a")
    runs = dict(world.runs())

    world.scheduler.cancel("a", world.key)
    world.report(worker, WorkerState.GONE, exit=FAILED)

    assert [cancel.call for orders in world.flush() for cancel in orders.cancel] == ["a"]
    assert not world.scheduler.take_back("a", runs["a"])
    assert world.scheduler.release("a", runs["a"]) is not None


def test_a_held_call_waits_no_longer_than_it_may() -> None:
    world = World()
    world.node()
    limit = world.clock.time + 5
    world.scheduler.submit([WaitingCall(id="a", workspace="default", key=world.key, expires_at=limit)])
    ((_, token),) = world.runs()

    world.advance(5)
    sent = world.flush()
    world.scheduler.take_back("a", token)
    world.advance(0.25)

    assert asked_back(sent) == ["a"]
    assert world.expired_calls == ["a"]


def test_a_node_that_is_lost_before_its_worker_was_ready_costs_no_attempt() -> None:
    world, _ = started_by("a")
    world.runs()

    world.scheduler.forget_node("n1", "it was killed")
    world.node()

    assert (world.runs(), world.lost_calls) == ([("a", Token(7, 2))], [])


def test_a_silent_node_loses_what_it_held_after_the_lease_and_not_before() -> None:
    world, _ = started_by("a")

    world.advance(LEASE_SECONDS - 1)
    before = world.scheduler.lease("a")
    world.scheduler.heard("n1", ["a"])
    world.advance(LEASE_SECONDS - 1)
    still = world.scheduler.lease("a")
    world.advance(2)

    assert before is still is not None
    assert world.scheduler.lease("a") is None
    assert world.scheduler.why_waiting("a", world.key)
    assert world.lost_calls == []


def test_a_start_whose_order_was_lost_with_the_link_is_ordered_again_with_its_call() -> None:
    world, (before,) = started_by("a")
    world.runs()

    world.scheduler.disconnect("n1")
    world.node()
    (after,) = world.started()

    assert after != before
    assert [call for call, _ in world.runs()] == ["a"]


def test_what_a_node_was_asked_for_while_its_link_broke_is_asked_again() -> None:
    world, (first, second) = started_by("a", "b")
    runs = dict(world.runs())
    world.report(first, WorkerState.READY)
    world.end(("a", runs["a"]))
    assert asked_back(world.flush()) == ["b"]

    world.scheduler.disconnect("n1")
    world.node(
        workers=(
            held_worker(world, first, state=WorkerState.IDLE),
            held_worker(world, second, ("b", runs["b"], 1), state=WorkerState.STARTING),
        )
    )

    assert asked_back(world.flush()) == ["b"]


def test_a_worker_that_became_ready_while_its_node_was_away_has_begun_its_call() -> None:
    world, (worker,) = started_by("a")
    ((_, token),) = world.runs()

    world.scheduler.disconnect("n1")
    world.node(workers=(held_worker(world, worker, ("a", token, 1)),))

    lease = world.scheduler.lease("a")
    assert lease is not None
    assert (lease.is_held, world.begun) == (False, ["a"])


def test_a_scheduler_that_takes_over_knows_what_is_held() -> None:
    world = World()
    world.submit("a", "b")

    world.node(workers=(held_worker(world, "w1", ("a", Token(6, 4), 1), state=WorkerState.STARTING),))
    held = world.begun == []
    reason = world.scheduler.why_waiting("a", world.key)
    world.report("w1", WorkerState.READY)

    assert held
    assert reason.startswith("starting:starting")
    assert world.begun == ["a"]


def test_a_start_that_takes_long_is_no_reason_for_another() -> None:
    world = World(scaling=Scaling(max_workers=4))
    world.node()
    world.submit("a")
    (worker,) = world.started()
    world.report(worker, WorkerState.READY, credit=4)
    world.end(*world.runs(), seconds=0.02)
    world.report(worker, WorkerState.GONE)
    world.submit("b", "c", "d")
    assert len(world.started()) == 1

    world.advance(2.0)

    assert world.started() == []


def test_a_node_away_is_asked_for_nothing() -> None:
    world, (first, _) = started_by("a", "b")
    runs = dict(world.runs())
    world.report(first, WorkerState.READY)
    world.scheduler.disconnect("n1")
    world.scheduler.connect(Hello(node="n2", incarnation="i", protocol=1, cpu=2.0, memory_mib=1024))
    world.flush()

    world.end(("a", runs["a"]))

    assert asked_back(world.flush()) == []
