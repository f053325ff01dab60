"""One worker, whose sandbox the test plays: each way a call and a worker can end, and what is told of it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from relight.agent import pace
from relight.agent.calls import CREDIT, RECALL_SECONDS, RING_SECONDS, STALL_SECONDS
from relight.agent.lines import WORKER_BYTES
from relight.agent.turns import AHEAD
from relight.protocol.calls import CallEvent, Token
from relight.protocol.channel import Interrupt, Item, Load, LoadFailed, Ready, Recall, Recalled, Run, Stop, Tokens
from relight.protocol.errors import Failure, StartFailed
from relight.protocol.link import StartWorker, StopWorker
from relight.protocol.payload import INLINE_BYTES, Payload
from relight.sandbox.spec import Counted, SandboxExit


async def test_a_worker_that_starts_runs_a_call_and_waits_tells_each_state(bench):
    worker, sandbox = await bench.ready()
    bench.give(worker, bench.order())
    message, _ = sandbox.hear()
    sandbox.say(bench.ended())
    await bench.settle()

    assert isinstance(message, Run)
    assert (message.call, message.attempt) == ("call-1", 1)
    assert (bench.states(), worker.state.value) == (["starting", "ready"], "idle")
    assert bench.changes[-1].isolation == "namespaces"
    (end,) = bench.ends
    assert (end.call, end.token, end.outcome, end.result.data) == ("call-1", Token(1, 1), CallEvent.SUCCEEDED, b"1")


async def test_a_worker_is_told_what_to_load(bench):
    _, sandbox = await bench.begin(qualname="Reader", is_class=True)

    message, _ = sandbox.hear()

    assert isinstance(message, Load)
    assert (message.module, message.qualname, message.is_class, message.paths) == ("app", "Reader", True, ("/app",))
    assert (message.app, message.environment) == (bench.spec().app, bench.spec().environment)
    assert message.platform == "/run/relight/platform.sock"


async def test_the_way_to_the_server_closes_when_nothing_of_a_worker_is_left(bench):
    _, sandbox = await bench.ready()
    assert bench.provider.released == []

    sandbox.end(SandboxExit(code=0))
    await bench.settle()

    assert bench.provider.released == ["worker-1"]


async def test_code_that_has_to_be_fetched_is_a_state_of_its_own(bench):
    bench.provider.is_here = False

    bench.workers.start(StartWorker(worker="worker-1", spec=bench.spec()))
    await bench.settle()
    assert bench.states() == ["pulling"]
    bench.provider.gate.set()
    await bench.settle()

    assert bench.states() == ["pulling", "starting"]


async def test_a_sandbox_that_cannot_be_made_says_why(bench):
    bench.sandboxes.refusal = StartFailed("cannot start sandbox: no room")

    with pytest.raises(IndexError):
        await bench.begin()

    assert bench.states() == ["starting", "gone"]
    assert bench.changes[-1].failure == Failure(code="start_failed", message="cannot start sandbox: no room")
    assert bench.changes[-1].exit.reason == "start_failed"


async def test_a_module_that_cannot_be_loaded_is_told_with_the_users_own_failure(bench):
    failure = Failure(code="start_failed", message="boom", type_name="ValueError", traceback="...")
    _, sandbox = await bench.begin()

    sandbox.say(LoadFailed(failure=failure))
    await bench.settle()
    sandbox.end(SandboxExit(code=70))
    await bench.settle()

    assert (bench.changes[-1].failure, bench.changes[-1].exit.reason) == (failure, "start_failed")


async def test_the_traceback_of_a_failed_load_stands_in_its_lines_after_what_it_printed(bench):
    failure = Failure(code="start_failed", message="boom", traceback="Traceback:\n  here\nValueError: boom\n")
    _, sandbox = await bench.begin()

    os.write(sandbox.stdout, b"loading\n")
    sandbox.say(LoadFailed(failure=failure))
    await bench.settle()

    assert [(line.source, line.text) for line in bench.logs] == [
        ("stdout", "loading"),
        ("stderr", "Traceback:"),
        ("stderr", "  here"),
        ("stderr", "ValueError: boom"),
    ]


async def test_a_worker_that_floods_is_not_read_until_what_it_wrote_is_kept(bench, monkeypatch):
    monkeypatch.setattr(pace, "BURST_BYTES", 1 << 40)
    _, sandbox = await bench.running()
    os.set_blocking(sandbox.stdout, False)

    async def write_on() -> int:
        """As much as the worker can write before it would have to wait; nobody takes what there is to tell."""
        written = before = 0
        while written < 2 * WORKER_BYTES:
            with suppress(BlockingIOError):
                while True:
                    written += os.write(sandbox.stdout, b"x" * 999 + b"\n")
            if written == before:
                break
            before = written
            await bench.workers_settled()
        return written

    held_back = await write_on()
    await bench.settle()
    await bench.settle()
    written = held_back + await write_on()
    sandbox.end(SandboxExit(code=0))
    await bench.settle()

    assert WORKER_BYTES * 0.8 <= held_back <= WORKER_BYTES + 512 * 1024
    assert written > held_back
    assert sum(len(line.text) + 1 for line in bench.logs if line.source == "stdout") == written


async def test_a_worker_that_dies_while_loading_is_a_failed_start_with_its_last_words(bench):
    _, sandbox = await bench.begin()

    os.write(sandbox.stderr, b"Fatal Python error\n")
    sandbox.end(SandboxExit(signal=signal.SIGSEGV))
    await bench.settle()

    change = bench.changes[-1]
    assert change.exit.reason == "signal:SIGSEGV"
    assert change.exit.last_lines == ("Fatal Python error",)
    assert "Fatal Python error" in change.failure.message


async def test_a_start_that_takes_too_long_is_ended(bench):
    _, sandbox = await bench.begin(startup_timeout_seconds=77.0)

    bench.go_off(77.0)
    await bench.settle()

    assert sandbox.is_killed
    assert bench.changes[-1].exit.reason == "start_timed_out"
    assert "77 s" in bench.changes[-1].failure.message


async def test_what_a_call_wrote_is_told_before_its_end_and_under_its_name(bench):
    worker, sandbox = await bench.ready()
    bench.give(worker, bench.order())
    os.write(sandbox.stdout, b"no newline at the end")
    sandbox.say(bench.ended())
    os.write(sandbox.stdout, b" yet\n")
    await bench.settle()

    assert [(line.source, line.text, line.worker) for line in bench.logs] == [
        ("stdout", "no newline at the end yet", "worker-1")
    ]


async def test_lines_belong_to_the_call_that_runs_or_that_a_note_names(bench):
    worker, sandbox = await bench.begin()
    load, _ = sandbox.hear()
    os.write(sandbox.stdout, b"at import\n")
    sandbox.say(Ready(import_seconds=0, enter_seconds=0, python="3.11"))
    await bench.settle()
    bench.give(worker, bench.order("call-1"), bench.order("call-2", 2))
    note = f"\0{load.mark} %s call-2\n"

    os.write(sandbox.stdout, b"one\nhalf" + (note % "begin").encode() + b"two\n" + (note % "end").encode())
    sandbox.say(bench.ended("call-1"))
    sandbox.say(bench.ended("call-2"))
    await bench.settle()
    os.write(sandbox.stdout, b"while idle\n")
    await bench.settle()

    assert [(line.text, line.call) for line in bench.logs] == [
        ("at import", ""),
        ("one", "call-1"),
        ("half", "call-1"),
        ("two", "call-2"),
        ("while idle", ""),
    ]
    assert [(run.call, run.is_behind) for run in (sandbox.hear()[0], sandbox.hear()[0])] == [
        ("call-1", False),
        ("call-2", True),
    ]


async def test_a_call_past_its_time_is_interrupted_and_ends_by_the_workers_word(bench):
    worker, sandbox = await bench.running(timeout_seconds=60.0)

    bench.go_off(60.0)
    message, _ = sandbox.hear()
    sandbox.say(bench.ended(outcome=CallEvent.TIMED_OUT, result=None))
    await bench.settle()

    assert message == Interrupt(call="call-1", reason=CallEvent.TIMED_OUT)
    assert sandbox.signals == [signal.SIGUSR1]
    assert bench.ends[0].outcome is CallEvent.TIMED_OUT
    assert bench.ends[0].failure.code == "timed_out"
    assert worker.state.value == "idle", "a worker that obeyed lives on"


async def test_a_call_that_does_not_obey_dies_with_its_worker(bench):
    worker, sandbox = await bench.running(grace_seconds=5.0)

    assert worker.calls.cancel("call-1", Token(1, 1))
    bench.go_off(5.0)
    await bench.settle()

    assert sandbox.is_killed
    assert (bench.ends[0].outcome, bench.ends[0].is_charged) == (CallEvent.CANCELLED, True)
    assert bench.changes[-1].exit.reason == "killed:cancelled"


async def test_a_call_that_was_told_to_stop_is_told_once_more_and_not_when_it_has_ended(bench):
    worker, sandbox = await bench.running(grace_seconds=5.0)
    worker.calls.cancel("call-1", Token(1, 1))

    bench.go_off(RING_SECONDS)

    assert sandbox.signals == [signal.SIGUSR1, signal.SIGUSR1]
    sandbox.say(bench.ended(outcome=CallEvent.CANCELLED, result=None))
    await bench.settle()
    assert not [timer for timer in bench.timers if not timer.is_cancelled and timer.seconds in (5.0, RING_SECONDS)]


async def test_a_cancel_with_an_older_token_means_another_attempt(bench):
    worker, sandbox = await bench.running()

    assert not worker.calls.cancel("call-1", Token(0, 9))
    assert sandbox.signals == []


async def test_a_call_that_fails_while_it_is_interrupted_has_obeyed(bench):
    worker, sandbox = await bench.running()
    failure = Failure(code="function_failed", message="raised on the way out")

    worker.calls.cancel("call-1", Token(1, 1))
    sandbox.say(bench.ended(outcome=CallEvent.FAILED, result=None, failure=failure))
    await bench.settle()

    assert (bench.ends[0].outcome, bench.ends[0].failure) == (CallEvent.CANCELLED, failure)


async def test_a_function_that_calls_itself_cancelled_has_failed(bench):
    _, sandbox = await bench.running()

    sandbox.say(bench.ended(outcome=CallEvent.CANCELLED, result=None))
    await bench.settle()

    assert bench.ends[0].outcome is CallEvent.FAILED


@pytest.mark.parametrize(
    ("how", "reason", "words"),
    [
        (SandboxExit(code=3), "exited:3", "exited with code 3"),
        (SandboxExit(code=0), "exited:0", "exited with code 0"),
        (SandboxExit(signal=signal.SIGKILL), "signal:SIGKILL", "was killed by SIGKILL; look at its logs"),
        (SandboxExit(signal=9, out_of_memory=True, peak_memory_bytes=7), "out_of_memory", "raise memory=, or use less"),
    ],
)
async def test_a_call_whose_worker_dies_is_lost_and_charged(bench, how, reason, words):
    _, sandbox = await bench.running()

    sandbox.end(how)
    await bench.settle()

    (end,) = bench.ends
    assert (end.outcome, end.is_charged, end.failure.code) == (CallEvent.LEASE_LOST, True, "worker_lost")
    assert words in end.failure.message
    assert bench.changes[-1].exit.reason == reason
    assert bench.changes[-1].exit.peak_memory_bytes == how.peak_memory_bytes
    assert [line.source for line in bench.logs] == ["system"]


async def test_an_end_that_was_said_before_the_death_counts(bench):
    _, sandbox = await bench.running()

    sandbox.say(bench.ended())
    sandbox.end(SandboxExit(code=1))
    await bench.settle()

    assert [end.outcome for end in bench.ends] == [CallEvent.SUCCEEDED]


@pytest.mark.parametrize(
    "fields",
    [
        {"call": "call-2"},
        {"outcome": CallEvent.LEASE_LOST},
        {"result": None},
        {"result": Payload(format="json", data=b"x" * (INLINE_BYTES + 1), size=1)},
        {"result": Payload(format="exe", data=b"1", size=1)},
        {"result": Payload(format="json", data=b"1", size=1, preview="x" * 5000)},
        {"result": Payload(format="json", data=b"1", size=1, blob="0" * 64)},
        {"result": Payload(format="json", data=None, size=9)},
        {"cpu_us": -1},
    ],
    ids=[
        "not its call",
        "no outcome",
        "no result",
        "too long",
        "format",
        "preview",
        "another's blob",
        "no descriptor",
        "no time",
    ],
)
async def test_an_end_that_cannot_be_believed_ends_the_worker(bench, fields):
    _, sandbox = await bench.running()

    sandbox.say(bench.ended(**fields))
    await bench.settle()

    assert sandbox.is_killed
    assert bench.changes[-1].exit.reason == "killed:protocol"
    assert [(end.call, end.outcome, end.is_charged) for end in bench.ends] == [("call-1", CallEvent.LEASE_LOST, True)]


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\x04oops"], ids=["too long", "no message"])
async def test_a_worker_that_talks_nonsense_is_ended(bench, data):
    _, sandbox = await bench.running()

    sandbox.say_bytes(data)
    await bench.settle()

    assert bench.changes[-1].exit.reason == "killed:protocol"


async def test_a_worker_that_hangs_up_and_goes_on_is_ended_after_its_grace(bench):
    _, sandbox = await bench.running(grace_seconds=5.0)

    sandbox.hang_up()
    await bench.settle()
    assert not sandbox.is_killed
    bench.go_off(5.0)
    await bench.settle()

    assert bench.changes[-1].exit.reason == "killed:channel_closed"


async def test_a_worker_takes_no_more_calls_than_its_credit(bench):
    worker, _ = await bench.running()

    bench.give(worker, *(bench.order(f"call-{n}", n) for n in range(2, CREDIT + 2)))
    await bench.settle()

    last = f"call-{CREDIT + 1}"
    assert [(end.call, end.outcome, end.is_charged) for end in bench.ends] == [(last, CallEvent.LEASE_LOST, False)]


async def test_an_order_that_is_repeated_runs_once(bench):
    worker, sandbox = await bench.running()

    bench.give(worker, bench.order())
    await bench.settle()

    assert bench.ends == []
    with pytest.raises(BlockingIOError):
        sandbox.hear()


async def test_a_worker_that_is_stopped_ends_what_it_has_and_leaves(bench):
    worker, sandbox = await bench.running()

    worker.stop()
    message, _ = sandbox.hear()
    sandbox.say(bench.ended())
    await bench.settle()
    sandbox.end(SandboxExit(code=0))
    await bench.settle()

    assert message == Stop()
    assert bench.ends[0].outcome is CallEvent.SUCCEEDED
    assert bench.states()[-2:] == ["draining", "gone"]
    assert (bench.changes[-1].exit.reason, bench.logs) == ("stopped", [])


async def test_a_worker_that_does_not_leave_is_ended_after_its_grace(bench):
    worker, sandbox = await bench.ready(grace_seconds=5.0)

    worker.stop()
    bench.go_off(5.0)
    await bench.settle()

    assert sandbox.is_killed
    assert bench.changes[-1].exit.reason == "stopped"


async def test_a_worker_that_is_stopped_at_once_loses_its_call_uncharged(bench):
    worker, sandbox = await bench.running()

    worker.stop(now=True)
    await bench.settle()

    assert sandbox.is_killed
    assert [(end.outcome, end.is_charged) for end in bench.ends] == [(CallEvent.LEASE_LOST, False)]


async def test_a_worker_that_is_stopped_before_it_has_a_sandbox_is_gone_at_once(bench):
    bench.provider.is_here = False
    bench.workers.start(StartWorker(worker="worker-1", spec=bench.spec()))
    await bench.settle()

    bench.workers.stop(StopWorker(worker="worker-1"))
    bench.provider.gate.set()
    await bench.settle()

    assert bench.states() == ["pulling", "gone"]
    assert bench.sandboxes.started == []


async def test_a_large_input_is_handed_over_as_a_descriptor(bench):
    worker, sandbox = await bench.ready()
    bench.values.blobs["digest"] = b"large"

    bench.give(worker, bench.order(payload=Payload(format="pickle5", data=None, blob="digest", size=5)))
    await bench.settle()
    assert worker.state.value == "busy"
    bench.values.gate.set()
    await bench.settle()
    message, (descriptor,) = sandbox.hear()

    assert isinstance(message, Run)
    assert os.pread(descriptor, 10, 0) == b"large"
    os.close(descriptor)


async def test_a_call_that_is_cancelled_while_its_input_is_on_the_way_never_begins(bench):
    worker, sandbox = await bench.ready()
    bench.give(worker, bench.order(payload=Payload(format="pickle5", data=None, blob="digest", size=5)))

    worker.calls.cancel("call-1", Token(1, 1))
    bench.values.gate.set()
    await bench.settle()

    assert [end.outcome for end in bench.ends] == [CallEvent.CANCELLED]
    with pytest.raises(BlockingIOError):
        sandbox.hear()


async def test_a_large_result_is_with_the_server_before_its_end_is_told(bench):
    worker, sandbox = await bench.running()
    descriptor = os.memfd_create("result")
    os.write(descriptor, b"large")

    sandbox.say(bench.ended(result=Payload(format="pickle5", data=None, size=5)), descriptor)
    await bench.settle()
    assert (bench.ends, worker.state.value) == ([], "idle")
    assert [held.call for held in bench.outbox.held()] == ["call-1"], "nobody may run it again meanwhile"
    bench.values.gate.set()
    await bench.settle()

    assert bench.ends[0].result.blob == "given"
    assert bench.values.blobs["given"] == b"large"
    os.close(descriptor)


# -- calls behind the one that runs


async def queued(bench, count=3, **function):
    """A worker that runs `call-1`, with others behind it in its channel."""
    worker, sandbox = await bench.ready(**function)
    bench.give(worker, *(bench.order(f"call-{n}", n) for n in range(1, count + 1)))
    return worker, sandbox, [sandbox.hear()[0].call for _ in range(min(count, AHEAD))]


async def test_calls_that_come_together_are_with_the_worker_at_once_and_end_in_order(bench):
    _, sandbox, given = await queued(bench)

    for call in given:
        sandbox.say(bench.ended(call))
    await bench.settle()

    assert given == ["call-1", "call-2", "call-3"]
    assert [end.call for end in bench.ends] == given


async def test_a_worker_is_given_more_as_it_ends_what_it_has(bench):
    _, sandbox, given = await queued(bench, AHEAD + 2)
    with pytest.raises(BlockingIOError):
        sandbox.hear()

    sandbox.say(bench.ended(given[0]))
    await bench.settle()

    assert sandbox.hear()[0].call == f"call-{AHEAD + 1}"


async def test_an_end_of_a_call_whose_turn_has_not_come_cannot_be_believed(bench):
    _, sandbox, _ = await queued(bench)

    sandbox.say(bench.ended("call-2"))
    await bench.settle()

    assert sandbox.is_killed


async def test_only_the_call_that_ran_is_charged_when_the_worker_dies(bench):
    _, sandbox, _ = await queued(bench)

    sandbox.end(SandboxExit(signal=9))
    await bench.settle()

    assert [(end.call, end.is_charged) for end in bench.ends] == [
        ("call-1", True),
        ("call-2", False),
        ("call-3", False),
    ]


async def test_each_call_has_its_whole_time_from_its_own_turn_on(bench):
    _, sandbox, _ = await queued(bench, 2, timeout_seconds=60.0)
    bench.clock.time += 50.0
    sandbox.say(bench.ended("call-1"))
    await bench.settle()

    timers = [timer for timer in bench.timers if timer.seconds == 60.0]

    assert [timer.is_cancelled for timer in timers] == [True, False]
    assert bench.ends[0].seconds == 50.0


async def test_calls_behind_one_that_takes_long_are_given_back(bench):
    _, sandbox, _ = await queued(bench, AHEAD + 1)

    bench.go_off(STALL_SECONDS)
    await bench.settle()
    message, _ = sandbox.hear()
    assert isinstance(message, Recall)
    sandbox.say(Recalled(calls=message.calls))
    await bench.settle()

    assert message.calls == tuple(f"call-{n}" for n in range(2, AHEAD + 1))
    assert signal.SIGUSR1 in sandbox.signals
    ends = {end.call: (end.outcome, end.is_charged) for end in bench.ends}
    assert ends == {f"call-{n}": (CallEvent.LEASE_LOST, False) for n in range(2, AHEAD + 2)}


async def taken(bench, count=3):
    """A worker that runs `call-1` and hears nothing, from which those behind were taken."""
    worker, sandbox, _ = await queued(bench, count)
    bench.go_off(STALL_SECONDS)
    for _ in range(count - 1):
        bench.go_off(RECALL_SECONDS)
    await bench.settle()
    assert isinstance(sandbox.hear()[0], Recall)
    return worker, sandbox


async def test_calls_behind_one_that_hears_nothing_are_taken_from_its_worker(bench):
    worker, sandbox = await taken(bench)

    ends = [(end.call, end.outcome, end.is_charged) for end in bench.ends]
    assert ends == [("call-2", CallEvent.LEASE_LOST, False), ("call-3", CallEvent.LEASE_LOST, False)]
    assert (worker.state.value, sandbox.is_killed) == ("busy", False)
    sandbox.say(bench.ended("call-1"))
    sandbox.say(Recalled(calls=("call-2", "call-3")))
    await bench.settle()
    assert [end.call for end in bench.ends][2:] == ["call-1"]
    assert (worker.state.value, sandbox.is_killed) == ("idle", False)


async def test_a_call_that_was_taken_may_come_back_and_is_another_attempt(bench):
    worker, sandbox = await taken(bench)

    sandbox.say(bench.ended("call-1"))
    await bench.settle()
    bench.give(worker, bench.order("call-2", 12))
    sandbox.say(Recalled(calls=("call-2", "call-3")))
    sandbox.say(bench.ended("call-2"))
    await bench.settle()

    assert [(end.call, end.token) for end in bench.ends][2:] == [("call-1", Token(1, 1)), ("call-2", Token(1, 12))]
    assert not sandbox.is_killed


async def test_what_a_worker_says_of_a_call_that_was_taken_from_it_means_nothing(bench):
    _, sandbox = await taken(bench)
    descriptor = os.memfd_create("result")
    os.write(descriptor, b"large")

    sandbox.say(bench.ended("call-2", result=Payload(format="pickle5", data=None, size=5)), descriptor)
    sandbox.say(Item(call="call-3", number=1, payload=Payload(format="json", data=b"1", size=1)))
    await bench.settle()

    assert [end.call for end in bench.ends] == ["call-2", "call-3"]
    assert not sandbox.is_killed
    os.close(descriptor)


async def test_a_call_whose_end_is_there_when_those_behind_would_be_taken_leaves_the_next_where_it_is(bench):
    _, sandbox, _ = await queued(bench, 2)
    bench.go_off(STALL_SECONDS)

    sandbox.say(bench.ended("call-1"))
    bench.go_off(RECALL_SECONDS)  # the loop has not come to what the worker said
    sandbox.say(bench.ended("call-2"))
    await bench.settle()

    assert [(end.call, end.outcome) for end in bench.ends] == [
        ("call-1", CallEvent.SUCCEEDED),
        ("call-2", CallEvent.SUCCEEDED),
    ]


async def test_a_call_cancelled_behind_one_that_hears_nothing_does_not_wait_for_it(bench):
    worker, sandbox, _ = await queued(bench, 2, grace_seconds=5.0)

    worker.calls.cancel("call-2", Token(1, 2))
    bench.go_off(RECALL_SECONDS)
    await bench.settle()

    assert [(end.call, end.outcome) for end in bench.ends] == [("call-2", CallEvent.CANCELLED)]
    assert not sandbox.is_killed


async def test_calls_whose_turn_comes_in_time_stay(bench):
    _, sandbox, _ = await queued(bench)
    sandbox.say(bench.ended("call-1"))
    await bench.settle()

    bench.go_off(STALL_SECONDS)
    await bench.settle()

    assert [end.call for end in bench.ends] == ["call-1"]
    with pytest.raises(BlockingIOError):
        sandbox.hear()


@pytest.mark.parametrize("call", ["call-1", "call-9"], ids=["it runs", "it is another's"])
async def test_a_call_that_cannot_be_given_back_ends_the_worker(bench, call):
    _, sandbox, _ = await queued(bench)

    sandbox.say(Recalled(calls=(call,)))
    await bench.settle()

    assert sandbox.is_killed


async def test_a_call_given_back_as_the_one_before_it_ends_was_not_begun_and_its_worker_goes_on(bench):
    worker, sandbox, _ = await queued(bench, 2)
    bench.go_off(STALL_SECONDS)

    sandbox.say(bench.ended("call-1"))
    sandbox.say(Recalled(calls=("call-2",)))
    await bench.settle()

    ends = [(end.call, end.outcome, end.is_charged) for end in bench.ends]
    assert ends == [("call-1", CallEvent.SUCCEEDED, True), ("call-2", CallEvent.LEASE_LOST, False)]
    assert (worker.state.value, sandbox.is_killed) == ("idle", False)


async def test_the_call_after_one_given_back_as_its_turn_came_has_its_time_from_there(bench):
    worker, sandbox, _ = await queued(bench, 2, timeout_seconds=60.0)
    bench.go_off(STALL_SECONDS)
    bench.give(worker, bench.order("call-3", 3))

    sandbox.say(bench.ended("call-1"))
    sandbox.say(Recalled(calls=("call-2",)))
    await bench.settle()
    sandbox.say(bench.ended("call-3"))
    await bench.settle()

    timers = [timer for timer in bench.timers if timer.seconds == 60.0]
    assert [end.call for end in bench.ends] == ["call-1", "call-2", "call-3"]
    assert [timer.is_cancelled for timer in timers] == [True] * 3
    assert not sandbox.is_killed


async def test_a_call_may_be_taken_twice_from_a_worker_that_looks_only_afterwards(bench):
    worker, sandbox = await taken(bench)
    bench.give(worker, bench.order("call-2", 12))
    bench.go_off(STALL_SECONDS)
    bench.go_off(RECALL_SECONDS)
    await bench.settle()

    sandbox.say(bench.ended("call-1"))
    sandbox.say(Recalled(calls=("call-2", "call-3", "call-2")))
    await bench.settle()

    assert [(end.call, end.token) for end in bench.ends][2:] == [("call-2", Token(1, 12)), ("call-1", Token(1, 1))]
    assert (worker.state.value, sandbox.is_killed) == ("idle", False)


async def test_nobody_looks_after_the_calls_of_a_worker_that_is_gone(bench):
    _, sandbox, _ = await queued(bench, 2)

    sandbox.end(SandboxExit(signal=9))
    await bench.settle()

    assert [timer.is_cancelled for timer in bench.timers if timer.seconds == STALL_SECONDS] == [True]


async def test_a_call_cancelled_before_its_turn_is_given_back_and_ends_without_harm_to_the_one_that_runs(bench):
    worker, sandbox, _ = await queued(bench, 2, grace_seconds=5.0)

    worker.calls.cancel("call-2", Token(1, 2))
    interrupt, recall = sandbox.hear()[0], sandbox.hear()[0]
    sandbox.say(Recalled(calls=("call-2",)))
    await bench.settle()

    assert (interrupt, recall) == (Interrupt(call="call-2", reason=CallEvent.CANCELLED), Recall(calls=("call-2",)))
    assert [(end.call, end.outcome) for end in bench.ends] == [("call-2", CallEvent.CANCELLED)]
    assert not [timer for timer in bench.timers if timer.seconds == 5.0 and not timer.is_cancelled]


async def test_a_cancelled_call_whose_turn_comes_all_the_same_has_its_grace_from_there(bench):
    worker, sandbox, _ = await queued(bench, 2, grace_seconds=5.0)
    worker.calls.cancel("call-2", Token(1, 2))

    sandbox.say(bench.ended("call-1"))
    await bench.settle()
    bench.go_off(5.0)
    await bench.settle()

    assert sandbox.is_killed
    assert [(end.call, end.outcome) for end in bench.ends][-1] == ("call-2", CallEvent.CANCELLED)


async def test_what_a_call_used_and_reported_goes_along_with_its_end_and_into_its_workers_usage(bench):
    worker, sandbox = await bench.running()
    bench.clock.time += 2.0
    sandbox.counted_now = Counted(cpu_us=900_000, egress_bytes=77)
    sandbox.say(Tokens(call="call-1", read=5, written=6))
    sandbox.say(bench.ended())
    await bench.settle()
    worker.seal()
    await bench.settle()

    (end,) = bench.ends
    (record,) = bench.usage
    assert (end.used_us, end.tokens_in, end.tokens_out) == (2_000_000, 5, 6)
    assert (record.cpu_us, record.egress_bytes, record.tokens_in, record.tokens_out) == (900_000, 77, 5, 6)


async def test_a_worker_that_reports_what_cannot_be_is_ended(bench):
    _, sandbox = await bench.running()

    sandbox.say(Tokens(call="call-1", read=-5))
    await bench.settle()

    assert sandbox.is_killed
