"""Generators in a real worker: an item for each grant, and an end whose `finally` blocks have run."""

from __future__ import annotations

import mmap
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from relight.protocol.calls import CallEvent
from relight.protocol.channel import Ended, Grant, Item, Run
from relight.protocol.values import dump_input, load_result

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = """
def count(n):
    for i in range(n):
        print('makes', i + 1, flush=True)
        yield i + 1
"""
TIDY = """
import sys, time
def count(n):
    try:
        for i in range(n):
            yield i + 1
        print('asleep', flush=True)
        time.sleep(60)
    finally:
        print('tidied', flush=True)
"""
AIO_TIDY = """
import asyncio
async def count(n):
    try:
        for i in range(n):
            await asyncio.sleep(0)
            yield i + 1
        print('asleep', flush=True)
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0)
        print('tidied', flush=True)
"""


def item_of(message: object) -> Any:
    assert isinstance(message, Item), message
    return load_result(message.payload)


def grant(agent: Any, items: int, call: str = "call-1") -> None:
    agent.send(Grant(call=call, items=items))


def wait_line(agent: Any, line: bytes) -> None:
    while agent.wait_line() != line + b"\n":
        pass


def lines_of(agent: Any) -> list[bytes]:
    return [line for line in agent.stop()[1].splitlines() if not line.startswith(b"\0")]


def test_the_items_of_a_generator_come_one_by_one_on_every_python(start_agent: Callable[..., Any], python: str) -> None:
    agent = start_agent(python)
    agent.load("count", COUNT)

    agent.start(3)
    messages = [agent.receive()]
    grant(agent, 3)
    messages += [agent.receive(), agent.receive()]
    grant(agent, 4)
    end = agent.end()

    assert [item_of(message) for message in messages] == [1, 2, 3]
    assert [message.number for message in messages] == [1, 2, 3]
    assert (end.outcome, load_result(end.result)) == (CallEvent.SUCCEEDED, None)


def test_the_next_item_is_not_begun_before_it_is_granted(agent: Any) -> None:
    agent.load("count", COUNT)
    agent.start(9)
    item_of(agent.receive())

    agent.interrupt(CallEvent.CANCELLED)  # an answer to this proves that it had time to go on, and did not

    assert agent.end().outcome is CallEvent.CANCELLED
    assert lines_of(agent) == [b"makes 1"]


def test_a_generator_without_items_ends_with_nothing(agent: Any) -> None:
    agent.load("count", COUNT)

    assert load_result(agent.call(0).result) is None


@pytest.mark.parametrize("source", [TIDY, AIO_TIDY], ids=["plain", "async"])
@pytest.mark.parametrize("where", ["waiting for its reader", "making an item"])
def test_an_interrupted_generator_runs_its_finally_and_the_worker_lives_on(
    start_agent: Callable[..., Any], python: str, source: str, where: str
) -> None:
    agent = start_agent(python)
    agent.load("count", source)
    agent.start(1)
    item_of(agent.receive())
    if where == "making an item":
        grant(agent, 2)
        wait_line(agent, b"asleep")

    agent.interrupt(CallEvent.TIMED_OUT)

    assert agent.end().outcome is CallEvent.TIMED_OUT
    wait_line(agent, b"tidied")
    agent.start(2, call="call-2")
    assert item_of(agent.receive()) == 1
    agent.interrupt(CallEvent.CANCELLED, call="call-2")
    assert agent.end().call == "call-2"


def test_a_generator_that_yields_through_its_interrupt_is_closed(agent: Any) -> None:
    source = """
import time
def stubborn():
    yield 1
    try:
        print('in', flush=True)
        time.sleep(60)
    except BaseException:
        pass
    yield 2
"""
    agent.load("stubborn", source)
    agent.start()
    agent.receive()
    grant(agent, 9)
    wait_line(agent, b"in")

    agent.interrupt(CallEvent.CANCELLED)

    assert agent.end().outcome is CallEvent.CANCELLED


def test_what_a_generator_raises_comes_after_its_items(agent: Any) -> None:
    agent.load("fail", "def fail():\n    yield 'first'\n    raise KeyError('lamp')\n")

    agent.start()
    grant(agent, 2)
    first, end = agent.receive(), agent.end()

    assert item_of(first) == "first"
    assert (end.outcome, end.failure.type_name) == (CallEvent.FAILED, "KeyError")
    assert "relight" not in end.failure.traceback
    assert "contextlib" not in end.failure.traceback


def test_an_item_that_cannot_be_sent_ends_the_generator_in_good_order(agent: Any) -> None:
    source = """
import threading
def locks():
    try:
        yield threading.Lock()
    finally:
        print('tidied', flush=True)
"""
    agent.load("locks", source)

    end = agent.call()

    assert end.failure.code == "value_not_portable"
    assert lines_of(agent) == [b"tidied"]


