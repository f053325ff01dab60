"""The lines that workers wrote, in a file of their own: much is written, little is read."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict

from relight.protocol.views import LogQuery, LogRecord
from relight.store.database import Database
from relight.store.queries import queries

_NAMES = ("id", "at", "app", "environment", "function", "worker", "call", "source", "text")


class LogTable:
    """Lines, in the order of keeping."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("logs")

    def append(self, workspace: str, rows: Sequence[LogRecord]) -> asyncio.Future[tuple[int, ...]]:
        """Keep lines; their ids, which grow."""
        values = [{**asdict(row), "workspace": workspace} for row in rows]

        def work(connection: sqlite3.Connection) -> tuple[int, ...]:
            return tuple(connection.execute(self._sql["append"], value).lastrowid or 0 for value in values)

        return self._database.write("logs", work)

    async def read(self, workspace: str, query: LogQuery) -> tuple[LogRecord, ...]:
        """Lines, oldest first.  `search` is text that a line must hold, as it is written."""
        name = next((f"read_{by}" for by in ("call", "worker") if asdict(query)[by]), "read")
        if name == "read" and query.environment:
            name = "read_place"
        value = {**asdict(query), "workspace": workspace}
        rows = await self._database.read(lambda connection: connection.execute(self._sql[name], value).fetchall())
        return tuple(LogRecord(**dict(zip(_NAMES, row, strict=True))) for row in rows)

    def forget(self, before: float) -> asyncio.Future[int]:
        """Drop the lines from before a time; how many."""
        return self._database.write(
            "logs", lambda connection: connection.execute(self._sql["forget"], {"before": before}).rowcount
        )
