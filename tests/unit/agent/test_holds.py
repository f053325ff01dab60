"""A call that comes with the order to start its worker: it waits for that, and begins the moment it is ready."""

from __future__ import annotations

import os
import signal

import pytest

from relight.agent.calls import RING_SECONDS
from relight.agent.worker import READY_SECONDS, STARTING_SECONDS
from relight.protocol.calls import CallEvent, Token
from relight.protocol.channel import Grant, Interrupt, Load, LoadFailed, Run
from relight.protocol.errors import Failure, StartFailed
from relight.protocol.link import AskBack, CancelCall, GrantItems, HeldWorker, StartWorker
from relight.protocol.manifest import Concurrency
from relight.protocol.payload import INLINE_BYTES, Payload
from relight.protocol.starts import StartLevel
from relight.protocol.workers import WorkerState
from relight.sandbox.spec import SandboxExit

LARGE = Payload(format="json", data=None, blob="b", size=INLINE_BYTES + 1)


async def begun(bench, *orders, level=StartLevel.BOOT, **function):
    """A worker that is being started, and was given these calls with the order to do so."""
    bench.sandboxes.level = level
    bench.workers.start(StartWorker(worker="worker-1", spec=bench.spec(**function)))
    bench.workers.run(orders or (bench.order(),))
    await bench.settle()
    sandbox = bench.sandboxes.started[-1]
    assert isinstance(sandbox.hear()[0], Load)
    return sandbox


def only(bench) -> HeldWorker:
    (worker,) = bench.workers.held_workers()
    return worker


async def test_it_begins_when_its_worker_is_ready_and_not_before(bench):
    sandbox = await begun(bench)
    before = only(bench)
    with pytest.raises(BlockingIOError):
        sandbox.hear()

    bench.clock.time += 5.0
    sandbox.say(bench.word_ready())
    await bench.settle()
    message, _ = sandbox.hear()
    bench.clock.time += 1.0
    sandbox.say(bench.ended())
    await bench.settle()

    assert (before.state, before.calls) == (WorkerState.STARTING, (("call-1", Token(1, 1), 1),))
    assert isinstance(message, Run)
    assert bench.states() == ["starting", "ready"]
    (end,) = bench.ends
    assert (end.outcome, end.seconds) == (CallEvent.SUCCEEDED, 1.0)


async def test_its_time_does_not_run_while_its_worker_starts(bench):
    sandbox = await begun(bench, timeout_seconds=7.0)
    assert [timer.seconds for timer in bench.timers if timer.seconds == 7.0] == []

    sandbox.say(bench.word_ready())
    await bench.settle()

    assert [timer.seconds for timer in bench.timers if timer.seconds == 7.0] == [7.0]


async def test_what_loading_writes_is_not_its(bench):
    sandbox = await begun(bench)

    os.write(sandbox.stdout, b"loading\nloaded")
    sandbox.say(bench.word_ready())
    await bench.settle()
    os.write(sandbox.stdout, b"running\n")
    await bench.settle()

    assert [(line.text, line.call) for line in bench.logs] == [("loading", ""), ("loaded", ""), ("running", "call-1")]


async def test_a_large_input_is_fetched_while_the_worker_starts(bench):
    bench.values.blobs["b"] = b"[]"
    sandbox = await begun(bench, bench.order(payload=LARGE))

    bench.values.gate.set()
    await bench.settle()
    sandbox.say(bench.word_ready())
    await bench.settle()
    message, descriptors = sandbox.hear()

    assert isinstance(message, Run)
    assert [os.pread(one, 10, 0) for one in descriptors] == [b"[]"]
    os.close(descriptors[0])


async def test_an_input_that_comes_after_its_worker_is_ready_is_given_to_it_then(bench):
    bench.values.blobs["b"] = b"[]"
    sandbox = await begun(bench, bench.order(payload=LARGE))

    sandbox.say(bench.word_ready())
    await bench.settle()
    with pytest.raises(BlockingIOError):
        sandbox.hear()
    bench.values.gate.set()
    await bench.settle()

    message, descriptors = sandbox.hear()
    assert isinstance(message, Run)
    os.close(descriptors[0])


