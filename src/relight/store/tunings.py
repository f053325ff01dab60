"""What was said of functions after they were deployed, by the names they are called by."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import asdict

from relight.store.database import Database
from relight.store.queries import queries
from relight.store.rows import TuningRow


class TuningTable:
    """One text for each function, whichever version its name leads to."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("platform")

    def put(self, row: TuningRow) -> asyncio.Future[None]:
        """Keep what is said of a function; an empty text is nothing."""
        name = "put_tuning" if row.said else "remove_tuning"

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(self._sql[name], asdict(row))

        return self._database.write("tuning", work)

    async def all(self) -> tuple[TuningRow, ...]:
        """All of it."""
        rows = await self._database.read(lambda connection: connection.execute(self._sql["tunings"]).fetchall())
        names = ("workspace", "app", "environment", "function", "said")
        return tuple(TuningRow(**dict(zip(names, row, strict=True))) for row in rows)
