"""How workers were started: one row each, written a moment after."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable
from typing import TypeVar

from relight.protocol.starts import Phase, StartLevel
from relight.protocol.startviews import StartQuery, StartView
from relight.store.database import Database
from relight.store.later import Later
from relight.store.queries import queries

R = TypeVar("R")
Row = dict[str, object]
Rows = list[Row]

_ENDLESS = 1e12  # seconds since 1970: later than all


class StartTable:
    """Starts, in the order of time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("starts")
        self._later: Later[Row] = Later(database, "start", self._write)

    def add(self, workspace: str, starts: Iterable[StartView]) -> asyncio.Future[None]:
        """Keep starts, in a while; nobody waits for that."""
        return self._later.add(_row(workspace, start) for start in starts)

    async def list(self, workspace: str, query: StartQuery) -> tuple[StartView, ...]:
        """Starts, newest first."""
        return await self.look(workspace, query, tuple)

    async def look(self, workspace: str, query: StartQuery, summarize: Callable[[Iterable[StartView]], R]) -> R:
        """What `summarize` makes of starts, newest first: many may be read without the loop standing still."""
        await self._later.settled()
        value = {
            "workspace": workspace,
            "app": query.app,
            "environment": query.environment,
            "function": query.function,
            "level": query.level.value if query.level is not None else "",
            "since": query.since,
            "before": query.before or _ENDLESS,
            "limit": query.limit,
        }
        return await self._database.read(
            lambda connection: summarize(_view(*row) for row in connection.execute(self._sql["starts"], value))
        )

    def forget(self, before: float, limit: int = 1000) -> asyncio.Future[int]:
        """Drop up to `limit` starts of each workspace that were over before a time; how many that was.

        Ask again until it is none: a longer write would keep every other one waiting.
        """

        def work(connection: sqlite3.Connection) -> int:
            return sum(
                connection.execute(
                    self._sql["forget_starts"], {"workspace": workspace, "before": before, "limit": limit}
                ).rowcount
                for (workspace,) in connection.execute(self._sql["workspaces"]).fetchall()
            )

        return self._database.write("forget", work)

    def _write(self, rows: Rows, connection: sqlite3.Connection) -> None:
        connection.executemany(self._sql["add_start"], rows)


def _row(workspace: str, start: StartView) -> Row:
    return {
        "workspace": workspace,
        "worker": start.worker,
        "node": start.node,
        "app": start.app,
        "environment": start.environment,
        "version": start.version,
        "function": start.function,
        "binding": start.binding,
        "level": start.level.value,
        "why": start.why,
        "phases": json.dumps([(phase.name, round(phase.seconds, 6)) for phase in start.phases], separators=(",", ":")),
        "seconds": start.seconds,
        "at": start.at,
        "failure": start.failure,
        "is_ahead": int(start.is_ahead),
    }


def _view(*row: str | float) -> StartView:
    worker, node, app, environment, version, function, binding, level, why, phases, seconds, at, failure, is_ahead = row
    return StartView(
        worker=str(worker),
        node=str(node),
        app=str(app),
        environment=str(environment),
        version=str(version),
        function=str(function),
        binding=str(binding),
        level=StartLevel(level),
        why=str(why),
        phases=tuple(Phase(name=name, seconds=took) for name, took in json.loads(str(phases))),
        seconds=float(seconds),
        at=float(at),
        failure=str(failure),
        is_ahead=bool(is_ahead),
    )