async def test_a_start_that_fails_gives_it_back_uncharged(bench):
    sandbox = await begun(bench)

    sandbox.say(LoadFailed(failure=Failure(code="start_failed", message="boom")))
    await bench.settle()
    sandbox.end(SandboxExit(code=70))
    await bench.settle()

    (end,) = bench.ends
    assert (end.outcome, end.is_charged, end.token) == (CallEvent.LEASE_LOST, False, Token(1, 1))
    assert {line.call for line in bench.logs} == {""}


async def test_a_sandbox_that_cannot_be_made_gives_it_back_uncharged(bench):
    bench.sandboxes.refusal = StartFailed("cannot start sandbox: no room")

    bench.workers.start(StartWorker(worker="worker-1", spec=bench.spec()))
    bench.workers.run((bench.order(),))
    await bench.settle()

    assert bench.states() == ["starting", "gone"]
    assert [(end.outcome, end.is_charged) for end in bench.ends] == [(CallEvent.LEASE_LOST, False)]


async def test_a_process_that_dies_while_it_loads_gives_it_back_uncharged(bench):
    sandbox = await begun(bench)

    sandbox.end(SandboxExit(signal=11))
    await bench.settle()

    assert [(end.outcome, end.is_charged) for end in bench.ends] == [(CallEvent.LEASE_LOST, False)]


async def test_it_is_given_back_when_it_is_asked_back_before_its_worker_is_ready(bench):
    sandbox = await begun(bench)

    bench.workers.ask_back(AskBack(call="call-1", token=Token(1, 2)))  # of another attempt
    await bench.settle()
    before = list(bench.ends)
    bench.workers.ask_back(AskBack(call="call-1", token=Token(1, 1)))
    await bench.settle()
    sandbox.say(bench.word_ready())
    await bench.settle()

    assert before == []
    assert [(end.outcome, end.is_charged) for end in bench.ends] == [(CallEvent.LEASE_LOST, False)]
    assert only(bench).state is WorkerState.READY
    with pytest.raises(BlockingIOError):
        sandbox.hear()


async def test_it_stays_when_it_is_asked_back_after_it_began(bench):
    sandbox = await begun(bench)
    sandbox.say(bench.word_ready())
    await bench.settle()

    bench.workers.ask_back(AskBack(call="call-1", token=Token(1, 1)))
    await bench.settle()

    assert bench.ends == []
    assert isinstance(sandbox.hear()[0], Run)


@pytest.mark.parametrize("payload", [None, LARGE])
async def test_it_is_cancelled_at_once_while_its_worker_starts(bench, payload):
    sandbox = await begun(bench, bench.order(payload=payload))

    bench.workers.cancel(CancelCall(call="call-1", token=Token(1, 1)))
    await bench.settle()
    sandbox.say(bench.word_ready())
    await bench.settle()

    assert [end.outcome for end in bench.ends] == [CallEvent.CANCELLED]
    assert only(bench).state is WorkerState.READY


async def test_a_generator_may_go_as_far_as_was_said_while_its_worker_started(bench):
    sandbox = await begun(bench)

    bench.workers.grant(GrantItems(call="call-1", token=Token(1, 1), items=5, taken=0))
    await bench.settle()
    sandbox.say(bench.word_ready())
    await bench.settle()

    assert isinstance(sandbox.hear()[0], Run)
    assert sandbox.hear()[0] == Grant(call="call-1", items=5)


async def test_a_worker_that_ends_a_call_before_it_is_ready_is_not_believed(bench):
    sandbox = await begun(bench)

    sandbox.say(bench.ended())
    await bench.settle()

    assert bench.states()[-1] == "gone"
    assert [(end.outcome, end.is_charged) for end in bench.ends] == [(CallEvent.LEASE_LOST, False)]


async def test_a_node_that_is_left_gives_it_back(bench):
    await begun(bench)

    await bench.workers.drain(0.0)
    await bench.settle()

    assert [(end.outcome, end.is_charged) for end in bench.ends] == [(CallEvent.LEASE_LOST, False)]


