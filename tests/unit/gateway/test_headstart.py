"""Tasks whose first step is taken at once are tasks in every other way."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from relight.gateway.headstart import start_now

T = TypeVar("T")


def start(work: Coroutine[Any, Any, T]) -> asyncio.Future[asyncio.Task[T]]:
    """Start it as a transport's callback does: outside of every task."""
    loop = asyncio.get_running_loop()
    started: asyncio.Future[asyncio.Task[T]] = loop.create_future()
    loop.call_soon(lambda: started.set_result(start_now(loop, work, "test")))
    return started


async def turn() -> None:
    """Let the loop go round."""
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    await turned


class Steps:
    """What a piece of work has seen so far."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.waits_for: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work(self) -> int:
        self.seen.append(asyncio.current_task())
        try:
            value = await self.waits_for
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise
        await turn()
        self.seen.append(asyncio.current_task())
        return value


async def test_the_first_step_is_taken_before_the_loop_turns() -> None:
    steps = Steps()
    turns: list[bool] = []
    loop = asyncio.get_running_loop()

    def begin() -> None:
        loop.call_soon(lambda: turns.append(bool(steps.seen)))
        start_now(loop, steps.work(), "test")
        turns.append(bool(steps.seen))
        steps.waits_for.set_result(1)

    loop.call_soon(begin)
    await steps.waits_for

    assert turns[0]


async def test_the_rest_is_run_by_the_same_task_and_ends_with_its_value() -> None:
    steps = Steps()

    task = await start(steps.work())
    steps.waits_for.set_result(7)

    assert await task == 7
    assert steps.seen == [task, task]


async def test_work_that_need_not_wait_is_done_at_once() -> None:
    async def work() -> str:
        return "done"

    assert await (await start(work())) == "done"


async def test_an_error_in_the_first_step_is_the_tasks_own() -> None:
    async def work() -> None:
        raise LookupError("not there")

    task = await start(work())

    with pytest.raises(LookupError, match="not there"):
        await task


async def test_a_time_limit_may_begin_in_the_first_step() -> None:
    async def work() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "too late"
        return "in time"

    assert await (await start(work())) == "too late"


async def test_work_that_is_cancelled_before_its_second_step_hears_it() -> None:
    steps = Steps()
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[int]] = []

    def begin() -> None:
        tasks.append(start_now(loop, steps.work(), "test"))
        tasks[0].cancel()

    loop.call_soon(begin)
    await asyncio.wait([steps.waits_for], timeout=10)
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]

    assert steps.waits_for.cancelled()
    assert steps.seen[1:] == ["cancelled"]


async def test_work_that_is_cancelled_later_hears_it_too() -> None:
    steps = Steps()
    task = await start(steps.work())

    await turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert steps.seen[1:] == ["cancelled"]


async def test_inside_another_task_it_starts_all_the_same() -> None:
    steps = Steps()

    task = start_now(asyncio.get_running_loop(), steps.work(), "test")
    steps.waits_for.set_result(3)

    assert await task == 3
    assert steps.seen == [task, task]
