"""Following the log, and making its index as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from relight.control.intake import Arrived
from relight.control.logs import Logs
from relight.protocol.errors import Unavailable
from relight.protocol.views import LogQuery, LogRecord
from relight.store.bodies import Origin, Written
from relight.store.logs import Batch, LogTable
from relight.store.store import Store, open_store

WS = "default"


class Clock:
    """A clock that counts how often somebody slept."""

    def __init__(self) -> None:
        self.naps = 0

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.naps += 1


class Writes:
    """Brings lines in, as a node does."""

    def __init__(self, logs: Logs) -> None:
        self.acknowledged: asyncio.Queue[int] = asyncio.Queue()
        self._intake = logs.intake(self.acknowledged.put_nowait)
        self._number = 0

    async def write(self, *texts: str) -> None:
        self._number += 1
        origin = Origin(app="a", environment="main", function="f", worker="w", call="c", source="stdout")
        written = {WS: [Written(origin=origin, at=1.0, texts=texts)]}
        self._intake.take(
            Arrived(batch=Batch(written=written, sender="s", number=self._number), calls=frozenset({"c"}))
        )
        await self.acknowledged.get()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    yield opened
    await opened.close()


async def next_text(lines: AsyncIterator[LogRecord]) -> str:
    async with asyncio.timeout(10):
        return (await anext(lines)).text


async def test_a_follower_sees_the_newest_lines_and_then_each_that_comes(store: Store) -> None:
    logs = Logs(store, Clock())
    writes = Writes(logs)
    await writes.write("yes 1", "no", "yes 2", "yes 3", "no")

    async with aclosing(logs.follow(WS, LogQuery(search="yes", tail=2))) as lines:
        seen = [await next_text(lines), await next_text(lines)]
        await writes.write("no", "yes 4")
        seen.append(await next_text(lines))

    assert seen == ["yes 2", "yes 3", "yes 4"]


async def test_a_follower_that_is_told_to_end_sees_all_that_is_kept_first(store: Store) -> None:
    logs = Logs(store, Clock())
    await Writes(logs).write(*(str(number) for number in range(2500)))
    is_over = asyncio.Event()
    is_over.set()

    texts = [record.text async for record in logs.follow(WS, LogQuery(), until=is_over)]

    assert texts == [str(number) for number in range(2500)]


class Indexes:
    """A table whose index fails to be made at first, and is then made twice."""

    def __init__(self) -> None:
        self.answers = [Unavailable("cannot index the log: no memory"), True, True, False]
        self.is_done = asyncio.Event()

    async def index_next(self) -> bool:
        answer = self.answers.pop(0)
        if not self.answers:
            self.is_done.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_an_index_that_could_not_be_made_is_tried_again_and_each_full_shelf_gets_one(store: Store) -> None:
    clock, table = Clock(), Indexes()
    logs = Logs(replace(store, logs=cast("LogTable", table)), clock)

    async with asyncio.timeout(10):
        running = asyncio.ensure_future(logs.run())
        await table.is_done.wait()
        running.cancel()
        await asyncio.wait([running])

    assert (table.answers, clock.naps) == ([], 1)
