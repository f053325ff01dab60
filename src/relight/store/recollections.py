"""What a server would forget: texts by kind and name, each the newest of its name."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from relight.store.database import Database
from relight.store.queries import queries


@dataclass(frozen=True, slots=True, kw_only=True)
class Recollection:
    """A text as it was at `at`, seconds since 1970."""

    workspace: str
    kind: str
    name: str
    text: str
    at: float


_COLUMNS = tuple(one.name for one in fields(Recollection))


class RecollectionTable:
    """Every one that is kept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("recollections")

    def put(self, rows: Sequence[Recollection]) -> asyncio.Future[None]:
        """Keep these in the place of what was kept under their names."""
        values = [asdict(row) for row in rows]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(self._sql["put"], values)

        return self._database.write("recollection", work)

    def forget(self, before: float) -> asyncio.Future[None]:
        """Drop what has not changed since a time."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(self._sql["forget"], {"before": before})

        return self._database.write("recollection", work)

    async def all(self) -> tuple[Recollection, ...]:
        """Every one."""
        rows = await self._database.read(lambda connection: connection.execute(self._sql["all"]).fetchall())
        return tuple(Recollection(**dict(zip(_COLUMNS, row, strict=True))) for row in rows)
