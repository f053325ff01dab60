"""One SQLite file: its settings, its migrations, who writes and who reads."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import TypeVar

from relight.protocol.errors import Unavailable
from relight.store.checkpoints import Checkpoints
from relight.store.faults import Faults
from relight.store.journal import Journal
from relight.store.writer import Writer

R = TypeVar("R")


class Database:
    """A file, its writer and its reader.

    `synchronous` FULL: a commit survives power loss; NORMAL: it survives a crash.  `is_short`: its writes take
    microseconds, so they are run on the loop's thread (`journal`) rather than on one of their own (`writer`).
    """

    def __init__(self, path: Path, *, schema: str, synchronous: str, faults: Faults, is_short: bool = False) -> None:
        connection = _connect(path, synchronous)
        _migrate(connection, schema, path)
        self._checkpoints = Checkpoints(_connect(path, synchronous)) if is_short else None
        self._writer: Journal | Writer
        if self._checkpoints is not None:
            self._writer = Journal(connection, faults, on_commit=self._checkpoints.count)
        else:
            self._writer = Writer(connection, faults)
        self._on_close: list[Callable[[], None]] = []
        self._reader = _connect(path, synchronous)
        self._reader.execute("PRAGMA query_only = 1")
        self._reads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store.reader")

    def write(
        self,
        name: str,
        work: Callable[[sqlite3.Connection], R],
        patience_seconds: float = 0.0,
        heard: Callable[[asyncio.Future[R]], None] | None = None,
    ) -> asyncio.Future[R]:
        """Queue a write, in order; the future is done when it is on disk.

        One with patience waits so long for others to share a commit with.  `heard` is called with the future once that
        is done, before anybody who awaits any future of the same commit goes on.
        """
        return self._writer.write(name, work, patience_seconds, heard)

    def on_close(self, act: Callable[[], None]) -> None:
        """Let something be queued still, before the file is closed."""
        self._on_close.append(act)

    async def read(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Read on the reader's thread, what is committed."""
        return await asyncio.get_running_loop().run_in_executor(self._reads, work, self._reader)

    async def close(self) -> None:
        """Return when everything queued is on disk and the file is closed."""
        for act in self._on_close:
            act()
        await self._writer.close()
        if self._checkpoints is not None:
            self._checkpoints.close()
        self._reads.shutdown()
        self._reader.close()


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA foreign_keys = 1")
    connection.execute("PRAGMA temp_store = MEMORY")  # else what undoes a statement is kept in files
    connection.execute("PRAGMA cache_size = -32768")  # KiB: a group of writes must fit, or its pages go out twice
    connection.execute("PRAGMA wal_autocheckpoint = 16000")  # pages: 64 MiB, reached where `checkpoints` cannot keep up
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
