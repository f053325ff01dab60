"""What can be done with a function elsewhere, by blocking and on an event loop: one behaviour, two shells."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from relight.protocol.api import ReadItems, Submit
from relight.protocol.calls import CallState
from relight.protocol.codec import unpack
from relight.protocol.errors import InvalidRequest, NotFound
from relight.protocol.inside import inside
from relight.sdk.aio import MOST
from relight.sdk.function import Deployed, Fit, Remote, RemoteGenerator
from relight.sdk.mapping import WINDOW
from relight.sdk.session import Callee, Session


class Home:
    """Where calls go."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def session(self, what: str) -> Session:
        return self._session


@pytest.fixture
def session(platform: Any) -> Session:
    return Session(platform.connection(), "app", "run-1", clock=platform, say=lambda _: None)


@pytest.fixture
def square(platform: Any, session: Session) -> Remote[..., int]:
    platform.functions["square"] = lambda x, plus=0: x * x + plus
    return Remote(Callee(function="square"), Home(session), Fit(lambda x, plus=0: None))


@pytest.fixture
def count(platform: Any, session: Session) -> RemoteGenerator[..., int]:
    platform.functions["count"] = lambda n: iter(range(n)) if n is not None else itertools.count()
    return RemoteGenerator(Callee(function="count"), Home(session), Fit(lambda n: None))


def states(platform: Any) -> set[CallState]:
    return {view.state for view in platform.calls.values()}


# -- one call


async def test_a_call_returns_there_as_here(square: Remote[..., int]) -> None:
    assert square.remote(3, plus=1) == 10
    assert await square.remote.aio(3, plus=1) == 10
    assert square.spawn(3).get() == 9
    assert await (await square.spawn.aio(3)).get.aio() == 9


async def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(
    platform: Any, square: Remote[..., int]
) -> None:
    for refused in (lambda: square.remote(), lambda: square.spawn(1, 2, 3), lambda: next(square.starmap([(1, 2, 3)]))):
        with pytest.raises(TypeError, match=r"cannot call square: "):
            refused()
    with pytest.raises(TypeError, match=r"cannot call square: got an unexpected keyword argument 'lamp'"):
        await square.remote.aio(1, lamp=2)

    assert platform.requests == []


def test_an_interrupted_call_is_cancelled(platform: Any, square: Remote[..., int]) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    platform.functions["square"] = interrupt

    with pytest.raises(KeyboardInterrupt):
        square.remote(3)

    assert [len(cancel.ids) for cancel in platform.cancels] == [1]


def test_an_interrupted_call_whose_server_is_gone_is_left_within_seconds(
    platform: Any, square: Remote[..., int]
) -> None:
    def interrupt(*_: Any) -> None:
        platform.faults = ["refused"] * 1000
        raise KeyboardInterrupt

    platform.functions["square"] = interrupt

    with pytest.raises(KeyboardInterrupt):
        square.remote(3)

    assert platform.seconds < 4


@pytest.mark.parametrize(
    "work",
    [
        lambda square: square.remote.aio(3),
        lambda square: first_of(square.map.aio([1, 2])),
        lambda square: first_of(square.map.aio(endless())),
    ],
)
async def test_a_task_that_is_cancelled_cancels_what_it_waits_for(
    platform: Any, square: Remote[..., int], work: Callable[[Any], Awaitable[int]]
) -> None:
    platform.is_stuck = True
    task = asyncio.ensure_future(work(square))
    await platform.until(lambda: bool(platform.calls))

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert states(platform) == {CallState.CANCELLED}
    assert len(platform.cancels) == 1


async def test_many_calls_at_once_take_several_lines_which_are_kept(platform: Any, square: Remote[..., int]) -> None:
    assert await asyncio.gather(*(square.remote.aio(n) for n in range(3 * MOST))) == [n * n for n in range(3 * MOST)]
    assert await square.remote.aio(1) == 1

    assert platform.most_at_once == MOST
    assert platform.lines_opened == MOST


