"""What is too old is dropped, all of it and nothing else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relight.blobs.store import BlobStore
from relight.control import retention as module
from relight.control.retention import DAY_SECONDS, FIRST_SWEEP_SECONDS, SWEEP_SECONDS, Dropped, Keeping, Retention
from relight.protocol.calls import CallEvent, CallRequest
from relight.protocol.payload import Payload
from relight.protocol.starts import StartLevel
from relight.protocol.startviews import StartQuery, StartView
from relight.protocol.views import CallQuery, LogQuery
from relight.store.bodies import Origin, Written
from relight.store.requests import Place, Request
from relight.store.rows import EndQueued, NewCall
from relight.store.store import Store, open_store

WS = "default"
NOW = 1000 * DAY_SECONDS


class HeldClock:
    """Stands still; a sleep returns at once until there have been `naps` of them, then it is as if cancelled."""

    def __init__(self, naps: int = 0) -> None:
        self.slept: list[float] = []
        self._naps = naps

    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        if len(self.slept) == self._naps:
            raise Awake
        self.slept.append(seconds)


class Awake(Exception):
    """The clock was asked for one sleep more than it had."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def retention(store: Store, blobs: BlobStore) -> Retention:
    return Retention(store, blobs, HeldClock(), Keeping())


async def keep_blob(blobs: BlobStore, data: bytes, days_old: float) -> str:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    digest = hashlib.sha256(data).hexdigest()
    await blobs.put(chunks(), digest)
    os.utime(blobs.path(digest), (NOW - days_old * DAY_SECONDS,) * 2)
    return digest


async def keep_call(store: Store, n: int, *, blob: str = "", ended_days_ago: float | None = None) -> str:
    payload = Payload(format="raw", blob=blob, size=1)
    request = CallRequest(id=f"call-{n:026d}", app="a", function="f", payload=payload)
    await store.calls.submit(WS, [NewCall(request=request, version="v", at=0.0)])
    if ended_days_ago is not None:
        at = NOW - ended_days_ago * DAY_SECONDS
        await store.calls.end_queued(WS, [EndQueued(call=request.id, event=CallEvent.CANCELLED, at=at)])
    return request.id


def started(days_ago: float) -> StartView:
    names = dict.fromkeys(("worker", "node", "app", "environment", "version", "function", "binding", "why"), "x")
    return StartView(**names, level=StartLevel.FORK, phases=(), seconds=1.0, at=NOW - days_ago * DAY_SECONDS)


async def test_ended_calls_are_kept_for_their_days_and_waiting_ones_for_ever(
    store: Store, retention: Retention
) -> None:
    waiting = await keep_call(store, 1)
    await keep_call(store, 2, ended_days_ago=7.1)
    young = await keep_call(store, 3, ended_days_ago=6.9)

    dropped = await retention.sweep()

    assert dropped == Dropped(calls=1, lines=0, blobs=0)
    assert [view.id for view in await store.calls.list(WS, CallQuery())] == [young, waiting]


async def test_more_old_calls_than_one_write_drops_are_all_dropped(store: Store, retention: Retention) -> None:
    payload = Payload(format="raw", data=b"", size=0)
    requests = [CallRequest(id=f"call-{n:026d}", app="a", function="f", payload=payload) for n in range(2001)]
    store.calls.submit(WS, [NewCall(request=request, version="v", at=0.0) for request in requests])
    await store.calls.end_queued(
        WS, [EndQueued(call=request.id, event=CallEvent.CANCELLED, at=1.0) for request in requests]
    )

    dropped = await retention.sweep()

    assert dropped.calls == 2001


async def test_a_blob_goes_with_the_last_call_that_named_it(
    store: Store, blobs: BlobStore, retention: Retention
) -> None:
    old, used = await keep_blob(blobs, b"old", 8), await keep_blob(blobs, b"used", 8)
    await keep_call(store, 1, blob=old, ended_days_ago=8)
    await keep_call(store, 2, blob=used, ended_days_ago=8)
    await keep_call(store, 3, blob=used)

    dropped = await retention.sweep()

    assert dropped == Dropped(calls=2, lines=0, blobs=1)
    assert (blobs.has(old), blobs.has(used)) == (False, True)


async def test_a_blob_that_nothing_names_yet_is_kept_for_a_day(blobs: BlobStore, retention: Retention) -> None:
    fresh, stale = await keep_blob(blobs, b"fresh", 0.9), await keep_blob(blobs, b"stale", 1.1)

    dropped = await retention.sweep()

    assert dropped.blobs == 1
    assert (blobs.has(fresh), blobs.has(stale)) == (True, False)


async def test_starts_are_kept_as_long_as_calls(store: Store, retention: Retention) -> None:
    old, young = (started(days) for days in (7.1, 6.9))
    await store.starts.add(WS, [old, young])

    dropped = await retention.sweep()

    assert dropped == Dropped(calls=0, lines=0, blobs=0, starts=1)
    assert await store.starts.list(WS, StartQuery()) == (young,)


async def test_lines_are_kept_for_their_days(store: Store, retention: Retention) -> None:
    for days in (31, 29):
        at = NOW - days * DAY_SECONDS
        origin = Origin("a", "main", "f", "w", "c", "stdout")
        await store.logs.append(WS, [Written(origin=origin, at=at, texts=(str(days),))])

    dropped = await retention.sweep()

    assert dropped.lines == 1
    assert [line.text for line in (await store.logs.read(WS, LogQuery())).records] == ["29"]


async def test_it_sweeps_soon_after_the_start_and_every_hour(store: Store, blobs: BlobStore) -> None:
    clock = HeldClock(naps=3)

    with pytest.raises(Awake):
        await Retention(store, blobs, clock, Keeping()).run()

    assert clock.slept == [FIRST_SWEEP_SECONDS, SWEEP_SECONDS, SWEEP_SECONDS]


async def test_web_requests_are_kept_as_long_as_calls_and_no_more_than_there_is_room_for(
    store: Store, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    for days_ago in (8.0, 3.0, 2.0):
        store.requests.add(Place(WS, "a", "main", "v", "f", ""), _request(NOW - days_ago * DAY_SECONDS))
        await store.requests.count()

    first = await retention.sweep()
    monkeypatch.setattr(module, "MOST_REQUESTS", 1)
    monkeypatch.setattr(module, "_BLOCKS_AT_ONCE", 1)
    second = await retention.sweep()

    assert first == Dropped(calls=0, lines=0, blobs=0, requests=1)
    assert second == Dropped(calls=0, lines=0, blobs=0, requests=1)
    (left,) = await store.requests.newest(WS, CallQuery())
    assert left.request.submitted_at == NOW - 2.0 * DAY_SECONDS


def _request(at: float) -> Request:
    said = {"verb": "GET", "path": "/", "client": "", "status": 200, "state": "succeeded", "code": "", "why": ""}
    times = {"submitted_at": at, "started_at": at, "ended_at": at}
    return Request(worker="w", tries=1, bytes_out=0, used_us=0, **said, **times)  # type: ignore[arg-type]  # by their names