def test_a_large_item_comes_as_a_file(agent: Any) -> None:
    agent.load("big", "def big(size):\n    yield b'x' * size\n    yield b'y' * size\n")

    agent.start(1_000_000)
    grant(agent, 3)
    items = [agent.receive(), agent.receive()]

    assert agent.end().outcome is CallEvent.SUCCEEDED
    for descriptor, item, letter in zip(agent.descriptors, items, b"xy", strict=True):
        assert isinstance(item, Item)
        assert item.payload.data is None
        with mmap.mmap(descriptor, item.payload.size, access=mmap.ACCESS_READ) as mapped:
            assert load_result(item.payload, mapped) == bytes([letter]) * 1_000_000


def test_a_generator_leaves_no_descriptor_behind(agent: Any) -> None:
    source = "import os\ndef big():\n    for _ in range(5):\n        yield b'x' * 300_000\n    yield os.listdir('/proc/self/fd')\n"
    agent.load("big", source)
    before = len(os.listdir(f"/proc/{agent.process.pid}/fd"))

    agent.start()
    grant(agent, 7)
    items = [agent.receive() for _ in range(6)]
    agent.end()

    assert len(item_of(items[-1])) == before + 1, "the one with which it looks"


def test_signals_in_the_middle_of_items_tear_none_of_them(agent: Any) -> None:
    agent.load("big", "def big(n):\n    for number in range(n):\n        yield number, 'x' * 200_000\n")
    agent.start(150)
    grant(agent, 151)

    items = []
    for _ in range(150):
        agent.process.send_signal(signal.SIGUSR1)
        items.append(item_of(agent.receive()))

    assert items == [(number, "x" * 200_000) for number in range(150)]
    assert agent.end().outcome is CallEvent.SUCCEEDED


def test_an_interrupt_in_the_middle_of_items_comes_after_a_whole_one(agent: Any) -> None:
    agent.load("big", "def big():\n    while True:\n        yield 'x' * 200_000\n")
    for n in range(20):
        agent.start(call=f"call-{n}")
        grant(agent, 10_000, call=f"call-{n}")
        for _ in range(n):
            agent.receive()
        agent.interrupt(CallEvent.CANCELLED, call=f"call-{n}")

        while isinstance(message := agent.receive(), Item):
            assert item_of(message) == "x" * 200_000

        assert isinstance(message, Ended)
        assert (message.call, message.outcome) == (f"call-{n}", CallEvent.CANCELLED)


def test_a_grant_counts_for_its_own_call_alone(agent: Any) -> None:
    agent.load("count", COUNT)
    agent.start(5)
    item_of(agent.receive())

    for number in (2, 3, 4):
        grant(agent, number, call=f"call-{number}")
    agent.interrupt(CallEvent.CANCELLED)
    assert isinstance(agent.receive(), Ended)
    agent.start(5, call="call-2")

    assert isinstance(agent.receive(), Item)
    agent.interrupt(CallEvent.CANCELLED, call="call-2")
    assert isinstance(agent.receive(), Ended), "the grants came before its call: they were for another attempt"


def test_a_grant_that_comes_while_another_call_runs_is_kept(agent: Any) -> None:
    agent.load("count", COUNT)
    agent.start(2)
    agent.receive()
    agent.send(Run(call="call-2", attempt=1, payload=dump_input((2,), {})))
    grant(agent, 3, call="call-2")

    grant(agent, 3)

    assert item_of(agent.receive()) == 2
    assert isinstance(agent.receive(), Ended)
    assert [item_of(agent.receive()), item_of(agent.receive())] == [1, 2]
    assert agent.end().call == "call-2"


def test_a_worker_whose_agent_is_gone_closes_its_generator_and_leaves(agent: Any) -> None:
    agent.load("count", TIDY)
    agent.start(3)
    agent.receive()

    agent.channel.close()

    assert b"tidied" in agent.process.communicate(timeout=20)[0]
    assert agent.process.returncode == 0


@pytest.mark.parametrize("method", ["plain", "later"])
def test_methods_may_be_generators(agent: Any, method: str) -> None:
    source = """
class Raw:
    def __init__(self, function):
        self.__relight_raw__ = function
class Reader:
    def plain_(self, x):
        yield x, self
    async def later_(self, x):
        yield x, self
    def __reduce__(self):
        return int, (7,)
    plain, later = Raw(plain_), Raw(later_)
"""
    agent.load("Reader", source, is_class=True)

    agent.start("page", method=method)
    grant(agent, 2)

    assert item_of(agent.receive()) == ("page", 7)
    assert agent.end().outcome is CallEvent.SUCCEEDED


def test_a_generator_that_is_only_returned_stays_a_value_that_cannot_be(agent: Any) -> None:
    agent.load("lazily", "def lazily():\n    return (x for x in range(3))\n")

    assert agent.call().failure.code == "value_not_portable"