async def test_a_server_that_was_away_is_asked_again_on_a_loop_too(platform: Any, square: Remote[..., int]) -> None:
    platform.faults = ["cut", "refused"]

    assert await square.remote.aio(3) == 9
    assert [unpack(request.body, Submit).is_again for request in platform.requests] == [False, True]


def test_each_loop_has_lines_of_its_own(platform: Any, square: Remote[..., int]) -> None:
    for _ in range(2):
        assert asyncio.run(square.remote.aio(3)) == 9  # type: ignore[arg-type]  # a coroutine is what it is

    assert platform.lines_opened == 2


# -- many calls


@pytest.mark.slow
async def test_a_map_gives_the_same_on_a_loop_as_by_blocking(square: Remote[..., int]) -> None:
    many = range(3 * WINDOW)
    expected = [n * n for n in many]

    assert list(square.map(many)) == expected
    assert [x async for x in square.map.aio(many)] == expected
    assert sorted([x async for x in square.map.aio(many, order_outputs=False)]) == expected
    assert [x async for x in square.map.aio(slowly(many))] == expected


async def test_several_inputs_are_read_side_by_side_and_keywords_go_to_every_call(square: Remote[..., int]) -> None:
    assert list(square.map([1, 2, 3], [10, 20])) == [11, 24]
    assert [x async for x in square.map.aio(slowly([1, 2]), [10, 20, 30])] == [11, 24]
    assert list(square.map([1, 2], kwargs={"plus": 5})) == [6, 9]
    assert [x async for x in square.starmap.aio(slowly([(1, 2), (3, 4)]))] == [3, 13]
    assert list(square.starmap([(1, 2), [3]], kwargs={})) == [3, 9]


