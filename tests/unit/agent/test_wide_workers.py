"""A worker that runs several calls at once: whose time it is, who ends, and who is charged when it dies."""

from __future__ import annotations

import pytest

from relight.protocol.calls import CallEvent, Token
from relight.protocol.channel import Began, Interrupt, Run
from relight.protocol.link import CallEnd
from relight.protocol.manifest import Batching, Concurrency, MethodSpec
from relight.sandbox.spec import SandboxExit

WIDE = {"concurrency": Concurrency(max_inputs=3, target_inputs=3), "timeout_seconds": 60.0}
BATCHED = {"methods": (MethodSpec(batching=Batching(max_batch_size=3, wait_seconds=0.5)),), "timeout_seconds": 60.0}


async def running(bench, *calls, **function):
    """A worker that was given these calls, and has heard of them."""
    worker, sandbox = await bench.ready(**function)
    bench.give(worker, *(bench.order(call, n) for n, call in enumerate(calls, 1)))
    runs = [sandbox.hear()[0] for _ in calls]
    assert all(isinstance(run, Run) and not run.is_behind for run in runs)
    return worker, sandbox


def ends(bench) -> dict[str, CallEnd]:
    return {end.call: end for end in bench.ends}


async def test_calls_end_in_any_order(bench):
    worker, sandbox = await running(bench, "a", "b", "c", **WIDE)

    for call in ("b", "c", "a"):
        sandbox.say(bench.ended(call))
    await bench.settle()

    assert [end.call for end in bench.ends] == ["b", "c", "a"]
    assert worker.state.value == "idle"


async def test_each_has_its_own_time_from_when_it_was_given(bench):
    _, sandbox = await running(bench, "a", "b", **WIDE)

    bench.go_off(60.0)
    message, _ = sandbox.hear()

    assert (message, [timer.seconds for timer in bench.timers if not timer.is_cancelled].count(60.0)) == (
        Interrupt(call="a", reason=CallEvent.TIMED_OUT),
        1,
    )


async def test_neighbours_of_one_that_outlives_its_grace_are_lost_uncharged(bench):
    worker, sandbox = await running(bench, "a", "b", "c", **WIDE)

    worker.calls.cancel("b", Token(1, 2))
    bench.go_off(worker.spec.function.grace_seconds)
    await bench.settle()

    told = ends(bench)
    assert sandbox.is_killed
    assert told["b"].outcome is CallEvent.CANCELLED
    assert [(told[call].outcome, told[call].is_charged) for call in "ac"] == [(CallEvent.LEASE_LOST, False)] * 2


async def test_all_that_ran_are_charged_when_it_dies_by_itself(bench):
    _, sandbox = await running(bench, "a", "b", **WIDE)

    sandbox.end(SandboxExit(signal=11))
    await bench.settle()

    assert {(end.outcome, end.is_charged) for end in bench.ends} == {(CallEvent.LEASE_LOST, True)}


async def test_nothing_is_given_back_because_one_takes_long(bench):
    await running(bench, "a", "b", "c", **WIDE)

    assert [timer.seconds for timer in bench.timers if timer.seconds < 1] == []


async def test_a_gathered_calls_time_begins_with_its_batch(bench):
    _, sandbox = await running(bench, "a", "b", **BATCHED)
    before = sorted(timer.seconds for timer in bench.timers if not timer.is_cancelled and timer.seconds > 5)

    sandbox.say(Began(calls=("a", "b")))
    bench.clock.time += 2.0
    await bench.settle()
    after = sorted(timer.seconds for timer in bench.timers if not timer.is_cancelled and timer.seconds > 5)
    sandbox.say(Began(calls=("a",)))  # said again it changes nothing
    sandbox.say(bench.ended("a"))
    await bench.settle()

    assert (before, after) == ([120.5, 120.5], [60.0, 60.0])
    assert [end.call for end in bench.ends] == ["a"]


@pytest.mark.parametrize("message", [Began(calls=("stranger",))])
async def test_a_batch_of_strangers_is_not_believed(bench, message):
    _, sandbox = await running(bench, "a", **BATCHED)

    sandbox.say(message)
    await bench.settle()

    assert sandbox.is_killed
