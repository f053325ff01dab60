"""Budgets: how much an app, or a workspace, may spend in a month."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import asdict, dataclass

from relight.store.database import Database
from relight.store.queries import queries


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRow:
    """So many nano-dollars in a calendar month (UTC), of an app or of all ("").  From `warn_percent` of it on it is said."""

    workspace: str
    app: str
    nanos: int
    warn_percent: int = 80


class BudgetTable:
    """Every budget."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("budgets")

    def put(self, row: BudgetRow) -> asyncio.Future[None]:
        """Set one, in the place of what there was."""
        return self._write("set_budget", asdict(row))

    def remove(self, workspace: str, app: str) -> asyncio.Future[None]:
        """Take one away."""
        return self._write("remove_budget", {"workspace": workspace, "app": app})

    async def all(self) -> tuple[BudgetRow, ...]:
        """Those there are."""
        rows = await self._database.read(lambda connection: connection.execute(self._sql["budgets"]).fetchall())
        return tuple(BudgetRow(workspace=row[0], app=row[1], nanos=row[2], warn_percent=row[3]) for row in rows)

    def _write(self, name: str, value: dict[str, object]) -> asyncio.Future[None]:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(self._sql[name], value)

        return self._database.write("budget", work)
