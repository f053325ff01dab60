"""Callers with an event loop of their own, on a real server: what comes back, and what a cancelled task leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest

from e2e.app_loops import app, double, inside, square, wait
from servers import Server, wait_until


@pytest.fixture(scope="module", autouse=True)
def deployed(server: Server) -> Iterator[None]:
    app.deploy()
    yield
    assert app._session is not None
    app._session.connection.close()


def states(server: Server, function: str) -> list[str]:
    calls: list[dict[str, Any]] = server.get(f"/v1/calls?app=loops&function={function}&limit=1000")["calls"]
    return [call["state"] for call in calls]


async def until_running(server: Server, calls: int) -> None:
    """Return once so many calls of `wait` have been taken, and one of them runs."""
    await asyncio.to_thread(
        wait_until, lambda: len(states(server, "wait")) >= calls and "running" in states(server, "wait"), server
    )


async def test_calls_that_are_awaited_at_once_run_at_once() -> None:
    assert await asyncio.gather(*(square.remote.aio(x) for x in range(200))) == [x * x for x in range(200)]
    assert [x async for x in square.map.aio(range(2_000))] == [x * x for x in range(2_000)]


async def test_large_values_travel_both_ways_on_a_loop() -> None:
    assert [len(x) async for x in double.map.aio([b"x" * 300_000] * 3)] == [600_000] * 3


def test_a_worker_calls_on_its_own_loop_and_from_its_threads() -> None:
    assert inside.remote(5) == (30, 30, 25)


async def test_a_task_that_is_cancelled_stops_the_call_it_awaits(server: Server) -> None:
    calling = asyncio.ensure_future(wait.remote.aio("one"))
    await until_running(server, 1)

    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling

    await asyncio.to_thread(wait_until, lambda: states(server, "wait") == ["cancelled"], server)


async def test_a_map_that_is_left_stops_what_it_began(server: Server) -> None:
    before = len(states(server, "wait"))

    async def first() -> None:
        async with aclosing(wait.map.aio([f"number {n}" for n in range(300)])) as results:
            await anext(results)

    mapping = asyncio.ensure_future(first())
    await until_running(server, before + 300)

    mapping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await mapping

    await asyncio.to_thread(wait_until, lambda: set(states(server, "wait")) == {"cancelled"}, server)
    assert wait.stats().backlog == 0
