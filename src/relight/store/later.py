"""Rows that nobody waits for, written together a moment after the first of them came, by when there may be less to say:
a claim whose end has come meanwhile, the many states a worker was in.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic, TypeVar

from relight.store.database import Database

Row = TypeVar("Row")

LATER_SECONDS = 0.05
"""How long rows wait for others."""


class Later(Generic[Row]):
    """The rows of one kind of write; `write` is run with all of them, and may be run twice.

    They wait for `seconds`, or until there are `most` of them (0: however many come).
    """

    def __init__(
        self,
        database: Database,
        name: str,
        write: Callable[[list[Row], sqlite3.Connection], None],
        *,
        seconds: float = LATER_SECONDS,
        most: int = 0,
    ) -> None:
        self._database = database
        self._name = name
        self._write = write
        self._seconds = seconds
        self._most = most
        self._rows: list[Row] = []
        self._timer: asyncio.TimerHandle | None = None
        self._kept: asyncio.Future[None] | None = None
        self._written: asyncio.Future[None] | None = None
        database.on_close(self.hurry)

    def add(self, rows: Iterable[Row]) -> asyncio.Future[None]:
        """Keep rows, in a while; the future is done when they are on disk."""
        self._rows += rows
        if self._kept is None:
            loop = asyncio.get_running_loop()
            self._kept = loop.create_future()
            self._timer = loop.call_later(self._seconds, self.hurry)
        kept = self._kept
        if self._most and len(self._rows) >= self._most:
            self.hurry()
        return kept

    def hurry(self) -> None:
        """Do not wait any longer."""
        if self._kept is None or self._timer is None:
            return
        self._timer.cancel()
        rows, self._rows = self._rows, []
        kept, self._kept = self._kept, None
        self._written = kept
        self._database.write(self._name, partial(self._write, rows)).add_done_callback(partial(_pass_on, kept))

    async def settled(self) -> None:
        """Return when all that was added can be read."""
        self.hurry()
        if self._written is not None and not self._written.done():
            await asyncio.shield(self._written)


def _pass_on(future: asyncio.Future[None], done: asyncio.Future[None]) -> None:
    if future.cancelled():
        return
    error = done.exception()
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(None)
