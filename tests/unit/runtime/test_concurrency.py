"""Several calls in one worker at once."""

from __future__ import annotations

import select
import signal
from typing import TYPE_CHECKING

import pytest

from relight.protocol.calls import CallEvent
from relight.protocol.channel import Ended, Grant, Interrupt, Item, Stop, Tokens
from relight.protocol.values import load_result

if TYPE_CHECKING:
    from conftest import Agent, StartAgent

SOURCE = """
import asyncio, logging, sys, threading, time
import relight

log = logging.getLogger("mine")
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
meeting = threading.Barrier(2)
arrived = None

async def meet(name):
    global arrived
    arrived = arrived or asyncio.Event()
    print("comes", name)
    if name == "second":
        arrived.set()
    await arrived.wait()
    print("goes", name)
    log.info("left %s", name)
    return name, relight.current_call()

def meet_in_threads(name):
    meeting.wait(10)
    print("thread", name)
    return name, relight.current_call(), threading.current_thread() is threading.main_thread()

async def sleep(name):
    if name == "quick":
        return name
    print("sleeps", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        print("woken")

def spin(name):
    if name == "quick":
        return name
    print("spins", flush=True)
    while True:
        time.sleep(0.005)

async def hold(name):
    print("holds", flush=True)
    while True:
        time.sleep(0.005)

def count(name):
    for number in range(3):
        yield name, number

async def count_async(name):
    for number in range(3):
        yield name, number

def fail(name):
    raise StopIteration(name)

def unfinished(name):
    return meet(name)
"""


def ends(agent: Agent, count: int) -> dict[str, Ended]:
    """The next ends, by call."""
    return {end.call: end for end in (agent.end() for _ in range(count))}


def value(end: Ended) -> object:
    assert end.result is not None, end
    return load_result(end.result)


@pytest.mark.parametrize("function", ["meet", "unfinished"])
def test_async_calls_run_together_on_one_loop(agent: Agent, function: str) -> None:
    agent.load(function, SOURCE, max_inputs=2)

    agent.start("first", call="call-1")
    agent.start("second", call="call-2")
    told = ends(agent, 2)

    assert value(told["call-1"]) == ("first", "call-1")
    assert value(told["call-2"]) == ("second", "call-2")


def test_plain_calls_run_together_in_threads(start_agent: StartAgent, python: str) -> None:
    agent = start_agent(python)
    agent.load("meet_in_threads", SOURCE, max_inputs=2)

    agent.start("first", call="call-1")
    agent.start("second", call="call-2")
    told = ends(agent, 2)

    assert value(told["call-1"]) == ("first", "call-1", False)
    assert value(told["call-2"]) == ("second", "call-2", False)


def test_every_line_says_which_call_wrote_it(agent: Agent) -> None:
    agent.load("meet", SOURCE, max_inputs=2)
    agent.start("first", call="call-1")
    agent.start("second", call="call-2")
    ends(agent, 2)

    _, out, err = agent.stop()

    for written, what in ((out, "goes"), (err, "INFO:mine:left")):
        for call, name in (("call-1", "first"), ("call-2", "second")):
            before, found, _ = written.decode().partition(f"{what} {name}\n")
            assert found
            assert before.rpartition("\0n0nce ")[2].startswith(f"begin {call}\n")
    assert out.decode().rpartition("\0n0nce ")[2].startswith("end ")


def test_tokens_are_those_of_the_call_that_reports_them(agent: Agent) -> None:
    agent.load("think", "import relight\nasync def think(n):\n    relight.report_tokens(n, n)\n", max_inputs=2)

    agent.start(3, call="first")
    agent.start(4, call="second")
    told = [agent.receive() for _ in range(4)]

    tokens = {one.call: (one.read, one.written) for one in told if isinstance(one, Tokens)}
    assert tokens == {"first": (3, 3), "second": (4, 4)}
    assert sum(isinstance(one, Ended) for one in told) == 2


@pytest.mark.parametrize(("function", "word"), [("sleep", b"sleeps\n"), ("spin", b"spins\n")])
@pytest.mark.parametrize("reason", [CallEvent.CANCELLED, CallEvent.TIMED_OUT])
def test_one_is_stopped_and_the_others_go_on(agent: Agent, function: str, word: bytes, reason: CallEvent) -> None:
    agent.load(function, SOURCE, max_inputs=3)
    agent.start("long", call="call-1")
    while agent.wait_line() != word:
        pass

    agent.interrupt(reason, call="call-1")
    stopped = agent.end()
    agent.start("quick", call="call-2")

    assert (stopped.call, stopped.outcome) == ("call-1", reason)
    assert value(agent.end()) == "quick"


