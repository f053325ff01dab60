"""What is told of web requests that are over: how each ended, whose time it had, and nothing that may be a secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relight.control.exchanges import Exchange
from relight.control.traffic import Shares, Traffic
from relight.protocol.calls import CallState, CallView, WebRequest
from relight.protocol.errors import FunctionTimeout, NotFound, Unavailable, WorkerLost
from relight.protocol.views import CallQuery
from relight.protocol.web import AnswerHead, Kind, RequestHead, join, pack_answer, pack_request
from relight.store.requests import Place
from relight.store.store import Store, open_store
from scheduled import Clock

PLACE = Place("default", "shop", "main", "v", "f", "")
HEAD = RequestHead(
    b"GET", b"/w/shop/f/a", b"token=secret", b"/w/shop/f", b"http", b"h", b"80", b"10.1.2.3", b"5", b"1.1", ()
)


class Desk:
    """Notes exchanges as the web does, under a clock that stands still."""

    def __init__(self, store: Store) -> None:
        self.clock = Clock()
        self.traffic = Traffic(store, self.clock)

    def now(self) -> float:
        return self.clock.time

    def note(self, exchange: Exchange) -> None:
        self.traffic.note(PLACE, exchange)

    def ask(self, head: RequestHead = HEAD) -> Exchange:
        exchange = Exchange(1, pack_request(head), b"", self, is_idempotent=True, is_tunnel=False)
        exchange.started = self.now()
        exchange.worker, exchange.given_at, exchange.tries = "worker-1", self.now(), 1
        return exchange

    async def told(self, **query: str) -> tuple[CallView, ...]:
        return await self.traffic.list("default", CallQuery(**query))  # type: ignore[arg-type]  # texts alone are given


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = await open_store(tmp_path)
    yield Desk(store)
    await store.close()


def answer(exchange: Exchange, status: int, body: bytes = b"") -> None:
    exchange.hear(Kind.WHOLE, join(pack_answer(AnswerHead(status, ())), body))


async def test_a_request_is_told_with_who_asked_what_and_how_long_it_took(desk: Desk) -> None:
    exchange = desk.ask()
    desk.clock.time += 0.25

    answer(exchange, 404, b"no such")
    (told,) = await desk.told(app="shop")

    assert told.request == WebRequest(
        verb="GET", path="/w/shop/f/a", status=404, client="10.1.2.3", bytes_out=len(b"no such")
    )
    assert (told.app, told.function, told.version, told.worker) == ("shop", "f", "v", "worker-1")
    assert (told.state, told.failure, told.attempts) == (CallState.SUCCEEDED, None, 1)
    assert told.ended_at == told.submitted_at + 0.25


async def test_what_stands_in_a_query_is_written_nowhere(desk: Desk, tmp_path: Path) -> None:
    answer(desk.ask(), 200)
    (told,) = await desk.told()

    assert "secret" not in repr(await desk.traffic.show("default", told.id))


@pytest.mark.parametrize(
    ("error", "state", "status", "code"),
    [
        (FunctionTimeout("too long"), CallState.TIMED_OUT, 504, "timed_out"),
        (WorkerLost("gone"), CallState.FAILED, 502, "worker_lost"),
        (Unavailable("none free"), CallState.FAILED, 503, "unavailable"),
    ],
)
async def test_an_error_of_ours_is_told_with_its_code(
    desk: Desk, error: FunctionTimeout | WorkerLost | Unavailable, state: CallState, status: int, code: str
) -> None:
    desk.ask().fail(error)

    (told,) = await desk.told()

    assert (told.state, told.failure and (told.failure.code, told.failure.message)) == (state, (code, str(error)))
    assert told.request is not None
    assert told.request.status == status


async def test_an_answer_of_500_is_a_failure_of_the_function(desk: Desk) -> None:
    answer(desk.ask(), 500)

    (told,) = await desk.told(app="shop")

    assert (told.state, told.failure and told.failure.code) == (CallState.FAILED, "function_failed")


async def test_whoever_hangs_up_is_told_as_a_cancel(desk: Desk) -> None:
    desk.ask().hang_up()

    (told,) = await desk.told()

    assert (told.state, told.request and told.request.status) == (CallState.CANCELLED, 0)


async def test_one_is_shown_with_the_try_that_ended_it_and_no_other_is(desk: Desk) -> None:
    answer(desk.ask(), 200)
    (told,) = await desk.told()

    shown = await desk.traffic.show("default", told.id)

    assert shown.call == told
    assert [(one.worker, one.number, one.outcome) for one in shown.attempts] == [("worker-1", 1, "succeeded")]
    with pytest.raises(NotFound, match="--kind request"):
        await desk.traffic.show("default", "req-" + "0" * 26)


async def test_no_request_is_the_child_of_a_call_nor_waits(desk: Desk) -> None:
    answer(desk.ask(), 200)

    assert await desk.told(parent="call-1") == ()
    assert await desk.told(kind="call") == ()
    assert await desk.traffic.list("default", CallQuery(state=CallState.RUNNING)) == ()


def test_a_workers_time_is_shared_by_what_it_has_at_each_moment() -> None:
    shares = Shares()
    first = shares.passed(10.0, 0)  # one comes, and is alone for two seconds
    second = shares.passed(12.0, 1)  # another comes
    first_had = shares.passed(16.0, 2) - first  # the first ends
    second_had = shares.passed(17.0, 1) - second
    third = shares.passed(100.0, 0)  # nobody was there

    assert (first_had, second_had) == (2 + 2, 2 + 1)
    assert shares.passed(101.0, 1) - third == 1.0
