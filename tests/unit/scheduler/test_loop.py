"""The scheduler as a whole, under a clock that stands still: who is given what, and what becomes of silence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from relight.protocol.calls import Token
from relight.protocol.errors import Failure
from relight.protocol.exits import WorkerExit
from relight.protocol.link import HeldWorker, Orders, WorkerChange, WorkerSpec, template_key
from relight.protocol.manifest import CodeBundle, FunctionSpec, Queueing, Resources, Scaling
from relight.protocol.payload import Payload
from relight.protocol.templates import TemplateOutcome, TemplateState
from relight.protocol.workers import WorkerState
from relight.scheduler.brake import CRASH_ATTEMPTS, START_ATTEMPTS
from relight.scheduler.leases import Claimed, Lease
from relight.scheduler.orders import OrderBook
from relight.scheduler.queue import WaitingCall
from relight.scheduler.state import Tuning
from scheduled import IMAGE, LEASE_SECONDS, World, held_worker


def test_a_call_starts_a_worker_and_is_given_to_it_when_it_is_ready() -> None:
    world = World()
    world.node()
    world.submit("a")
    (worker,) = world.ready()

    assert world.runs() == [("a", Token(7, 1))]
    assert [state for name, state in world.states if name == worker] == [
        WorkerState.REQUESTED,
        WorkerState.PLACING,
        WorkerState.READY,
        WorkerState.BUSY,
    ]


def test_an_idle_worker_takes_the_next_call_at_once_and_orders_of_one_turn_are_one_message() -> None:
    world = World(scaling=Scaling(max_workers=2))
    world.node()
    world.submit("a", "b")
    world.ready(2)
    runs = world.runs()
    world.end(*runs)
    world.submit("c", "d")

    (orders,) = world.flush()

    assert [call for call, _ in runs] == ["a", "b"]
    assert [run.call for run in orders.run] == ["c", "d"]


def test_there_are_never_more_workers_than_the_function_may_have() -> None:
    world = World(scaling=Scaling(max_workers=2))
    world.node()
    world.submit(*"abcdefgh")

    assert len(world.started()) == 2
    assert world.scheduler.why_waiting("h", world.key).startswith("starting:placing")


def test_a_function_with_a_floor_has_workers_before_its_first_call() -> None:
    world = World()
    world.node()
    world.function("active", scaling=Scaling(min_workers=1))

    assert len(world.started()) == 1


def test_an_end_with_a_token_that_is_not_the_newest_means_nothing() -> None:
    world = World()
    world.node()
    world.submit("a")
    world.ready()
    world.runs()

    assert world.scheduler.release("a", Token(6, 1)) is None
    assert world.scheduler.release("a", Token(7, 1)) is not None


def test_calls_of_a_silent_node_are_taken_back_after_the_lease_and_not_before() -> None:
    world = World()
    world.node()
    world.submit("a")
    world.ready()
    world.scheduler.disconnect("n1")

    world.advance(LEASE_SECONDS - 1)
    before = list(world.lost_calls)
    world.advance(2)

    assert (before, world.lost_calls) == ([], [("a", "its node was silent for 30 s")])


def test_a_node_known_to_be_dead_loses_its_calls_at_once() -> None:
    world = World()
    world.node()
    world.submit("a")
    world.ready()

    world.scheduler.forget_node("n1", "it was killed")

    assert world.lost_calls == [("a", "it was killed")]
    assert world.scheduler.workers() == []


def test_a_new_incarnation_of_a_node_has_nothing_of_what_the_old_one_had() -> None:
    world = World()
    world.node()
    world.submit("a")
    world.ready()

    world.node(incarnation="i2")

    assert [call for call, _ in world.lost_calls] == ["a"]
    assert world.scheduler.workers() == []


def test_a_restarted_scheduler_takes_over_the_calls_that_a_node_still_holds() -> None:
    world = World()
    world.submit("a", "b")

    unknown = world.node(workers=(held_worker(world, "w1", ("a", Token(6, 4), 1)),))

    assert unknown == ()
    world.end(("a", Token(6, 4)))
    assert [call for call, _ in world.runs()] == ["b"]


def test_a_claim_that_is_over_is_not_taken_over_once_more_and_the_call_runs_anew() -> None:
    world = World()
    call = WaitingCall(
        id="a", workspace="default", key=world.key, attempts=2, payload=Payload(format="json"), token=Token(6, 5)
    )
    world.scheduler.submit([call])

    world.node(workers=(held_worker(world, "w1", ("a", Token(6, 4), 1), ("a", Token(6, 5), 2)),))

    orders = world.flush()
    cancelled = [(cancel.call, cancel.token) for one in orders for cancel in one.cancel]
    assert cancelled == [("a", Token(6, 4)), ("a", Token(6, 5))]
    assert [(run.call, run.token.epoch, run.attempt) for one in orders for run in one.run] == [("a", 7, 3)]


def test_of_two_claims_on_a_call_the_newer_one_counts_though_the_one_before_was_not_known_to_be_over() -> None:
    world = World()
    call = WaitingCall(id="a", workspace="default", key=world.key, payload=Payload(format="json"))
    world.scheduler.restore(call, Claimed(token=Token(6, 4), worker="w1", node="n1", attempt=1))

    world.node(
        workers=(held_worker(world, "w1", ("a", Token(6, 4), 1)), held_worker(world, "w2", ("a", Token(6, 5), 2)))
    )

    lease = world.scheduler.lease("a")
    assert lease is not None
    assert (lease.worker, lease.token, lease.attempt) == ("w2", Token(6, 5), 2)
    assert {worker.id: worker.calls for worker in world.scheduler.workers()} == {"w1": set(), "w2": {"a"}}
    assert world.scheduler.release("a", Token(6, 4), 1.0) is None


def test_workers_that_nobody_asked_for_are_named() -> None:
    world = World()
    spec = WorkerSpec(
        workspace="default",
        app="a",
        environment="main",
        version="forgotten",
        function=FunctionSpec(name="g", module="m", qualname="g", image=IMAGE),
        code=CodeBundle(digest="d", size=1, folder="/app"),
    )

    assert world.node(workers=(HeldWorker(worker="w9", spec=spec, state=WorkerState.IDLE, since=1.0),)) == ("w9",)


def test_an_idle_worker_leaves_after_its_window_and_a_busy_one_never() -> None:
    world = World(scaling=Scaling(max_workers=2, scaledown_window_seconds=60.0))
    world.node()
    world.submit("a", "b")
    first, _ = world.ready(2)
    runs = world.runs()
    world.end(runs[0])
    world.scheduler.heard("n1", ["b"])

    world.clock.time += 61
    world.scheduler.heard("n1", ["b"])
    world.scheduler.sweep()

    assert [stop.worker for orders in world.flush() for stop in orders.stop] == [first]


def test_an_idle_worker_of_another_function_makes_room() -> None:
    world = World(resources=Resources(cpu=2))
    world.node()
    world.submit("a")
    (worker,) = world.ready()
    world.end(world.runs()[0])
    other = world.function("g", resources=Resources(cpu=2))
    world.submit("b", key=other)
    reason = world.scheduler.why_waiting("b", other)

    stops = [stop.worker for orders in world.flush() for stop in orders.stop]
    world.report(worker, WorkerState.GONE)

    assert reason.startswith("no_capacity:cpu: it asks for 2 cores, and all of it is in use")
    assert stops == [worker]
    assert len(world.started()) == 1


def test_room_that_is_too_little_for_some_goes_to_one_that_asks_for_less() -> None:
    world = World(resources=Resources(cpu=1.5))
    world.node()
    leaving = world.function("g", resources=Resources(cpu=0.5))
    world.submit("a")
    world.submit("b", key=leaving)
    _, worker = world.ready(2)
    waiting = {
        name: world.function(name, resources=Resources(cpu=cpu)) for name, cpu in (("h", 2), ("i", 2), ("j", 0.5))
    }
    for name, key in waiting.items():
        world.submit(f"call-{name}", key=key)
    world.end(*(run for run in world.runs() if run[0] == "b"))

    world.report(worker, WorkerState.GONE)
    started = [start.spec.function.name for orders in world.flush() for start in orders.start]

    assert started == ["j"]
    assert all(
        world.scheduler.why_waiting(f"call-{name}", waiting[name]).startswith("no_capacity:cpu") for name in "hi"
    )


def test_a_buffer_is_started_with_the_first_call_and_takes_only_what_is_free() -> None:
    world = World(resources=Resources(cpu=1))
    world.node()
    world.submit("a")
    world.ready()
    world.end(world.runs()[0])
    other = world.function("g", resources=Resources(cpu=0.5), scaling=Scaling(buffer_workers=3))
    world.submit("b", key=other)

    reason = world.scheduler.why_waiting("b", other)
    sent = world.flush()

    assert [len(orders.start) for orders in sent] == [2]
    assert [stop.worker for orders in sent for stop in orders.stop] == []
    assert reason.startswith("starting:")


def test_starts_that_fail_are_tried_again_later_and_fail_the_calls_in_the_end() -> None:
    world = World(scaling=Scaling(max_workers=1))
    world.node()
    world.submit("a")
    for _ in range(START_ATTEMPTS):
        (worker,) = world.started()
        failure = Failure(code="start_failed", message="no module named 'x'")
        world.report(worker, WorkerState.GONE, failure=failure, exit=WorkerExit(reason="start_failed"))
        reason = world.scheduler.why_waiting("a", world.key)
        assert world.started() == []
        world.advance(1.0)

    assert reason in ("", "crash_loop:start_failed: crash 2 in a row: no module named 'x'; the next start is in 0.2 s")
    assert world.failed == [("a", "no module named 'x'")]


def test_starts_that_are_killed_are_tried_more_often_before_the_calls_fail() -> None:
    world = World(scaling=Scaling(max_workers=1))
    world.node()
    world.submit("a")
    killed = WorkerExit(reason="signal:SIGKILL", signal=9)
    tries = 0
    while not world.failed:
        (worker,) = world.started()
        world.report(worker, WorkerState.GONE, exit=killed)
        tries += 1
        world.advance(31.0)

    assert tries == CRASH_ATTEMPTS
    assert world.failed == [("a", "cannot start a worker of f: it was killed by SIGKILL; look at its logs")]


def test_a_call_that_waits_longer_than_it_may_expires() -> None:
    world = World()
    limit = world.clock.time + 5
    world.scheduler.submit([WaitingCall(id="a", workspace="default", key=world.key, expires_at=limit)])

    world.advance(4)
    before = list(world.expired_calls)
    world.advance(1)

    assert (before, world.expired_calls) == ([], ["a"])


def test_a_waiting_call_is_taken_out_and_a_running_ones_node_is_told() -> None:
    world = World(scaling=Scaling(max_workers=1))
    world.node()
    world.submit("a", "b")
    world.ready()
    world.runs()

    waiting = world.scheduler.cancel("b", world.key)
    running = world.scheduler.cancel("a", world.key)

    assert isinstance(waiting, WaitingCall)
    assert isinstance(running, Lease)
    assert [cancel.call for orders in world.flush() for cancel in orders.cancel] == ["a"]
    assert world.scheduler.cancel("unknown", world.key) is None


def test_a_call_whose_payload_is_in_the_store_is_sent_once_it_has_been_read() -> None:
    world = World()
    world.node()
    world.submit("a", payload=None)

    (orders,) = world.flush()

    assert orders.run[0].payload.data == b"from the store"


def test_a_call_that_is_cancelled_while_its_payload_is_read_is_cancelled_where_it_arrives() -> None:
    world = World()
    world.node()

    def cancel_unheard(_lease: Lease) -> None:
        world.scheduler.cancel("a", world.key)
        world.flush()

    world.before_delivery = cancel_unheard
    world.submit("a", payload=None)

    (orders,) = world.flush()
    assert ([run.call for run in orders.run], [cancel.call for cancel in orders.cancel]) == (["a"], ["a"])


def test_a_stopped_version_starts_nothing_and_gives_back_what_waited() -> None:
    world = World(scaling=Scaling(max_workers=1))
    world.node()
    world.submit("a", "b")
    (worker,) = world.ready()

    waiting = world.scheduler.stop_version(world.key.version, now=False)
    world.report(worker, WorkerState.GONE)
    stops = [stop.worker for orders in world.flush() for stop in orders.stop]
    world.advance(1.0)

    assert [call.id for call in waiting] == ["b"]
    assert stops == [worker]
    assert not world.scheduler.knows(world.key) or world.started() == []


def test_a_call_with_no_node_says_so() -> None:
    world = World()
    world.submit("a")

    assert world.scheduler.why_waiting("a", world.key).startswith("no_node: ")
    assert world.scheduler.why_waiting("unknown", world.key) == ""


@pytest.mark.parametrize("state", [WorkerState.READY, WorkerState.GONE])
def test_a_report_of_a_worker_that_is_not_the_nodes_own_changes_nothing(state: WorkerState) -> None:
    world = World()
    world.node()
    world.submit("a")
    (worker,) = world.started()

    world.scheduler.worker_changed("another", WorkerChange(worker=worker, state=state, at=1.0))

    assert [one.state for one in world.scheduler.workers()] == [WorkerState.PLACING]


# -- calls ahead


def brief(workers: int = 1) -> World:
    """A function whose calls are known to be short, with so many workers that are idle."""
    world = World(scaling=Scaling(max_workers=workers))
    world.node()
    world.submit(*(f"first-{n}" for n in range(workers)))
    for worker in world.started():
        world.report(worker, WorkerState.READY, credit=128)
    world.end(*world.runs(), seconds=0.001)
    return world


def test_calls_that_are_long_or_unknown_are_given_one_at_a_time() -> None:
    world = World(scaling=Scaling(max_workers=1))
    world.node()
    world.submit("a", "b", "c")
    (worker,) = world.started()
    world.report(worker, WorkerState.READY, credit=128)

    first = world.runs()
    world.end(*first, seconds=3.0)

    assert [call for call, _ in first] == ["a"]
    assert [call for call, _ in world.runs()] == ["b"]


def test_short_calls_are_given_ahead_so_that_a_worker_does_not_wait_for_each() -> None:
    world = brief()

    world.submit(*(f"c{n}" for n in range(30)))

    assert [call for call, _ in world.runs()] == [f"c{n}" for n in range(10)]


def test_calls_ahead_are_spread_over_the_workers_there_are() -> None:
    world = brief(2)

    world.submit(*(f"c{n}" for n in range(6)))

    assert sorted(len(worker.calls) for worker in world.scheduler.workers()) == [3, 3]


def test_a_worker_that_has_been_at_one_call_for_long_is_given_none_ahead() -> None:
    world = brief()
    world.submit("long")
    world.flush()

    world.clock.time += 1.0
    world.submit("next")

    assert world.runs() == []


def test_a_short_function_gets_another_worker_once_the_one_it_has_is_stuck() -> None:
    world = brief()
    world.tunings[world.key.function] = Tuning(scaling=Scaling(), queue=Queueing())
    world.scheduler.retune()
    world.submit("long", "behind")
    assert world.started() == []

    world.advance(1.0)
    world.submit("next")

    assert len(world.started()) == 1


def test_a_call_that_is_given_back_goes_first() -> None:
    world = brief()
    world.submit("long", "behind")
    runs = dict(world.runs())
    lease = world.scheduler.release("behind", runs["behind"])
    assert lease is not None

    world.clock.time += 1.0
    world.submit("later")
    world.scheduler.submit([replace(lease.call, is_again=True)])
    world.end(("long", runs["long"]))

    assert next(call for call, _ in world.runs()) == "behind"


def test_an_acknowledgement_goes_with_the_next_orders_or_by_itself_a_little_later() -> None:
    sent: list[Orders] = []
    soon: list[Callable[[], None]] = []
    later: list[Callable[[], None]] = []
    book = OrderBook(lambda _, orders: sent.append(orders), soon.append, later.append)

    book.acknowledge("n1", "a", Token(1, 1))
    book.acknowledge("n1", "b", Token(1, 2))
    book.stop("n1", "w1")
    soon.pop()()
    book.acknowledge("n1", "c", Token(1, 3))
    later.pop(0)()

    assert [[call for call, _ in orders.acknowledged] for orders in sent] == [["a", "b"], ["c"]]
    assert (soon, len(later)) == ([], 1)


def test_a_worker_is_started_on_the_node_that_has_its_template() -> None:
    world = World()
    key = template_key(world.scheduler._functions[world.key].spec)
    world.node("n1")
    world.node("n2")
    world.scheduler.templates_changed("n1", [TemplateOutcome(key=key, state=TemplateState.MAKING)])
    world.scheduler.templates_changed("n2", [TemplateOutcome(key=key, state=TemplateState.READY)])
    world.submit("a")
    world.flush()
    (first,) = world.scheduler.workers()
    world.scheduler.templates_changed("n2", [TemplateOutcome(key=key, state=TemplateState.NONE, why="evicted: it was")])

    world.submit("b")

    assert [worker.node for worker in world.scheduler.workers()] == ["n2", "n1"]
    assert first.node == "n2"
