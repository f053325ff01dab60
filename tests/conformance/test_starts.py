"""Starts: kept once each, found by what they are of, and forgotten when their time is over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from relight.protocol.starts import Phase, StartLevel
from relight.protocol.startviews import StartQuery, StartView
from relight.store.store import Store

WS = "default"


def start(n: int, **fields: Any) -> StartView:
    """The start of worker `n`, over at `n` seconds."""
    known = StartView(
        worker=f"w{n}",
        node="n",
        app="shop",
        environment="main",
        version="v1",
        function="square",
        binding="",
        level=StartLevel.FORK,
        why="",
        phases=(Phase(name="place", seconds=0.0), Phase(name="fork", seconds=0.0025)),
        seconds=0.0025,
        at=float(n),
    )
    return replace(known, **fields)


async def test_a_start_is_read_as_it_was_kept_newest_first(store: Store) -> None:
    first = start(1, level=StartLevel.FETCH, why="fetch: it was not here", binding='{"parameters":{"size":"7b"}}')
    second = start(2, failure="start_failed", seconds=0.0)
    store.starts.add(WS, [first, second])

    assert await store.starts.list(WS, StartQuery()) == (second, first)


async def test_a_start_that_is_told_again_is_kept_once(store: Store) -> None:
    await store.starts.add(WS, [start(1)])
    await store.starts.add(WS, [start(1)])

    assert len(await store.starts.list(WS, StartQuery())) == 1


async def test_starts_are_found_by_what_they_are_of(store: Store) -> None:
    store.starts.add(
        WS,
        [
            start(1),
            start(2, app="bank"),
            start(3, environment="staging"),
            start(4, function="cube"),
            start(5, level=StartLevel.BOOT),
        ],
    )
    store.starts.add("other", [start(6)])

    async def found(query: StartQuery) -> list[str]:
        return [one.worker for one in await store.starts.list(WS, query)]

    assert await found(StartQuery()) == ["w5", "w4", "w3", "w2", "w1"]
    assert await found(StartQuery(app="bank")) == ["w2"]
    assert await found(StartQuery(environment="staging")) == ["w3"]
    assert await found(StartQuery(function="cube")) == ["w4"]
    assert await found(StartQuery(level=StartLevel.BOOT)) == ["w5"]
    assert await found(StartQuery(since=4.0)) == ["w5", "w4"]
    assert await found(StartQuery(before=3.0)) == ["w2", "w1"]
    assert await found(StartQuery(limit=1)) == ["w5"]


async def test_old_starts_of_every_workspace_are_forgotten_some_at_a_time(store: Store) -> None:
    store.starts.add(WS, [start(n) for n in range(1, 6)])
    await store.starts.add("other", [start(2), start(9)])

    assert [await store.starts.forget(5.0, 3) for _ in range(3)] == [4, 1, 0]
    assert [one.worker for one in await store.starts.list(WS, StartQuery())] == ["w5"]
    assert [one.worker for one in await store.starts.list("other", StartQuery())] == ["w9"]


async def test_starts_that_were_not_written_yet_are_kept_when_the_store_is_closed(store: Store) -> None:
    kept = store.starts.add(WS, [start(1)])

    await store.close()

    assert kept.done()
    assert kept.exception() is None