def test_what_holds_the_loop_up_is_stopped_when_it_is_told_twice(agent: Agent) -> None:
    agent.load("hold", SOURCE, max_inputs=2)
    agent.start("long", call="call-1")
    while agent.wait_line() != b"holds\n":
        pass

    agent.interrupt(CallEvent.CANCELLED, call="call-1")
    while not select.select([agent.channel], [], [], 0.1)[0]:  # signals that come at once are one
        agent.process.send_signal(signal.SIGUSR1)
    stopped = agent.end()

    assert stopped.outcome is CallEvent.CANCELLED


@pytest.mark.parametrize("function", ["count", "count_async"])
def test_generators_go_on_when_their_own_readers_let_them(agent: Agent, function: str) -> None:
    agent.load(function, SOURCE, max_inputs=2)
    agent.start("a", call="call-1")
    agent.start("b", call="call-2")

    def item() -> tuple[str, int]:
        message = agent.receive()
        assert isinstance(message, Item), message
        return message.call, message.number

    assert {item(), item()} == {("call-1", 1), ("call-2", 1)}
    agent.send(Grant(call="call-2", items=3))
    assert [item(), item()] == [("call-2", 2), ("call-2", 3)]
    agent.send(Grant(call="call-2", items=4))
    assert agent.end().call == "call-2"
    agent.interrupt(CallEvent.CANCELLED, call="call-1")
    assert agent.end().outcome is CallEvent.CANCELLED


def test_whatever_a_thread_raises_is_the_calls_end(agent: Agent) -> None:
    agent.load("fail", SOURCE, max_inputs=2)

    end = agent.call("odd")

    assert end.outcome is CallEvent.FAILED
    assert end.failure is not None
    assert (end.failure.type_name, end.failure.message.partition(":")[0]) == ("StopIteration", "StopIteration")


@pytest.mark.parametrize("is_signal", [False, True])
def test_a_worker_that_is_told_to_leave_lets_its_calls_end(agent: Agent, is_signal: bool) -> None:
    agent.load("meet", SOURCE, max_inputs=2)
    agent.start("first", call="call-1")
    while agent.wait_line() != b"comes first\n":
        pass

    agent.start("second", call="call-2")
    if is_signal:
        agent.process.send_signal(signal.SIGTERM)
    else:
        agent.send(Stop())
    told = ends(agent, 2)

    assert {value(end) for end in told.values()} == {("first", "call-1"), ("second", "call-2")}
    assert agent.process.wait(10) == 0


BATCHED = """
import asyncio, threading
import relight

sizes = []
gate = threading.Event()

@relight.batched(max_batch_size=4, wait_ms=50)
def square(xs: list[int], ys: list[int] = 1) -> list[int]:
    sizes.append(len(xs))
    print("batch of", xs)
    return [ValueError(f"no {x}") if x < 0 else (x * x * y, len(xs)) for x, y in zip(xs, ys if isinstance(ys, list) else [1] * len(xs))]

@relight.batched(max_batch_size=4, wait_ms=50)
async def square_async(xs):
    await asyncio.sleep(0)
    return [(x * x, len(xs)) for x in xs]

@relight.batched(max_batch_size=2, wait_ms=0)
def wrong(xs):
    return xs + xs

@relight.batched(max_batch_size=2, wait_ms=0)
def broken(xs):
    raise KeyError("all of it")

@relight.batched(max_batch_size=2, wait_ms=1000)
def stubborn(xs):
    print("began", flush=True)
    gate.wait(60)
    return xs

@relight.batched(max_batch_size=2, wait_ms=1000)
async def lasting(xs):
    print("began", flush=True)
    await asyncio.sleep(60)
    return xs

class Adder:
    @relight.method()
    @relight.batched(max_batch_size=2, wait_ms=1000)
    def add(self, xs):
        return [x + sum(xs) for x in xs]

    @relight.method()
    def one(self, x):
        return x
"""


