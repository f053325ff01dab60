"""What holds up the starts of functions whose workers crash, so that a server that comes back does not begin anew."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import asdict, dataclass, fields

from relight.store.database import Database
from relight.store.queries import queries


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeRow:
    """`scheduler.brake.Brake` of one function; times are seconds since 1970, `reason` is the last worker's exit."""

    workspace: str
    version: str
    function: str
    binding: str
    crashes: int
    crashed_at: float
    blocked_until: float
    reason: str
    message: str


_COLUMNS = tuple(one.name for one in fields(BrakeRow))


class BrakeTable:
    """One row for each function whose workers crashed last."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("brakes")

    def put(self, row: BrakeRow) -> asyncio.Future[None]:
        """Its workers have crashed once more."""
        return self._run("put", asdict(row))

    def remove(self, row: BrakeRow) -> asyncio.Future[None]:
        """Its workers are well again."""
        return self._run("remove", asdict(row))

    def forget(self, before: float) -> asyncio.Future[None]:
        """Drop those that have held nothing up since a time."""
        return self._run("forget", {"before": before})

    async def all(self) -> tuple[BrakeRow, ...]:
        """Every one that is kept."""
        rows = await self._database.read(lambda connection: connection.execute(self._sql["all"]).fetchall())
        return tuple(BrakeRow(**dict(zip(_COLUMNS, row, strict=True))) for row in rows)

    def _run(self, name: str, value: dict[str, object]) -> asyncio.Future[None]:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(self._sql[name], value)

        return self._database.write("brake", work)
