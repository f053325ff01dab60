"""One thread that writes, and commits in groups.

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
from dataclasses import dataclass
from typing import Generic, TypeVar

from relight.protocol.errors import Unavailable
from relight.store.faults import Faults

R = TypeVar("R")
_MOST_AT_ONCE = 2000


@dataclass(slots=True)
class _Write(Generic[R]):
    name: str
    work: Callable[[sqlite3.Connection], R]
    future: asyncio.Future[R]
    result: R | None = None
    error: Exception | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Do it; its error is kept for its future."""
        connection.execute("SAVEPOINT one")
        try:
            self.result = self.work(connection)
        except Exception as error:  # noqa: BLE001  # one write's boundary: its bad text must not end the thread for all
            self.error = error
            connection.execute("ROLLBACK TO one")
        connection.execute("RELEASE one")

    def settle(self) -> None:
        """Tell the future; on the event loop's thread."""
        if self.future.cancelled():
            return
        if self.error is not None:
            refusal = Unavailable(f"cannot keep {self.name}: {self.error}; check the disk, then try again")
            refusal.__cause__ = self.error
            self.future.set_exception(refusal)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]  # set by run, unless there was an error


class Writer:
    """The writing end of one database."""

    def __init__(self, connection: sqlite3.Connection, faults: Faults) -> None:
        self._connection = connection
        self._faults = faults
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        self._queue: queue.SimpleQueue[_Write[object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store.writer", daemon=True)
        self._thread.start()

    def write(self, name: str, work: Callable[[sqlite3.Connection], R]) -> asyncio.Future[R]:
        """Queue a write; the future is done when it is on disk.  Raises Unavailable through it when it cannot be."""
        future: asyncio.Future[R] = self._loop.create_future()
        if not self._is_open:
            future.set_exception(Unavailable(f"cannot keep {name}: the store is closed; start the server again"))
            return future
        self._queue.put(_Write(name, work, future))  # type: ignore[arg-type]  # each write knows its own type
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
                self._loop.call_soon_threadsafe(_settle, batch)
            if is_last:
                return

    def _gather(self, first: _Write[object]) -> tuple[list[_Write[object]], bool]:
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

    def _commit(self, batch: list[_Write[object]]) -> None:
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


def _settle(batch: list[_Write[object]]) -> None:
    for write in batch:
        write.settle()
