"""Generators, from the first item to the last, on a real server with a real agent."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any

import pytest

from e2e.app_generators import (
    Broken,
    Reader,
    app,
    break_after,
    clock,
    count,
    count_later,
    endless,
    endless_later,
    large,
)
from relight.protocol.api import Items, ReadItems
from relight.protocol.calls import CallRequest
from relight.protocol.codec import pack, unpack
from servers import Server, wait_until

ALL_STATES = ("succeeded", "failed", "cancelled", "timed_out")


@pytest.fixture(scope="module", autouse=True)
def deployed(server: Server) -> Iterator[None]:
    app.deploy()
    yield
    assert app._session is not None
    app._session.connection.close()


def newest(server: Server, function: str) -> dict[str, Any]:
    """The call of a function that was made last."""
    call: dict[str, Any] = server.get(f"/v1/calls?app=generators&function={function}&limit=1")["calls"][0]
    return call


def lines_of(server: Server, call: str) -> list[str]:
    return [line["text"] for line in server.lines(f"/v1/logs?call={call}") if line["source"] == "stdout"]


def ended(server: Server, function: str) -> dict[str, Any]:
    """The same once it has ended."""
    wait_until(lambda: newest(server, function)["state"] in ALL_STATES, server)
    return newest(server, function)


def test_the_first_item_is_with_the_caller_before_the_second_is_made() -> None:
    times = clock.remote(5)
    begun, heard = [next(times)], [time.monotonic()]
    for _ in range(4):
        begun.append(next(times))
        heard.append(time.monotonic())

    assert heard[0] < begun[1], "monotonic time is the machine's: the worker's and the caller's are one"
    assert begun == sorted(begun)


def test_what_a_generator_yields_comes_whole_and_in_order() -> None:
    assert list(count.remote(500)) == list(range(1, 501))
    assert list(count_later.remote(500)) == list(range(1, 501))


def test_a_method_that_yields_streams_too() -> None:
    assert list(Reader().words.remote("to be or not")) == ["to", "be", "or", "not"]


def test_a_reader_that_does_not_go_on_stops_the_maker(server: Server) -> None:
    with closing(count.remote(1000)) as numbers:
        first = list(islice(numbers, 2))
        call = newest(server, "count")["id"]
        wait_until(lambda: "makes 3" in lines_of(server, call), server)
        made = len(lines_of(server, call))

    assert first == [1, 2]
    assert made <= 3 + 2 * 2, "what the second asking granted, and no more"


def test_two_readers_of_one_function_do_not_wait_for_each_other() -> None:
    with closing(endless.remote()) as slow, closing(endless.remote()) as fast:
        assert next(slow) == 1
        assert list(islice(fast, 50)) == list(range(1, 51))
        assert next(slow) == 2


def test_many_readers_at_once_each_have_their_own_items() -> None:
    readers = [count_later.remote(20) for _ in range(6)]

    rows = list(zip(*readers, strict=True))

    assert rows == [(number,) * 6 for number in range(1, 21)]


@pytest.mark.parametrize("function", [endless, endless_later], ids=["plain", "async"])
def test_a_caller_that_stops_stops_the_generator_whose_finally_runs(server: Server, function: Any) -> None:
    for number in function.remote():
        if number == 5:
            break

    name = function.callee.function
    call = ended(server, name)
    wait_until(lambda: any("stopped after" in line for line in lines_of(server, call["id"])), server)
    assert call["state"] == "cancelled"


def test_large_items_come_in_their_order_with_their_bytes() -> None:
    sizes = [(item[0], len(item)) for item in large.remote(6, 10_000_000)]

    assert sizes == [(number, 10_000_000) for number in range(6)]


def test_what_a_generator_raises_comes_after_its_items_as_its_own_type() -> None:
    numbers = break_after.remote(3)

    assert [next(numbers) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(Broken, match="after 3"):
        next(numbers)


def test_how_many_items_there_were_is_kept_with_the_call(server: Server) -> None:
    list(count.remote(7))

    assert ended(server, "count")["items"] == 7


def test_a_generator_that_nobody_reads_makes_its_first_item_and_waits(server: Server) -> None:
    session = app._session
    assert session is not None
    request: CallRequest = session.request(count.callee, (3,), {})
    session.connection.do(session.submit((request,), reads_items=True))

    wait_until(lambda: lines_of(server, request.id) == ["makes 1"], server)
    answer = urllib.request.Request(
        server.url + "/v1/calls/items",
        pack(ReadItems(call=request.id, taken=0, wait_seconds=10.0)),
        {"Authorization": f"Bearer {server.token}", "Content-Type": "application/x-relight"},
    )
    with urllib.request.urlopen(answer, timeout=30) as reply:
        items = unpack(reply.read(), Items)

    assert len(items.items) == 1
    assert lines_of(server, request.id) == ["makes 1"], "asking for the first is not having it"
    session.connection.do(session.try_cancel(request.id))


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_generator_streams_over_plain_http(server: Server, accept: str) -> None:
    with post(server, "clock", {"n": 3}, accept) as reply:
        first = next(data for line in reply if (data := item_of(line)) is not None)
        others = [data for line in reply if (data := item_of(line)) is not None]

    # The gateway reads on while the first is on its way to a plain caller, who cannot say that he has it.
    assert first < others[0] < others[1]


def test_a_plain_caller_that_hangs_up_stops_the_generator(server: Server) -> None:
    with post(server, "endless", {}, "application/json") as reply:
        first = json.loads(reply.readline())

    call = ended(server, "endless")
    assert (first, call["state"]) == ({"item": 1}, "cancelled")
    wait_until(lambda: any("stopped after" in line for line in lines_of(server, call["id"])), server)


def post(server: Server, function: str, arguments: dict[str, object], accept: str) -> Any:
    return urllib.request.urlopen(
        urllib.request.Request(
            f"{server.url}/v1/apps/generators/functions/{function}/call",
            json.dumps(arguments).encode(),
            {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json", "Accept": accept},
        ),
        timeout=30,
    )


def item_of(line: bytes) -> float | None:
    """The item in a line of either kind of stream."""
    if line.startswith(b"data: ") and not line.startswith(b"data: {"):
        return float(line[6:])
    if line.startswith(b"{"):
        item: float | None = json.loads(line).get("item")
        return item
    return None
