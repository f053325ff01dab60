"""Calls that wait in the store alone, and those that came to nothing.

More of a function may wait than the scheduler has in memory.  The rest leaves in the order of its priorities, then of its
rows; a call that was brought and had not begun when the server ended is in memory when the next begins.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import NamedTuple

from relight.protocol.calls import CallView
from relight.store.calls import read_unfinished, read_view
from relight.store.database import Database
from relight.store.queries import queries
from relight.store.rows import Line, Unfinished

AT_ONCE = 1000
"""So many rows are looked at in one write: a longer one would keep every other waiting."""


class Place(NamedTuple):
    """A function of a version as one binding has it."""

    workspace: str
    version: str
    function: str
    binding: str


class WaitingTable:
    """The calls of every workspace that wait here alone, or are dead."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("calls")

    async def lines(self) -> tuple[Line, ...]:
        """How many wait here alone, and of what."""

        def work(connection: sqlite3.Connection) -> tuple[Line, ...]:
            counts: dict[tuple[str, ...], list[tuple[int, int]]] = {}
            for *place, priority, count in connection.execute(self._sql["lines"]):
                counts.setdefault(tuple(place), []).append((priority, count))
            names = ("workspace", "app", "environment", "version", "function", "binding")
            return tuple(
                Line(**dict(zip(names, place, strict=True)), counts=tuple(some)) for place, some in counts.items()
            )

        return await self._database.read(work)

    def bring(self, place: Place, limit: int) -> asyncio.Future[tuple[Unfinished, ...]]:
        """Take the next calls of a function, with what they were given: they are the scheduler's from now on."""
        return self._bring("bring", {**place._asdict(), "limit": limit})

    def bring_late(self, now: float) -> asyncio.Future[tuple[Unfinished, ...]]:
        """Take some of those that may not wait after `now`, seconds since 1970, of whatever function."""
        return self._bring("bring_late", {"now": now, "limit": AT_ONCE})

    def _bring(self, name: str, value: dict[str, object]) -> asyncio.Future[tuple[Unfinished, ...]]:
        def work(connection: sqlite3.Connection) -> tuple[Unfinished, ...]:
            rows = [(row[-1], read_unfinished(row)) for row in connection.execute(self._sql[name], value)]
            return tuple(call for _, call in sorted(rows, key=lambda row: (-row[1].priority, row[0])))

        return self._database.write("bring", work)

    def beyond(self, workspace: str, version: str, function: str = "") -> asyncio.Future[tuple[tuple[str, ...], ...]]:
        """Some of those of a version, or of one of its functions: id, function, binding and priority of each."""
        value = {"workspace": workspace, "version": version, "function": function, "limit": AT_ONCE}
        return self._database.write(
            "beyond", lambda connection: tuple(connection.execute(self._sql["beyond"], value).fetchall())
        )

    def move(self, place: Place, version: str) -> asyncio.Future[tuple[tuple[str, int], ...]]:
        """Some of the calls of a function that wait here alone are another version's: id and priority of each."""
        value = {**place._asdict(), "heir": version, "limit": AT_ONCE}
        return self._database.write(
            "move", lambda connection: tuple(connection.execute(self._sql["move_beyond"], value).fetchall())
        )

    # -- the dead

    async def dead(self, name: tuple[str, str, str, str], limit: int) -> tuple[tuple[CallView, ...], int]:
        """The oldest calls of (workspace, app, environment, function) that came to nothing; and how many there are."""
        value = {**_named(name), "limit": limit}

        def work(connection: sqlite3.Connection) -> tuple[tuple[CallView, ...], int]:
            views = tuple(read_view(row) for row in connection.execute(self._sql["dead"], value))
            return views, int(connection.execute(self._sql["count_dead"], value).fetchone()[0])

        return await self._database.read(work)

    def note_rerun(self, workspace: str, call: str, rerun: str) -> asyncio.Future[bool]:
        """A call that came to nothing is made once more as `rerun`; False when it was already, or is no such call."""
        value = {"workspace": workspace, "id": call, "rerun": rerun}
        return self._database.write(
            "rerun", lambda connection: connection.execute(self._sql["note_rerun"], value).fetchone() is not None
        )


def _named(name: tuple[str, str, str, str]) -> dict[str, object]:
    return dict(zip(("workspace", "app", "environment", "function"), name, strict=True))