async def test_failures_may_be_results_on_a_loop_too(platform: Any, square: Remote[..., int]) -> None:
    platform.functions["square"] = lambda x: 1 // (x - 1)

    results = [x async for x in square.map.aio(range(3), return_exceptions=True)]

    assert [results[0], results[2]] == [-1, 1]
    assert isinstance(results[1], ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        square.for_each(range(3))
    await square.for_each.aio(range(3), ignore_exceptions=True)


async def test_an_input_that_waits_for_a_result_gets_it(square: Remote[..., int]) -> None:
    results: asyncio.Queue[int] = asyncio.Queue()

    async def each_from_the_last() -> AsyncIterator[int]:
        yield 2
        for _ in range(3):
            yield await results.get()

    got = []
    async for result in square.map.aio(each_from_the_last()):
        got.append(result)
        results.put_nowait(result)

    assert got == [4, 16, 256, 65536]


async def test_an_input_that_blocks_holds_nobody_up(square: Remote[..., int]) -> None:
    import threading

    may_go_on = threading.Event()

    def blocking() -> Iterator[int]:
        yield 1
        assert may_go_on.wait(20)
        yield 2

    results = square.map.aio(blocking())
    asyncio.get_running_loop().call_soon(may_go_on.set)  # were the loop blocked, nobody would

    assert [x async for x in results] == [1, 4]


async def test_an_input_that_raises_ends_the_map_where_it_raised(platform: Any, square: Remote[..., int]) -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise LookupError("no more lamps")

    with pytest.raises(LookupError, match="no more lamps"):
        _ = [x async for x in square.map.aio(broken())]


async def test_an_endless_input_is_read_no_further_than_the_window_on_a_loop(
    platform: Any, square: Remote[..., int]
) -> None:
    read = itertools.count()
    results = square.map.aio(read)

    assert [await anext(results) for _ in range(2 * WINDOW)] == [n * n for n in range(2 * WINDOW)]
    await results.aclose()

    assert platform.most_unfinished <= WINDOW
    assert next(read) - 2 * WINDOW <= WINDOW + 200  # what was read ahead and not submitted
    assert len(platform.cancels) <= 1


async def test_a_map_that_is_left_cancels_the_rest_by_one_request(platform: Any, square: Remote[..., int]) -> None:
    platform.is_stuck = True
    asking = asyncio.ensure_future(first_of(square.map.aio(range(300))))
    await platform.until(lambda: len(platform.calls) == 300)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert states(platform) == {CallState.CANCELLED}
    assert len(platform.cancels) == 1


# -- calls that are kept


async def test_spawned_calls_are_a_sequence_of_calls(platform: Any, session: Session, square: Remote[..., int]) -> None:
    calls = square.spawn_map(range(5), kwargs={"plus": 1})
    more = await square.spawn_map.aio(slowly(range(3)))

    assert (len(calls), len(calls[1:3]), calls[4].get(), session.spawned.keys() > {calls[0].id}) == (5, 2, 17, True)
    assert (calls.get(), await more.get.aio()) == ([1, 2, 5, 10, 17], [0, 1, 4])
    assert list(calls.results()) == [1, 2, 5, 10, 17]
    assert [x async for x in calls.results.aio(order_outputs=False)] == [17, 10, 5, 2, 1]
    assert not session.spawned


def test_more_than_a_message_holds_is_spawned_in_several(platform: Any, square: Remote[..., int]) -> None:
    calls = square.spawn_map(range(1_100))

    assert [len(unpack(request.body, Submit).calls) for request in platform.requests] == [500, 500, 100]
    assert calls.get() == [n * n for n in range(1_100)]


def test_nothing_spawned_is_nothing(platform: Any, square: Remote[..., int]) -> None:
    assert square.spawn_map([]).get() == []
    assert platform.requests == []


def test_spawned_calls_outlive_their_reader_and_are_cancelled_by_one_request(
    platform: Any, square: Remote[..., int]
) -> None:
    calls = square.spawn_map(range(10))
    results = calls.results()
    assert next(results) == 0
    platform.is_stuck = True
    more = square.spawn_map(range(10))

    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert platform.cancels == []

    more.cancel()
    assert [cancel.group for cancel in platform.cancels] == [more.id]
    assert states(platform) == {CallState.SUCCEEDED, CallState.CANCELLED}


async def test_results_are_gathered_in_order_and_the_first_failure_is_raised(
    platform: Any, square: Remote[..., int]
) -> None:
    calls = [square.spawn(n) for n in range(3)]

    assert calls[0].gather(*calls) == [0, 1, 4]
    assert await calls[0].gather.aio(*reversed(calls)) == [4, 1, 0]
    assert (calls[0].gather(), await calls[0].gather.aio()) == ([], [])

    platform.functions["square"] = lambda x: 1 // x
    with pytest.raises(ZeroDivisionError):
        calls[0].gather(*(square.spawn(n) for n in (2, 0, 1)))


def test_results_that_do_not_come_are_not_waited_for_longer_than_asked(platform: Any, square: Remote[..., int]) -> None:
    platform.is_stuck = True
    calls = square.spawn_map(range(2))

    with pytest.raises(
        TimeoutError, match=r"cannot give 2 results: 2 of the calls have not ended after 5 s; ask again"
    ):
        calls.get(timeout=5)

    assert 5 <= platform.seconds < 6


def test_a_call_shows_what_it_called(platform: Any, square: Remote[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    outer = square.spawn(1)
    outer.get()
    monkeypatch.setattr(inside, "call", outer.id)
    inner = square.spawn(2)
    monkeypatch.setattr(inside, "call", inner.id)
    square.remote(3)

    tree = outer.tree()

    assert (tree.id, tree.function, tree.state) == (outer.id, "square", CallState.SUCCEEDED)
    assert [(one.id, len(one.children)) for one in tree.children] == [(inner.id, 1)]


def test_how_much_waits_is_counted(platform: Any, square: Remote[..., int]) -> None:
    platform.is_stuck = True
    square.spawn_map(range(3))

    stats = square.stats()

    assert (stats.backlog, stats.num_total_runners) == (3, 2)
    assert platform.requests[-1].path == "/v1/apps/app/functions/square/stats?environment=run-1"


# -- generators


async def test_items_come_as_they_are_made(count: RemoteGenerator[..., int]) -> None:
    assert list(count.remote(3)) == [0, 1, 2]
    assert list(count.remote_gen(0)) == []
    assert [x async for x in count.remote.aio(3)] == [0, 1, 2]


def test_an_item_is_asked_for_when_it_is_wanted_and_not_before(platform: Any, count: RemoteGenerator[..., int]) -> None:
    made: list[int] = []
    platform.functions["count"] = lambda n: (made.append(i) or i for i in range(n))
    items = count.remote(1_000)
    assert platform.requests == []

    assert [next(items), next(items)] == [0, 1]

    assert made == [0, 1]
    asked = [unpack(request.body, ReadItems) for request in platform.requests if request.path.endswith("items")]
    assert [one.taken for one in asked] == [0, 1]


def test_what_a_generator_raises_comes_after_its_items(platform: Any, count: RemoteGenerator[..., int]) -> None:
    def broken(_: int) -> Iterator[int]:
        yield 1
        raise LookupError("no more lamps")

    platform.functions["count"] = broken
    items = count.remote(3)

    assert next(items) == 1
    with pytest.raises(LookupError, match="no more lamps"):
        next(items)
    assert platform.cancels == []


def test_a_reader_that_stops_stops_the_generator(platform: Any, count: RemoteGenerator[..., int]) -> None:
    for item in count.remote(None):
        if item == 3:
            break
    gc.collect()

    assert states(platform) == {CallState.CANCELLED}

    with pytest.raises(ZeroDivisionError):
        sum(1 // item for item in count.remote(None))
    gc.collect()
    assert states(platform) == {CallState.CANCELLED}


async def test_a_reader_that_stops_or_is_cancelled_on_a_loop_stops_the_generator(
    platform: Any, count: RemoteGenerator[..., int]
) -> None:
    items = count.remote.aio(None)
    assert await anext(items) == 0
    await items.aclose()
    assert states(platform) == {CallState.CANCELLED}

    items = count.remote.aio(None)
    assert await anext(items) == 0
    platform.hearing.clear()
    waiting = asyncio.ensure_future(first_of(items))
    await platform.until(lambda: bool(platform.at_once))
    waiting.cancel()
    platform.hearing.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert states(platform) == {CallState.CANCELLED}


def test_items_that_were_not_heard_are_given_again(platform: Any, count: RemoteGenerator[..., int]) -> None:
    items = count.remote(50)
    got = []
    for item in items:
        platform.faults = ["cut", "refused"]
        got.append(item)

    assert got == list(range(50))


def test_a_generator_that_waits_says_why(platform: Any, count: RemoteGenerator[..., int]) -> None:
    said: list[str] = []
    session = Session(platform.connection(), "app", "main", clock=platform, say=said.append)
    platform.is_stuck, platform.reason = True, "no_worker: none"

    class Enough(Exception):
        pass

    def answer(query: ReadItems) -> Any:
        if platform.seconds > 20:
            raise Enough
        return original(query)

    original, platform._items = platform._items, answer
    with pytest.raises(Enough):
        next(RemoteGenerator(Callee(function="count"), Home(session)).remote(3))

    assert said == ["relight: count is waiting: no_worker: none\n"]


@pytest.mark.parametrize("verb", ["spawn", "map", "starmap", "for_each", "spawn_map"])
def test_what_a_generator_cannot_do_is_said(count: RemoteGenerator[..., int], verb: str) -> None:
    with pytest.raises(InvalidRequest, match=f"cannot {verb} count: it yields"):
        getattr(count, verb)
    assert not hasattr(count, "lamp")


def test_a_deployed_generator_is_read_by_its_name(session: Session, platform: Any) -> None:
    platform.functions["count"] = lambda n: iter(range(n))

    assert list(Deployed(Callee(function="count"), Home(session)).remote_gen(3)) == [0, 1, 2]


def test_a_call_of_nothing_known_is_not_gathered(square: Remote[..., int], session: Session) -> None:
    call = square.spawn(1)
    call.id = "call-01jd2m0000000000000000000000"

    with pytest.raises(NotFound):
        call.status()


# -- helpers of these tests


async def first_of(items: AsyncIterator[int]) -> int:
    async for item in items:
        return item
    raise AssertionError("there is none")


async def slowly(items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def endless() -> AsyncIterator[int]:
    for n in itertools.count():
        yield n
