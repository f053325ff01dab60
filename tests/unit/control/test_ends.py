"""What an end leads to: the table, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.control.ends import LOST_RETRIES, Ending, judge
from relight.protocol.calls import TRANSITIONS, CallEvent, CallState
from relight.protocol.errors import Failure
from relight.protocol.exits import WorkerExit
from relight.protocol.manifest import Retries

WHY = Failure(code="function_failed", message="it raised")
ENDS = [CallEvent.SUCCEEDED, CallEvent.FAILED, CallEvent.LEASE_LOST, CallEvent.CANCELLED, CallEvent.TIMED_OUT]


@pytest.mark.parametrize(
    ("event", "attempt", "retries", "becomes"),
    [
        (CallEvent.SUCCEEDED, 1, 0, CallEvent.SUCCEEDED),
        (CallEvent.FAILED, 1, 0, CallEvent.FAILED),
        (CallEvent.FAILED, 1, 1, CallEvent.RETRIED),
        (CallEvent.FAILED, 2, 1, CallEvent.FAILED),
        (CallEvent.LEASE_LOST, 1, 0, CallEvent.LEASE_LOST),
        (CallEvent.LEASE_LOST, LOST_RETRIES, 0, CallEvent.LEASE_LOST),
        (CallEvent.LEASE_LOST, LOST_RETRIES + 1, 0, CallEvent.FAILED),
        (CallEvent.TIMED_OUT, 1, 5, CallEvent.TIMED_OUT),
        (CallEvent.CANCELLED, 1, 5, CallEvent.CANCELLED),
    ],
)
def test_what_becomes_of_a_call(event: CallEvent, attempt: int, retries: int, becomes: CallEvent) -> None:
    verdict = judge(Ending(event=event, attempt=attempt, failure=WHY), Retries(count=retries))

    assert verdict.event is becomes


def test_a_call_that_was_cancelled_is_not_tried_again_when_its_worker_dies() -> None:
    verdict = judge(Ending(event=CallEvent.LEASE_LOST, attempt=1, is_cancelled=True), Retries(count=9))

    assert (verdict.event, verdict.failure and verdict.failure.code) == (CallEvent.CANCELLED, "cancelled")


def test_the_waits_between_tries_grow_up_to_their_limit() -> None:
    retries = Retries(count=9, delay_seconds=1.0, backoff=3.0, max_delay_seconds=10.0)

    delays = [judge(Ending(event=CallEvent.FAILED, attempt=n), retries).delay_seconds for n in (1, 2, 3, 4)]

    assert delays == [1.0, 3.0, 9.0, 10.0]


def test_a_call_whose_workers_are_always_lost_fails_saying_how_the_last_one_ended() -> None:
    why = Failure(code="worker_lost", message="out of memory")

    verdict = judge(Ending(event=CallEvent.LEASE_LOST, attempt=LOST_RETRIES + 1, failure=why), Retries())

    assert verdict.failure is not None
    assert verdict.failure.code == "worker_lost"
    assert verdict.failure.message.endswith("its worker was lost each time: out of memory")


def test_a_call_that_is_lost_waits_as_its_retries_say_where_there_are_any_and_it_was_charged() -> None:
    lost = Ending(event=CallEvent.LEASE_LOST, attempt=2, failure=WHY)
    retries = Retries(count=3, delay_seconds=1.0, backoff=3.0)

    waits = [judge(ending, given).delay_seconds for ending, given in ((lost, retries), (lost, Retries()))]
    neighbour = judge(replace(lost, attempt=1, is_charged=False), retries)

    assert waits == [3.0, 0.0]
    assert (neighbour.event, neighbour.delay_seconds) == (CallEvent.LEASE_LOST, 0.0)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_how_the_last_worker_ended_goes_with_the_failure(is_cancelled: bool) -> None:
    why = Failure(code="worker_lost", message="out of memory", exit=WorkerExit(reason="out_of_memory", signal=9))
    ending = Ending(event=CallEvent.LEASE_LOST, attempt=LOST_RETRIES + 1, failure=why, is_cancelled=is_cancelled)

    failure = judge(ending, Retries()).failure

    assert failure is not None
    assert failure.exit == why.exit


@pytest.mark.parametrize(("count", "becomes"), [(0, CallEvent.FAILED), (2, CallEvent.LEASE_LOST)])
def test_a_generator_with_a_reader_is_run_again_only_where_that_is_asked_for(count: int, becomes: CallEvent) -> None:
    ending = Ending(event=CallEvent.LEASE_LOST, attempt=1, failure=WHY, delivered=7)

    verdict = judge(ending, Retries(count=count))

    assert verdict.event is becomes
    if becomes is CallEvent.FAILED:
        assert verdict.failure is not None
        assert verdict.failure.code == "worker_lost"
        assert "after 7 of its items were delivered" in verdict.failure.message
        assert verdict.failure.message.endswith("it raised")


@given(st.sampled_from(ENDS), st.integers(1, 200), st.integers(0, 100), st.booleans())
def test_every_verdict_is_a_step_that_a_running_call_can_take(
    event: CallEvent, attempt: int, count: int, is_cancelled: bool
) -> None:
    ending = Ending(event=event, attempt=attempt, is_cancelled=is_cancelled)

    verdict = judge(ending, Retries(count=count))

    assert (CallState.RUNNING, verdict.event) in TRANSITIONS
