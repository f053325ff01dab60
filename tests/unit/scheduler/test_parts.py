"""Queues, leases, placement and scaling: decisions without I/O."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.protocol.calls import Token
from relight.protocol.link import GpuFact
from relight.protocol.manifest import GpuRequest, Resources, Scaling
from relight.scheduler.autoscale import Load
from relight.scheduler.leases import Claimed, Leases
from relight.scheduler.placement import NoPlace, Place, Room, place
from relight.scheduler.queue import FunctionKey, FunctionQueue, WaitingCall
from scheduled import wanted_workers

KEY = FunctionKey("v1", "f")


def call(name: str, **more: float) -> WaitingCall:
    return WaitingCall(
        id=name,
        workspace="default",
        key=KEY,
        attempts=int(more.get("attempts", 0)),
        not_before=more.get("not_before", 0.0),
        expires_at=more.get("expires_at"),
    )


def room(node: str = "n", **more: object) -> Room:
    facts = {
        "cpu": 4.0,
        "memory_mib": 1000,
        "gpus": (),
        "free_cpu": 4.0,
        "free_memory_mib": 1000,
        "free_gpus": (),
        **more,
    }
    return Room(node=node, **facts)  # type: ignore[arg-type]  # a test's shorthand


def names(queue: FunctionQueue, now: float = 0.0) -> list[str]:
    found = []
    while (one := queue.pop(now)) is not None:
        found.append(one.id)
    return found


def test_calls_leave_a_queue_as_they_came_and_a_call_that_ran_before_goes_first() -> None:
    queue = FunctionQueue()
    for one in (call("a"), call("b"), call("c", attempts=1)):
        queue.push(one, 0.0)

    assert names(queue) == ["c", "a", "b"]


def test_a_delayed_call_waits_until_it_is_due() -> None:
    queue = FunctionQueue()
    queue.push(call("late", not_before=5.0), 0.0)
    queue.push(call("now"), 0.0)

    assert (queue.ready(0.0), names(queue, 0.0)) == (1, ["now"])
    assert (queue.ready(5.0), names(queue, 5.0)) == (1, ["late"])


def test_a_removed_call_is_never_popped_and_an_expired_one_is_taken_out() -> None:
    queue = FunctionQueue()
    for one in (call("a"), call("b", expires_at=3.0), call("c")):
        queue.push(one, 0.0)
    queue.remove("a")

    assert [one.id for one in queue.take_expired(3.0)] == ["b"]
    assert names(queue) == ["c"]
    assert len(queue) == 0


@pytest.mark.parametrize("not_before", [0.0, 3.0])
def test_a_call_that_was_taken_out_and_comes_back_later_is_the_one_that_came_back(not_before: float) -> None:
    queue = FunctionQueue()
    queue.push(call("a", not_before=not_before), 0.0)
    queue.remove("a")
    again = call("a", attempts=2, not_before=5.0)

    queue.push(again, 0.0)

    assert (queue.ready(4.0), list(queue.due(4.0)), queue.pop(4.0)) == (0, [], None)
    assert (queue.ready(5.0), list(queue.due(5.0)), queue.pop(5.0)) == (1, ["a"], again)


def test_only_the_newest_token_releases_a_lease() -> None:
    leases = Leases(epoch=3, seconds=30.0)
    first = leases.grant(call("a"), "w1", "n1", 0.0)
    second = leases.grant(call("a"), "w2", "n1", 1.0)

    assert first.token < second.token == Token(3, 2)
    assert leases.release("a", first.token) is None
    assert leases.release("a", second.token) is second
    assert leases.release("a", second.token) is None


def test_a_lease_runs_out_when_its_node_does_not_speak_of_the_call() -> None:
    leases = Leases(epoch=1, seconds=30.0)
    leases.grant(call("spoken"), "w1", "n1", 0.0)
    leases.grant(call("silent"), "w2", "n1", 0.0)
    leases.renew("n1", ["spoken"], 20.0)
    leases.renew("another", ["silent"], 20.0)

    assert [lease.call.id for lease in leases.take_expired(30.0)] == ["silent"]
    assert leases.get("spoken") is not None


def test_a_node_that_comes_back_keeps_what_it_holds_and_loses_the_rest() -> None:
    leases = Leases(epoch=2, seconds=30.0)
    claim = Claimed(token=Token(1, 9), worker="w", node="n1", attempt=2)
    for name in ("held", "gone"):
        leases.adopt(call(name), claim, 0.0)

    assert [lease.call.id for lease in leases.take_node("n1", keep=["held"])] == ["gone"]
    assert leases.release("held", Token(1, 9)) is not None


def test_a_worker_goes_where_most_is_free() -> None:
    assert place(Resources(cpu=1), [room("a", free_cpu=1.5), room("b", free_cpu=3.0)]) == Place(node="b")


def test_the_first_gpu_of_the_list_that_is_free_anywhere_is_taken() -> None:
    h100, a100 = GpuFact(id="g0", kind="H100"), GpuFact(id="g1", kind="A100-80GB")
    wanted = Resources(gpu=(GpuRequest(kind="H100"), GpuRequest(kind="A100")))

    both = [room(gpus=(h100, a100), free_gpus=(h100, a100))]
    one = [room(gpus=(h100, a100), free_gpus=(a100,))]

    assert place(wanted, both) == Place(node="n", gpus=("g0",))
    assert place(wanted, one) == Place(node="n", gpus=("g1",))


@pytest.mark.parametrize(
    ("resources", "rooms", "reason", "is_for_now"),
    [
        (Resources(), [], "no_node: ", True),
        (Resources(cpu=8), [room()], "no_capacity:cpu: it asks for 8 cores and the largest node has 4", False),
        (Resources(memory_mib=2000), [room()], "no_capacity:memory: it asks for 2000 MiB", False),
        (Resources(gpu=(GpuRequest(kind="A100", count=2),)), [room()], "no_capacity:gpu: it asks for 2 × A100", False),
        (Resources(cpu=3), [room(free_cpu=1.0)], "no_capacity:cpu: it asks for 3 cores, and all of it is in use", True),
        (Resources(), [room(starting=4)], "starting:queued: ", True),
    ],
)
def test_what_cannot_be_placed_says_what_is_missing(
    resources: Resources, rooms: list[Room], reason: str, is_for_now: bool
) -> None:
    refusal = place(resources, rooms)

    assert isinstance(refusal, NoPlace)
    assert refusal.reason.startswith(reason)
    assert refusal.is_for_now is is_for_now


@given(
    st.integers(0, 10_000),
    st.integers(0, 100),
    st.integers(0, 100),
    st.none() | st.floats(0.0001, 100),
    st.integers(0, 5),
    st.none() | st.integers(5, 50),
)
def test_the_number_of_workers_keeps_to_its_floor_and_ceiling(
    waiting: int, moving: int, stuck: int, mean: float | None, floor: int, ceiling: int | None
) -> None:
    load = Load(waiting=waiting, moving=moving, stuck=stuck, mean_seconds=mean)

    wanted = wanted_workers(load, Scaling(min_workers=floor, max_workers=ceiling))

    assert floor <= wanted
    assert ceiling is None or wanted <= ceiling
    assert wanted >= 1 or not waiting
    assert ceiling is not None or wanted <= max(floor, waiting + moving + stuck)


def test_short_calls_ask_for_fewer_workers_than_long_ones() -> None:
    short, long = (Load(waiting=100, mean_seconds=seconds) for seconds in (0.001, 10.0))

    assert (wanted_workers(short, Scaling()), wanted_workers(long, Scaling())) == (1, 100)


@pytest.mark.parametrize(
    ("waiting", "buffer", "ceiling", "wanted"), [(0, 2, None, 2), (1, 2, None, 3), (1, 2, 2, 2), (4, 0, None, 4)]
)
def test_a_buffer_is_held_beyond_what_calls_need(waiting: int, buffer: int, ceiling: int | None, wanted: int) -> None:
    scaling = Scaling(buffer_workers=buffer, max_workers=ceiling)

    assert wanted_workers(Load(waiting=waiting), scaling) == wanted


def test_a_worker_that_is_stuck_counts_as_none() -> None:
    load = Load(waiting=1, stuck=2, mean_seconds=0.001)

    assert wanted_workers(load, Scaling()) == 3


def test_a_worker_goes_where_its_template_is_when_there_is_room() -> None:
    there = room("there", free_cpu=1.0, has_template=True)
    freer = room("freer", free_cpu=4.0)

    assert place(Resources(cpu=1), [freer, there]) == Place(node="there")
    assert place(Resources(cpu=1.5), [freer, there]) == Place(node="freer")
    assert place(Resources(cpu=1), [freer, room("there", has_template=True, starting=4)]) == Place(node="freer")
    assert place(Resources(cpu=1), [room("a", has_template=True, free_cpu=2.0), there]) == Place(node="a")


@given(st.lists(st.tuples(st.floats(0, 4), st.booleans(), st.integers(0, 4)), max_size=5), st.floats(0.1, 4))
def test_a_template_never_costs_a_worker_its_place(nodes: list[tuple[float, bool, int]], cpu: float) -> None:
    rooms = [
        room(str(at), free_cpu=free, has_template=has, starting=starting)
        for at, (free, has, starting) in enumerate(nodes)
    ]
    without = [replace(one, has_template=False) for one in rooms]

    placed = place(Resources(cpu=cpu), rooms)

    assert isinstance(placed, Place) == isinstance(place(Resources(cpu=cpu), without), Place)
    if isinstance(placed, Place):
        chosen = rooms[int(placed.node)]
        better = [one for one in rooms if one.has_template and one.free_cpu >= cpu and one.starting < one.start_limit]
        assert chosen.has_template or not better
