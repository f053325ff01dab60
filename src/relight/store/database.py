"""One SQLite file: its settings, its migrations, who writes and who reads."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TypeVar

from relight.protocol.errors import Unavailable
from relight.store.faults import Faults
from relight.store.journal import Journal
from relight.store.writer import Writer

R = TypeVar("R")

DEFERRED_SECONDS = 0.05
"""How long a write waits that may turn out to be unnecessary, or smaller: claims, whose ends say as much."""


class Database:
    """A file, its writer and its reader.

    `synchronous` FULL: a commit survives power loss; NORMAL: it survives a crash.  `is_short`: its writes take
    microseconds, so they are run on the loop's thread (`journal`) rather than on one of their own (`writer`).
    """

    def __init__(self, path: Path, *, schema: str, synchronous: str, faults: Faults, is_short: bool = False) -> None:
        connection = _connect(path, synchronous)
        _migrate(connection, schema, path)
        self._writer: Journal | Writer = Journal(connection, faults) if is_short else Writer(connection, faults)
        self._deferred: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._reader = _connect(path, synchronous)
        self._reader.execute("PRAGMA query_only = 1")
        self._reads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store.reader")

    def write(
        self, name: str, work: Callable[[sqlite3.Connection], R], patience_seconds: float = 0.0
    ) -> asyncio.Future[R]:
        """Queue a write, in order; the future is done when it is on disk.

        One with patience waits so long for others to share a commit with.
        """
        return self._writer.write(name, work, patience_seconds)

    def defer(self, name: str, work: Callable[[sqlite3.Connection], R]) -> asyncio.Future[R]:
        """A write that nobody waits for: it is queued after DEFERRED_SECONDS, by when it may have less to do."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        if not self._deferred:
            self._timer = asyncio.get_running_loop().call_later(DEFERRED_SECONDS, self.hurry)
        self._deferred.append(lambda: self.write(name, work).add_done_callback(partial(_pass_on, future)))
        return future

    def hurry(self) -> None:
        """Queue what was deferred."""
        if self._timer is not None:
            self._timer.cancel()
        deferred, self._deferred = self._deferred, []
        for queue in deferred:
            queue()

    async def read(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Read on the reader's thread, what is committed."""
        return await asyncio.get_running_loop().run_in_executor(self._reads, work, self._reader)

    async def close(self) -> None:
        """Return when everything queued is on disk and the file is closed."""
        self.hurry()
        await self._writer.close()
        self._reads.shutdown()
        self._reader.close()


def _pass_on(future: asyncio.Future[R], done: asyncio.Future[R]) -> None:
    if future.cancelled():
        return
    error = done.exception()
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(done.result())


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA foreign_keys = 1")
    connection.execute("PRAGMA temp_store = MEMORY")  # else what undoes a statement is kept in files
    connection.execute("PRAGMA cache_size = -32768")  # KiB: a group of writes must fit, or its pages go out twice
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    return connection


def _migrate(connection: sqlite3.Connection, schema: str, path: Path) -> None:
    """Bring the file to the newest form.  Raises Unavailable when a newer relight has written it."""
    files = sorted(
        (file for file in (resources.files("relight.store") / "migrations").iterdir() if file.name.startswith(schema)),
        key=lambda file: file.name,
    )
    there = connection.execute("PRAGMA user_version").fetchone()[0]
    if there > len(files):
        raise Unavailable(
            f"cannot open {path}: it is at version {there} and this relight knows {len(files)}; start the newer relight"
        )
    for number, file in enumerate(files[there:], there + 1):
        connection.executescript(f"BEGIN; {file.read_text()} PRAGMA user_version = {number}; COMMIT;")
