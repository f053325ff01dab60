"""What the store promises of web requests: many at a time, the newest first, page after page, and gone when they are old."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.protocol.calls import CallState
from relight.protocol.ids import new_id
from relight.protocol.views import CallQuery
from relight.store import requests as module
from relight.store.requests import BLOCK_REQUESTS, KEEP_SECONDS, Place, Request
from relight.store.store import Store, open_store
from relight.store.usage import UsageQuery

WS = "default"
PLACE = Place(WS, "shop", "main", "v1", "f", "")


def request(at: float, path: str = "/", seconds: float = 0.01, state: str = "succeeded") -> Request:
    return Request(
        verb="GET",
        path=path,
        client="127.0.0.1",
        status=200,
        state=state,
        code="",
        why="",
        worker="w",
        tries=1,
        submitted_at=at,
        started_at=at,
        ended_at=at + seconds,
        bytes_out=2,
        used_us=round(seconds * 1e6),
    )


async def paths(store: Store, **query: object) -> list[str]:
    return [one.request.path for one in await store.requests.newest(WS, CallQuery(**query))]  # type: ignore[arg-type]  # a test's own


async def test_they_are_read_by_place_state_and_time_newest_first(store: Store) -> None:
    store.requests.add(PLACE, request(1.0, "/one"))
    store.requests.add(PLACE._replace(function="g"), request(2.0, "/two"))
    store.requests.add(PLACE, request(3.0, "/three", state="failed"))
    store.requests.add(PLACE._replace(app="other", environment="staging"), request(4.0, "/four"))
    store.requests.add(PLACE._replace(workspace="another"), request(5.0, "/five"))

    assert await paths(store) == ["/four", "/three", "/two", "/one"]
    assert await paths(store, app="shop") == ["/three", "/two", "/one"]
    assert await paths(store, app="shop", function="f") == ["/three", "/one"]
    assert await paths(store, environment="staging") == ["/four"]
    assert await paths(store, state=CallState.FAILED) == ["/three"]
    assert await paths(store, since=2.5) == ["/four", "/three"]
    assert await paths(store, limit=1) == ["/four"]


async def test_pages_go_on_over_blocks_that_lie_over_one_another(store: Store) -> None:
    for number in range(3):  # each block has requests from all the time
        for at in range(100):
            store.requests.add(PLACE, request(1000.0 + 3 * at + number, f"/{3 * at + number}"))
        await store.requests.count()  # which has them kept

    found: list[str] = []
    before = ""
    while page := await store.requests.newest(WS, CallQuery(limit=7, before=before)):
        found += [one.request.path for one in page]
        before = page[-1].id

    assert found == [f"/{number}" for number in reversed(range(300))]


async def test_a_page_goes_on_from_a_call_as_from_a_request(store: Store) -> None:
    store.requests.add(PLACE, request(1.0, "/before"))
    store.requests.add(PLACE, request(3.0, "/after"))

    assert await paths(store, before=new_id("call", 2000)) == ["/before"]


async def test_one_is_found_by_its_id(store: Store) -> None:
    for at in range(20):
        store.requests.add(PLACE, request(float(at), f"/{at}"))
    listed = await store.requests.newest(WS, CallQuery())

    found = await store.requests.get(WS, listed[7].id)

    assert found == listed[7]
    assert await store.requests.get("another", listed[7].id) is None
    assert await store.requests.get(WS, new_id("req", 7000)) is None


async def test_what_they_used_is_told_as_of_calls(store: Store) -> None:
    store.requests.add(PLACE, request(10.0, seconds=0.5))
    store.requests.add(PLACE, request(20.0, seconds=0.25))
    store.requests.add(PLACE, request(30.0, seconds=0.0))

    used = await store.requests.used(WS, UsageQuery(app="shop", since=15.0))
    alone = await store.requests.used(WS, UsageQuery(call=used[0].id))

    assert [(one.used_us, one.function, one.worker) for one in used] == [(250_000, "f", "w")]
    assert alone == used
    assert len(await store.requests.used(WS, UsageQuery())) == 2


async def test_they_are_on_the_disk_soon_and_are_there_for_the_next_server(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    kept = store.requests.add(PLACE, request(1.0))
    assert kept is not None
    assert store.requests.add(PLACE, request(2.0)) is None  # with the first
    await kept
    store.requests.add(PLACE, request(3.0))
    await store.close()

    again = await open_store(tmp_path)

    assert await again.requests.count() == 3
    assert KEEP_SECONDS <= 0.5
    await again.close()


async def test_many_at_once_are_not_waited_for(store: Store) -> None:
    kept = [store.requests.add(PLACE, request(float(at))) for at in range(BLOCK_REQUESTS + 1)]

    assert [at for at, one in enumerate(kept) if one is not None] == [0, BLOCK_REQUESTS]
    assert await store.requests.count() == BLOCK_REQUESTS + 1


async def test_past_a_bound_they_are_lost_and_counted_rather_than_held(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 10)

    for at in range(25):
        store.requests.add(PLACE, request(float(at)))

    assert store.requests.lost == 15
    assert await store.requests.count() == 10
    store.requests.add(PLACE, request(30.0))  # they are on the disk: there is room again
    assert (await store.requests.count(), store.requests.lost) == (11, 15)


async def test_the_old_are_dropped_a_block_at_a_time(store: Store) -> None:
    for at in (10.0, 20.0, 30.0):
        store.requests.add(PLACE, request(at))
        await store.requests.count()

    assert await store.requests.forget(25.0, limit=1) == 1
    assert await store.requests.forget(25.0, limit=10) == 1
    assert await store.requests.forget(25.0, limit=10) == 0
    assert await store.requests.count() == 1


async def test_a_request_takes_few_bytes_on_the_disk(store: Store, tmp_path: Path) -> None:
    for at in range(BLOCK_REQUESTS):
        store.requests.add(PLACE, request(1.7e9 + at * 0.000_137, f"/items/{at * 7919 % 1000}"))
    await store.requests.count()

    (length,) = await store.requests._read(
        lambda connection: connection.execute("SELECT sum(length(body)) FROM blocks").fetchone()
    )
    assert length < 100 * BLOCK_REQUESTS
