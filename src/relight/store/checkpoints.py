"""Moves what was committed from the write-ahead log into the file, beside the writer rather than in its way.

SQLite does this in the commit that makes the log long: tens of milliseconds, on the loop's own thread where commits are
made there.  Here a connection and a thread of their own do it every so many commits; the writer's own turn comes only
at a log so long that this must have failed to keep up.
"""

from __future__ import annotations

import logging
import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor

EVERY_COMMITS = 256

_log = logging.getLogger("relight.store")


class Checkpoints:
    """Owns `connection`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store.checkpoints")
        self._commits = 0
        self._running: Future[None] | None = None

    def count(self) -> None:
        """One more commit was made."""
        self._commits += 1
        if self._commits >= EVERY_COMMITS and (self._running is None or self._running.done()):
            self._commits = 0
            self._running = self._thread.submit(self._checkpoint)

    def close(self) -> None:
        """Return when nothing is moved any more."""
        self._thread.shutdown()
        self._connection.close()

    def _checkpoint(self) -> None:
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            _log.warning("write-ahead log not moved", extra={"why": str(error)})
