"""An app that runs in this process: every verb, in the caller's own thread, with the very exceptions."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

import relight
from relight.protocol.calls import CallState
from relight.protocol.errors import InvalidRequest, NotFound, ValueNotPortable
from relight.sdk import local
from relight.sdk.local import running_here

app = relight.App("here")
SEEN: list[object] = []


async def a_turn() -> None:
    loop = asyncio.get_running_loop()
    turn = loop.create_future()
    loop.call_soon(turn.set_result, None)
    await turn


@app.function()
def square(x: int) -> int:
    SEEN.append(x)
    return x * x


@app.function()
def sum_of_squares(n: int) -> int:
    return sum(square.map(range(n)))


@app.function()
def fail(x: int) -> int:
    raise ValueError(f"bad {x}")


@app.function()
def where() -> tuple[int, int, str | None]:
    return os.getpid(), threading.get_ident(), relight.current_call()


@app.function()
async def which(others: int) -> tuple[str | None, str | None]:
    assert relight.is_remote()
    before = relight.current_call()
    SEEN.append(before)
    while len(SEEN) <= others:
        await a_turn()
    return before, relight.current_call()


@app.function()
async def later(x: int) -> int:
    await a_turn()
    return x + 1


@app.function()
def count(to: int) -> Iterator[int]:
    for number in range(to):
        SEEN.append(number)
        yield number


@app.function()
async def count_later(to: int) -> AsyncIterator[int]:
    try:
        for number in range(to):
            await a_turn()
            yield number
    finally:
        SEEN.append("closed")


@app.function()
def stay(data: bytes) -> int:
    return len(data)


@app.cls()
class Counter:
    start: int = relight.parameter(default=0)

    @relight.enter()
    def load(self) -> None:
        SEEN.append("entered")
        self.at = self.read

    @relight.enter(snap=True)
    def look(self) -> None:
        SEEN.append("looked")
        self.read = self.start

    @relight.method()
    def next(self) -> int:
        self.at += 1
        return self.at

    @relight.exit()
    def leave(self) -> None:
        SEEN.append("left")


@pytest.fixture
def here() -> Iterator[None]:
    SEEN.clear()
    with running_here(app):
        yield


@pytest.mark.usefixtures("here")
def test_a_call_runs_in_the_callers_own_thread() -> None:
    pid, thread, call = where.remote()

    assert (pid, thread) == (os.getpid(), threading.get_ident())
    assert call is not None
    assert relight.current_call() is None


@pytest.mark.usefixtures("here")
def test_what_a_function_raises_is_raised_with_its_own_frames() -> None:
    with pytest.raises(ValueError, match="bad 3") as caught:
        fail.remote(3)

    assert caught.traceback[-1].name == "fail"
    assert caught.value.__cause__ is None


@pytest.mark.usefixtures("here")
def test_calls_call_others_and_the_tree_tells_it() -> None:
    call = sum_of_squares.spawn(4)

    assert call.get() == 14
    assert [child.function for child in call.tree().children] == ["square"] * 4


@pytest.mark.usefixtures("here")
def test_a_map_runs_each_call_when_its_result_is_wanted() -> None:
    results = square.map(range(2_000))

    assert [next(results), next(results)] == [0, 1]
    assert SEEN == [0, 1]
    assert list(results)[-1] == 1_999**2


@pytest.mark.usefixtures("here")
def test_exceptions_of_a_map_are_results_when_asked_for() -> None:
    errors = list(fail.map([1, 2], return_exceptions=True))

    assert [str(error) for error in errors] == ["bad 1", "bad 2"]


@pytest.mark.usefixtures("here")
def test_a_spawned_call_runs_when_it_is_asked_for_and_cancelled_ones_never() -> None:
    call, other = square.spawn(5), square.spawn(6)
    before = call.status()
    other.cancel()

    assert (before, call.get(), call.status()) == (CallState.QUEUED, 25, CallState.SUCCEEDED)
    assert other.status() is CallState.CANCELLED
    assert SEEN == [5]


def test_what_nobody_asked_for_runs_at_the_end() -> None:
    SEEN.clear()

    with running_here(app):
        square.spawn(8)
        assert SEEN == []

    assert SEEN == [8]


@pytest.mark.usefixtures("here")
def test_a_generator_makes_an_item_when_it_is_wanted_and_is_closed_by_who_stops() -> None:
    items = count.remote(5)

    assert (next(items), SEEN) == (0, [0])
    items.close()
    assert SEEN == [0]
    assert list(count.remote(3)) == [0, 1, 2]


@pytest.mark.usefixtures("here")
def test_async_functions_and_generators_run_by_blocking() -> None:
    items = count_later.remote(5)

    assert later.remote(1) == 2
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert SEEN == ["closed"]
    assert list(count_later.remote(3)) == [0, 1, 2]


@pytest.mark.usefixtures("here")
async def test_calls_that_run_at_once_each_know_which_they_are() -> None:
    first, second = await asyncio.gather(which.remote.aio(1), which.remote.aio(1))

    assert first[0] == first[1] != second[0] == second[1]  # before and after the other has begun
    assert relight.current_call() is None
    assert relight.is_local()


@pytest.mark.usefixtures("here")
async def test_two_who_wait_for_one_call_hear_of_its_one_end() -> None:
    call = later.spawn(7)

    assert await asyncio.gather(call.get.aio(), call.get.aio()) == [8, 8]


@pytest.mark.usefixtures("here")
async def test_on_an_event_loop_the_loop_goes_on() -> None:
    results = [item async for item in count_later.remote.aio(3)]
    mapped = [item async for item in later.map.aio(range(5))]

    assert (await later.remote.aio(4), results, mapped) == (5, [0, 1, 2], [1, 2, 3, 4, 5])
    assert later.remote(1) == 2  # by blocking, where a loop runs: in a thread of its own


def test_an_object_is_made_once_for_its_parameters_entered_and_left() -> None:
    SEEN.clear()

    with running_here(app):
        counts = [Counter().next.remote(), Counter().next.remote(), Counter(start=10).next.remote()]

    assert counts == [1, 2, 11]
    assert SEEN == ["looked", "entered", "looked", "entered", "left", "left"]
    assert [spec.name for spec in app.specs() if spec.has_snap] == ["Counter"]


@pytest.mark.usefixtures("here")
def test_large_arguments_go_the_way_they_would_go() -> None:
    assert stay.remote(b"x" * 1_000_000) == 1_000_000


@pytest.mark.usefixtures("here")
def test_what_could_not_travel_is_refused_here_too() -> None:
    with pytest.raises(ValueNotPortable):
        square.remote(threading.Lock())  # type: ignore[arg-type]


@pytest.mark.usefixtures("here")
def test_what_needs_a_server_says_that_there_is_none() -> None:
    session = app.session("square")

    with pytest.raises(InvalidRequest, match="an app that runs in this process has no server"):
        session.connection.json("GET", "/v1/workers")
    with pytest.raises(NotFound, match="it was not made in this process"):
        session.connection.do(session.get("call-x"))


def test_the_app_goes_nowhere_once_it_is_over() -> None:
    with running_here(app):
        pass

    with pytest.raises(InvalidRequest, match="its app is not running"):
        square.remote(1)


def test_an_app_runs_here_for_as_long_as_a_block() -> None:
    with app.local() as same:
        assert (same, where.remote()[0]) == (app, os.getpid())

    assert relight.is_local()
    with pytest.raises(InvalidRequest, match="its app is not running"):
        square.remote(1)


def test_run_runs_here_where_that_was_chosen() -> None:
    with local.chosen(), app.run():
        assert where.remote()[0] == os.getpid()
