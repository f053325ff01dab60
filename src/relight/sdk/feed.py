"""The input of a map on an event loop: read ahead a little by a task of its own, while the loop does other things."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from relight.clock import SystemClock

Row = tuple[Any, ...]
Rows = Iterable[Row] | AsyncIterable[Row]


class Feed:
    """Reads `rows`, at most `most` ahead; a blocking iterator is read in a thread, for at most `seconds` at a time."""

    def __init__(self, rows: Rows, most: int, seconds: float) -> None:
        self._rows: deque[Row] = deque()
        self._most = most
        self._seconds = seconds
        self._has_ended = False
        self._error: Exception | None = None
        self._came = asyncio.Event()
        self._has_room = asyncio.Event()
        self._reading = asyncio.get_running_loop().create_task(self._read(rows), name="relight.feed")

    def next_nowait(self) -> Row | None:
        """The next row; None when none has come."""
        if not self._rows:
            return None
        row = self._rows.popleft()
        if not self._rows:
            self._has_room.set()
        return row

    def is_over(self) -> bool:
        """Whether all rows were taken.  Raises what the input raised instead of one more."""
        if self._rows or not self._has_ended:
            return False
        if self._error is not None:
            raise self._error
        return True

    async def wait_or(self, other: asyncio.Future[None] | None, *, wants_rows: bool) -> None:
        """Return when `other` is done or, where rows are wanted, when some have come or there are no more."""
        self._came.clear()
        if wants_rows and (self._rows or self._has_ended):
            return
        waits: list[asyncio.Future[Any]] = [other] if other is not None else []
        coming = asyncio.ensure_future(self._came.wait())
        try:
            await asyncio.wait([*waits, coming] if wants_rows else waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            coming.cancel()

    async def stop(self, *others: asyncio.Future[None] | None) -> None:
        """Read no more, and let go of what was waited for beside it."""
        for task in (self._reading, *others):
            if task is not None and not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((task,))

    async def _read(self, rows: Rows) -> None:
        try:
            if isinstance(rows, AsyncIterable):
                async for row in rows:
                    await self._put(row)
            else:
                await self._read_blocking(iter(rows))
        except Exception as error:  # noqa: BLE001 - whatever the user's input raises is raised where its rows are taken
            self._error = error
        finally:
            self._has_ended = True
            self._came.set()

    async def _read_blocking(self, rows: Iterator[Row]) -> None:
        is_over = False
        while not is_over:
            some, is_over = await asyncio.to_thread(self._some, rows)
            for row in some:
                await self._put(row)

    def _some(self, rows: Iterator[Row]) -> tuple[list[Row], bool]:
        clock = SystemClock()
        until = clock.monotonic() + self._seconds
        some: list[Row] = []
        for row in rows:
            some.append(row)
            if len(some) >= self._most or clock.monotonic() >= until:
                return some, False
        return some, True

    async def _put(self, row: Row) -> None:
        while len(self._rows) >= self._most:
            self._has_room.clear()
            await self._has_room.wait()
        self._rows.append(row)
        self._came.set()