def gathered(agent: Agent, count: int) -> tuple[list[tuple[str, ...]], dict[str, Ended]]:
    """The batches that begin before so many calls have ended, and the ends."""
    batches: list[tuple[str, ...]] = []
    told: dict[str, Ended] = {}
    while len(told) < count:
        message = agent.receive()
        if isinstance(message, Ended):
            told[message.call] = message
        else:
            batches.append(message.calls)  # type: ignore[attr-defined]
    return batches, told


@pytest.mark.parametrize("function", ["square", "square_async"])
def test_calls_are_gathered_and_each_has_its_own_result(agent: Agent, function: str) -> None:
    agent.load(function, BATCHED, batches=(("", 4, 0.05),))

    for number in range(6):
        agent.start(number, call=f"call-{number}")
    batches, told = gathered(agent, 6)

    assert [len(batch) for batch in batches] == [4, 2]
    assert [value(told[f"call-{number}"]) for number in range(6)] == [
        (number * number, 4 if number < 4 else 2) for number in range(6)
    ]


def test_an_exception_in_the_list_is_one_calls_own(agent: Agent) -> None:
    agent.load("square", BATCHED, batches=(("", 2, 5.0),))

    agent.start(-1, call="call-1")
    agent.start(3, call="call-2")
    _, told = gathered(agent, 2)

    assert value(told["call-2"]) == (9, 2)
    failure = told["call-1"].failure
    assert failure is not None
    assert (failure.type_name, failure.message) == ("ValueError", "ValueError: no -1")


def test_what_does_not_fit_is_one_calls_own_too(agent: Agent) -> None:
    agent.load("square", BATCHED, batches=(("", 2, 5.0),))

    agent.start(1, 2, 3, call="call-1")
    agent.start(3, call="call-2")
    _, told = gathered(agent, 2)

    assert value(told["call-2"]) == (9, 1)
    failure = told["call-1"].failure
    assert failure is not None
    assert failure.message.startswith("TypeError: cannot call square: too many positional arguments; it takes")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            "wrong",
            "ValueError: cannot give 2 calls their results: wrong is batched and returned 4; return one for each",
        ),
        ("broken", "KeyError: 'all of it'"),
    ],
)
def test_what_is_wrong_with_a_batch_is_wrong_with_all_of_its_calls(agent: Agent, function: str, said: str) -> None:
    agent.load(function, BATCHED, batches=(("", 2, 5.0),))

    agent.start(1, call="call-1")
    agent.start(2, call="call-2")
    _, told = gathered(agent, 2)

    for end in told.values():
        assert end.failure is not None
        assert end.failure.message.startswith(said)


def test_a_call_that_waits_for_its_batch_is_cancelled_at_once(agent: Agent) -> None:
    agent.load("lasting", BATCHED, batches=(("", 2, 60.0),))
    agent.start(1, call="call-1")

    agent.interrupt(CallEvent.CANCELLED, call="call-1")

    assert agent.end().outcome is CallEvent.CANCELLED


@pytest.mark.parametrize("function", ["lasting", "stubborn"])
def test_one_of_a_batch_is_cancelled_and_the_last_stops_it(start_agent: StartAgent, python: str, function: str) -> None:
    agent = start_agent(python)
    source = BATCHED.replace("gate.wait(60)", "[gate.wait(0.01) for _ in range(6000)]")
    agent.load(function, source, batches=(("", 2, 5.0),))
    agent.start(1, call="call-1")
    agent.start(2, call="call-2")
    assert agent.receive().calls == ("call-1", "call-2")  # type: ignore[attr-defined]
    while agent.wait_line() != b"began\n":
        pass

    agent.send(Interrupt(call="call-1", reason=CallEvent.CANCELLED))
    first = agent.end()
    agent.send(Interrupt(call="call-2", reason=CallEvent.TIMED_OUT))
    second = agent.end()

    assert (first.call, first.outcome) == ("call-1", CallEvent.CANCELLED)
    assert (second.call, second.outcome) == ("call-2", CallEvent.TIMED_OUT)


def test_a_class_has_batched_methods_and_others(agent: Agent) -> None:
    agent.load("Adder", BATCHED, is_class=True, batches=(("add", 2, 60.0),))

    agent.start(1, call="call-1", method="add")
    agent.start(7, call="call-7", method="one")
    assert value(agent.end()) == 7
    agent.start(2, call="call-2", method="add")
    _, told = gathered(agent, 2)

    assert [value(told[name]) for name in ("call-1", "call-2")] == [4, 5]
