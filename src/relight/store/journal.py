"""Writes in groups, for a database whose writes are short: statements on the event loop's thread, commits on another,
unless the disk is so fast that to wake the other thread would take as long as the commit.

Whatever was queued while the last commit was on its way to the disk goes into the next one: a lone write waits for one
sync, a thousand at once wait for one sync too.  The statements themselves take microseconds; run by a second thread
they would wait for the interpreter's lock before and after each of them, which costs more than all of them together.

A write may be patient: it waits so many seconds for a company to be committed with.  A write that fails is undone alone
and its own future says why: the group is run again with savepoints, so a write may be run twice, once for nothing.  If
the commit fails, all of its writes do.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from relight.protocol.errors import Unavailable
from relight.store.faults import Faults
from relight.store.writes import Write, settle, tell

R = TypeVar("R")

GROUP_SECONDS = 0.005
"""So long the statements of one group may hold the loop; what is left goes into the next."""

FAST_SECONDS = 0.0005
"""While commits take less than this on average, a small group is committed at once, on the loop's own thread."""

SMALL_GROUP = 8
_NEWEST_WEIGHT = 0.2


class Journal:
    """The writing end of one database."""

    def __init__(
        self, connection: sqlite3.Connection, faults: Faults, on_commit: Callable[[], None] = lambda: None
    ) -> None:
        self._connection = connection
        self._faults = faults
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        self._waiting: deque[Write[object]] = deque()
        self._committing: list[Write[object]] = []
        self._commit_seconds = FAST_SECONDS  # the running mean; a disk is slow until it was seen to be fast
        self._due: float | None = None  # when the waiting ones are to be committed, None while none waits
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._commits: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store.commits", daemon=True)
        self._thread.start()

    def write(
        self,
        name: str,
        work: Callable[[sqlite3.Connection], R],
        patience_seconds: float = 0.0,
        heard: Callable[[asyncio.Future[R]], None] | None = None,
    ) -> asyncio.Future[R]:
        """Queue a write; the future is done when it is on disk.  Raises Unavailable through it when it cannot be."""
        future: asyncio.Future[R] = self._loop.create_future()
        if not self._is_open:
            future.set_exception(Unavailable(f"cannot keep {name}: the store is closed; start the server again"))
            if heard is not None:
                heard(future)
            return future
        self._waiting.append(Write(name, work, future, heard))  # type: ignore[arg-type]  # each write knows its own type
        self._is_idle.clear()
        due = self._loop.time() + patience_seconds if patience_seconds else 0.0
        if self._due is None or due < self._due:
            self._due = due
            self._schedule()
        return future

    async def close(self) -> None:
        """Return when all that was queued is on disk; what is queued from now on is refused."""
        self._is_open = False
        if self._waiting:
            self._due = 0.0
            self._schedule()
        await self._is_idle.wait()
        self._commits.put(False)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _schedule(self) -> None:
        """See to it that the next group is formed when it is due; while one is committed, its end does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._committing or self._due is None:
            return
        if self._due:
            self._timer = self._loop.call_at(self._due, self._form)
        else:
            self._timer = self._loop.call_soon(self._form)

    def _form(self) -> None:
        """Run the statements of a group, and hand it over to be committed."""
        self._timer = None
        group: list[Write[object]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._fill(group)
        except sqlite3.Error as error:
            group = group or [self._waiting.popleft()]
            _fail(group, error)
        self._due = 0.0 if self._waiting else None
        self._committing = group
        if self._commit_seconds < FAST_SECONDS and len(group) <= SMALL_GROUP:
            self._commit(group)
            self._committed()
        else:
            self._commits.put(True)

    def _fill(self, group: list[Write[object]]) -> None:
        """Run what waits; if one fails, run all of it once more, each so that it can be undone alone."""
        began = time.perf_counter()
        try:
            while self._waiting and time.perf_counter() - began < GROUP_SECONDS:
                group.append(write := self._waiting.popleft())
                write.result = write.work(self._connection)
        except Exception:  # noqa: BLE001  # whatever it is, it is that write's own, and told to it below
            self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")
            for write in group:
                write.run(self._connection)

    def _run(self) -> None:
        """The other thread: commit whenever told to."""
        while self._commits.get():
            self._commit(self._committing)
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._committed)

    def _commit(self, group: list[Write[object]]) -> None:
        names = [write.name for write in group]
        began = time.perf_counter()
        try:
            self._faults.pass_by(names, "before_commit")
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            _fail(group, error)
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        else:
            self._faults.pass_by(names, "after_commit")
        self._commit_seconds += _NEWEST_WEIGHT * (time.perf_counter() - began - self._commit_seconds)

    def _committed(self) -> None:
        group, self._committing = self._committing, []
        settle(group)
        self._on_commit()
        if self._waiting:
            self._schedule()
        else:
            self._is_idle.set()
        tell(group)  # last: whatever becomes of it, the next group is on its way


def _fail(group: list[Write[object]], error: sqlite3.Error) -> None:
    for write in group:
        write.error = write.error or error