async def test_word_of_a_start_waits_a_little_for_word_of_what_follows(bench):
    heard: list[float] = []
    bench.outbox.wake = heard.append

    sandbox = await begun(bench)
    starting = list(heard)
    sandbox.say(bench.word_ready())
    await bench.settle()
    ready = heard[len(starting) :]
    sandbox.say(bench.ended())
    await bench.settle()

    assert (starting, ready) == ([STARTING_SECONDS], [READY_SECONDS])
    assert heard[-1] == 0.0


async def test_a_worker_that_is_ready_and_has_no_call_says_so_at_once(bench):
    heard: list[float] = []
    bench.outbox.wake = heard.append

    await bench.ready()

    assert heard[-1] == 0.0


async def test_a_fork_has_it_at_once_and_it_begins_when_that_is_ready(bench):
    sandbox = await begun(bench, level=StartLevel.FORK)
    assert isinstance(sandbox.hear()[0], Run)
    bench.clock.time += 5.0

    os.write(sandbox.stdout, b"running\n")
    sandbox.say(bench.word_ready())
    bench.clock.time += 1.0
    sandbox.say(bench.ended())
    await bench.settle()

    (end,) = bench.ends
    assert (end.outcome, end.seconds) == (CallEvent.SUCCEEDED, 0.0)  # heard in one go with that it is ready
    assert [(line.text, line.call) for line in bench.logs] == [("running", "call-1")]
    assert only(bench).state is WorkerState.IDLE


@pytest.mark.parametrize("function", [{"is_class": True}, {"concurrency": Concurrency(max_inputs=4)}])
async def test_a_fork_that_has_more_to_do_first_waits_for_it_as_others_do(bench, function):
    sandbox = await begun(bench, level=StartLevel.FORK, **function)

    with pytest.raises(BlockingIOError):
        sandbox.hear()


async def test_a_fork_does_not_give_it_back_and_a_start_that_fails_does_uncharged(bench):
    sandbox = await begun(bench, level=StartLevel.FORK)

    bench.workers.ask_back(AskBack(call="call-1", token=Token(1, 1)))
    await bench.settle()
    before = list(bench.ends)
    sandbox.end(SandboxExit(signal=9))
    await bench.settle()

    assert before == []
    assert [(end.outcome, end.is_charged) for end in bench.ends] == [(CallEvent.LEASE_LOST, False)]


async def test_a_fork_that_is_not_ready_is_told_of_a_cancel_and_not_signalled(bench):
    sandbox = await begun(bench, level=StartLevel.FORK)
    sandbox.hear()

    bench.workers.cancel(CancelCall(call="call-1", token=Token(1, 1)))
    await bench.settle()
    for timer in [timer for timer in bench.timers if timer.seconds == RING_SECONDS]:
        timer.act()
    told, before = sandbox.hear()[0], list(sandbox.signals)
    sandbox.say(bench.word_ready())
    await bench.settle()
    for timer in [timer for timer in bench.timers if timer.seconds == RING_SECONDS and not timer.is_cancelled]:
        timer.act()

    assert (told, before) == (Interrupt(call="call-1", reason=CallEvent.CANCELLED), [])
    assert sandbox.signals == [signal.SIGUSR1]


async def test_a_generator_that_a_fork_has_is_granted_more_before_that_is_ready(bench):
    sandbox = await begun(bench, level=StartLevel.FORK)
    sandbox.hear()

    bench.workers.grant(GrantItems(call="call-1", token=Token(1, 1), items=5, taken=0))
    await bench.settle()

    assert sandbox.hear()[0] == Grant(call="call-1", items=5)


async def test_a_fork_that_ends_it_before_it_is_ready_is_not_believed(bench):
    sandbox = await begun(bench, level=StartLevel.FORK)

    sandbox.say(bench.ended())
    await bench.settle()

    assert bench.states()[-1] == "gone"
    assert [(end.outcome, end.is_charged) for end in bench.ends] == [(CallEvent.LEASE_LOST, False)]
