"""Queues: who begins first, who waits for whom, how often, and what is beyond."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Queueing, RateLimit, parse_rate
from relight.scheduler.queue import WINDOW, FunctionKey, FunctionQueue, WaitingCall

KEY = FunctionKey("v1", "f")


def call(name: str, *, priority: int = 0, key: str = "", attempts: int = 0, not_before: float = 0.0) -> WaitingCall:
    return WaitingCall(
        id=name,
        workspace="default",
        key=KEY,
        priority=priority,
        order_key=key,
        attempts=attempts,
        not_before=not_before,
    )


def queue_of(*calls: WaitingCall, **queueing: object) -> FunctionQueue:
    queue = FunctionQueue(Queueing(**queueing))  # type: ignore[arg-type]  # shorthand
    for one in calls:
        queue.push(one, 0.0)
    return queue


def popped(queue: FunctionQueue, now: float = 0.0) -> list[WaitingCall]:
    found = []
    while (one := queue.pop(now)) is not None:
        found.append(one)
    return found


def ids(calls: list[WaitingCall]) -> list[str]:
    return [one.id for one in calls]


def test_the_highest_priority_begins_first_and_equal_ones_as_they_came() -> None:
    queue = queue_of(call("a"), call("b", priority=-5), call("c", priority=9), call("d"), call("e", priority=9))

    assert ids(popped(queue)) == ["c", "e", "a", "d", "b"]


def test_calls_of_one_key_begin_one_after_another_and_others_do_not_wait_for_them() -> None:
    queue = queue_of(call("a1", key="a"), call("a2", key="a"), call("b1", key="b"), call("free"))
    first = popped(queue)
    held = queue.get("a2")
    assert held is not None
    reason, ready = queue.why_held(held, 0.0), queue.ready(0.0)
    queue.leave(first[0])

    assert ids(first) == ["a1", "b1", "free"]
    assert (reason.partition(":")[0], ready) == ("behind_key", 0)
    assert ids(popped(queue)) == ["a2"]


def test_as_many_of_a_key_run_at_once_as_may() -> None:
    queue = queue_of(*(call(f"a{n}", key="a") for n in range(5)), key_concurrency=2)
    first = popped(queue)
    queue.leave(first[1])

    assert ids(first) == ["a0", "a1"]
    assert ids(popped(queue)) == ["a2"]


def test_one_that_is_tried_again_stays_before_those_of_its_key() -> None:
    queue = queue_of(call("a1", key="a"), call("a2", key="a"))
    (first,) = popped(queue)

    queue.leave(first)
    queue.push(call("a1", key="a", attempts=1, not_before=10.0), 0.0)

    assert popped(queue, 5.0) == []
    (again,) = popped(queue, 10.0)
    queue.leave(again)
    assert (again.id, ids(popped(queue, 10.0))) == ("a1", ["a2"])


def test_a_call_that_leaves_its_key_without_having_run_lets_the_next_one_come() -> None:
    queue = queue_of(call("a1", key="a"), call("a2", key="a"), call("a3", key="a"))

    queue.remove("a2")
    queue.remove("a1")

    assert ids(popped(queue)) == ["a3"]


def test_a_call_that_runs_from_before_holds_its_key() -> None:
    queue = queue_of()
    running = call("a1", key="a")
    queue.hold(running)
    queue.push(call("a2", key="a"), 0.0)

    assert popped(queue) == []
    queue.leave(running)
    assert ids(popped(queue)) == ["a2"]


def test_a_paused_queue_gives_nothing_and_asks_for_no_worker_until_it_is_resumed() -> None:
    queue = queue_of(call("a"))
    queue.tune(Queueing(), is_paused=True)

    assert (queue.pop(0.0), queue.ready(0.0), queue.why_none(0.0).partition(":")[0]) == (None, 0, "paused")
    queue.tune(Queueing())
    assert ids(popped(queue)) == ["a"]


def test_a_rate_lets_so_many_begin_at_once_and_then_one_at_a_time() -> None:
    queue = queue_of(*(call(str(n)) for n in range(10)), rate_limit=RateLimit(calls=4, seconds=2.0))

    assert ids(popped(queue, 0.0)) == ["0", "1", "2", "3"]
    assert (queue.next_at(0.0), queue.ready(0.25), queue.why_none(0.25).partition(":")[0]) == (0.5, 0, "rate_limited")
    assert (ids(popped(queue, 0.5)), ids(popped(queue, 1.5))) == (["4"], ["5", "6"])


@pytest.mark.parametrize(
    ("text", "limit"),
    [("100/s", (100, 1)), ("10/m", (10, 60)), ("5/30s", (5, 30)), ("1/2h", (1, 7200)), ("7/d", (7, 86400))],
)
def test_a_rate_is_read(text: str, limit: tuple[int, float]) -> None:
    assert parse_rate(text) == RateLimit(calls=limit[0], seconds=limit[1])


@pytest.mark.parametrize("text", ["", "100", "0/s", "-1/s", "1/0s", "1/week", "x/s", "1.5/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^cannot read rate_limit="):
        parse_rate(text)


def test_beyond_the_window_calls_are_for_the_store_and_all_of_their_priority_after_them() -> None:
    queue = queue_of(*(call(str(n)) for n in range(WINDOW)))
    is_full = queue.goes_beyond(0)
    queue.note_beyond(Counter({0: 1}))
    popped(queue)

    assert is_full
    assert (queue.goes_beyond(0), queue.goes_beyond(-1), queue.goes_beyond(1)) == (True, True, False)
    assert (len(queue), queue.ready(0.0), queue.wants_more()) == (1, 1, True)


def test_an_urgent_call_is_taken_though_the_window_is_full_of_others() -> None:
    queue = queue_of(*(call(str(n)) for n in range(WINDOW)))

    assert (queue.goes_beyond(0), queue.goes_beyond(5), queue.goes_beyond(5, coming=WINDOW)) == (True, False, True)


def test_what_came_is_beyond_no_longer_and_what_was_miscounted_is_set_right() -> None:
    queue = queue_of()
    queue.note_beyond(Counter({0: 5, 9: 2}))
    queue.lose_beyond()
    queue.came(Counter({9: 2}), is_all=False)
    left = dict(queue.beyond)
    queue.came(Counter({0: 3}), is_all=True)

    assert (left, len(queue)) == ({0: 4}, 0)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(-2, 2), st.sampled_from(["", "a", "b"])),
            st.tuples(st.just("pop"), st.just(0), st.just("")),
            st.tuples(st.just("end"), st.integers(0, 5), st.just("")),
            st.tuples(st.just("remove"), st.integers(0, 30), st.just("")),
        ),
        max_size=60,
    ),
    st.integers(1, 3),
)
def test_no_call_is_lost_keys_keep_their_order_and_never_run_too_many(
    steps: list[tuple[str, int, str]], concurrency: int
) -> None:
    queue = queue_of(key_concurrency=concurrency)
    running: list[WaitingCall] = []
    begun: list[WaitingCall] = []
    taken = 0

    for number, (step, value, key) in enumerate(steps):
        if step == "push":
            queue.push(call(str(number), priority=value, key=key), 0.0)
            taken += 1
        elif step == "pop" and (one := queue.pop(0.0)) is not None:
            running.append(one)
            begun.append(one)
        elif step == "end" and running:
            queue.leave(running.pop(value % len(running)))
        elif step == "remove" and queue.remove(str(value)) is not None:
            taken -= 1
        for name in "ab":
            assert sum(one.order_key == name for one in running) <= concurrency
    while running:
        queue.leave(running.pop())
        while (one := queue.pop(0.0)) is not None:
            running.append(one)
            begun.append(one)
    while (one := queue.pop(0.0)) is not None:
        begun.append(one)
        queue.leave(one)

    assert len(begun) == taken
    assert (len(queue), queue.ready(0.0)) == (0, 0)
    if concurrency == 1:
        for name in "ab":
            order = [int(one.id) for one in begun if one.order_key == name]
            assert order == sorted(order)


def test_a_pinned_call_is_for_its_worker_alone_and_counts_as_ready_for_no_other() -> None:
    queue = queue_of(call("a"), call("b"), call("c"))
    for name in ("a", "b"):
        pinned = queue.get(name)
        assert pinned is not None
        queue.pin(pinned, "w1")

    assert (queue.ready(0.0), len(queue), sorted(queue.due(0.0))) == (1, 3, ["a", "b", "c"])
    assert ids(popped(queue)) == ["c"]
    assert queue.pop_pinned("w2", 0.0) is None
    assert queue.remove("a") is not None
    first = queue.pop_pinned("w1", 0.0)
    assert first is not None
    assert first.id == "b"
    assert (queue.ready(0.0), len(queue), queue.pop_pinned("w1", 0.0)) == (0, 0, None)


def test_a_pinned_call_is_admitted_to_its_key_until_its_worker_is_gone() -> None:
    queue = queue_of(call("a1", key="a"), call("a2", key="a"))
    (first,) = popped(queue)
    queue.pin(first, "w1")
    before = popped(queue)

    lost = queue.unpin("w1")

    assert (before, ids(lost), ids(popped(queue))) == ([], ["a1"], ["a2"])


def test_a_pinned_call_waits_for_the_rate_and_for_a_pause_and_takes_one_token() -> None:
    queue = queue_of(call("a"), call("b"), rate_limit=RateLimit(calls=1, seconds=10.0))
    first = queue.pop(0.0)
    assert first is not None
    queue.pin(first, "w1")
    second = queue.pop(0.0)
    assert second is not None
    assert queue.pop_pinned("w1", 0.0) is None
    assert queue.next_at(0.0) == pytest.approx(10.0)
    queue.tune(Queueing(rate_limit=RateLimit(calls=1, seconds=10.0)), is_paused=True)
    assert queue.pop_pinned("w1", 10.0) is None
    queue.tune(Queueing(rate_limit=RateLimit(calls=1, seconds=10.0)))

    assert (second.id, queue.pop_pinned("w1", 10.0)) == ("b", first)


def test_a_call_that_is_put_back_is_next_again_and_still_before_those_of_its_key() -> None:
    queue = queue_of(call("a1", key="a"), call("a2", key="a"), call("b"), rate_limit=RateLimit(calls=2, seconds=10.0))
    first = queue.pop(0.0)
    assert first is not None
    queue.put_back(first)

    assert (queue.ready(0.0), ids(popped(queue))) == (2, ["a1", "b"])
