"""One thread that writes and commits in groups, for a database whose writes take long: the loop goes on meanwhile.

Whatever was queued while the last commit was on its way to the disk goes into the next one: a lone write waits for one
sync, a thousand at once wait for one sync too.  A write that fails is undone alone (a savepoint) and its own future says
why; if the commit fails, all of its writes do.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from relight.protocol.errors import Unavailable
from relight.store.faults import Faults
from relight.store.writes import Write, settle

R = TypeVar("R")
_MOST_AT_ONCE = 2000


class Writer:
    """The writing end of one database."""

    def __init__(self, connection: sqlite3.Connection, faults: Faults) -> None:
        self._connection = connection
        self._faults = faults
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        self._queue: queue.SimpleQueue[Write[object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store.writer", daemon=True)
        self._thread.start()

    def write(
        self,
        name: str,
        work: Callable[[sqlite3.Connection], R],
        _patience_seconds: float = 0.0,
        heard: Callable[[asyncio.Future[R]], None] | None = None,
    ) -> asyncio.Future[R]:
        """Queue a write; the future is done when it is on disk.  Raises Unavailable through it when it cannot be."""
        future: asyncio.Future[R] = self._loop.create_future()
        if not self._is_open:
            future.set_exception(Unavailable(f"cannot keep {name}: the store is closed; start the server again"))
            return future
        if heard is not None:
            future.add_done_callback(heard)
        self._queue.put(Write(name, work, future))  # type: ignore[arg-type]  # each write knows its own type
        return future

    async def close(self) -> None:
        """Return when all that was queued is on disk; what is queued from now on is refused."""
        self._is_open = False
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, is_last = self._gather(first)
            self._commit(batch)
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(settle, batch)
            if is_last:
                return

    def _gather(self, first: Write[object]) -> tuple[list[Write[object]], bool]:
        batch = [first]
        while len(batch) < _MOST_AT_ONCE:
            try:
                write = self._queue.get_nowait()
            except queue.Empty:
                break
            if write is None:
                return batch, True
            batch.append(write)
        return batch, False

    def _commit(self, batch: list[Write[object]]) -> None:
        names = [write.name for write in batch]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for write in batch:
                write.run(self._connection)
            self._faults.pass_by(names, "before_commit")
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            for write in batch:
                write.error = write.error or error
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            return
        self._faults.pass_by(names, "after_commit")
