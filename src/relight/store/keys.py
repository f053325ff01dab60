"""The names that callers gave calls: a key and the call that it stands for are kept in one transaction, or neither is."""

from __future__ import annotations

import asyncio
import sqlite3

from relight.protocol.calls import CallKey
from relight.store.calls import CallTable
from relight.store.database import Database
from relight.store.queries import queries
from relight.store.rows import NamedCall, NewCall


class KeyTable:
    """Keys of every workspace.  One that is older than `expired` stands for nothing any more."""

    def __init__(self, database: Database, calls: CallTable) -> None:
        self._database = database
        self._calls = calls
        self._sql = queries("keys")

    def submit(self, workspace: str, key: CallKey, row: NewCall, expired: float) -> asyncio.Future[NamedCall]:
        """Keep a call under a key, unless that stands for another: then for which, and nothing is kept."""
        value = _key(workspace, key)
        new = {**value, "call": row.request.id, "digest": key.digest, "at": row.at, "expired": expired}

        def work(connection: sqlite3.Connection) -> NamedCall:
            if connection.execute(self._sql["take"], new).rowcount:
                self._calls.insert(connection, workspace, row)
                return NamedCall(call=row.request.id, digest=key.digest, is_new=True)
            call, digest = connection.execute(self._sql["named"], {**value, "expired": expired}).fetchone()
            return NamedCall(call=call, digest=digest)

        return self._database.write("submit", work)

    async def named(self, workspace: str, key: CallKey, expired: float) -> NamedCall | None:
        """What a key stands for; None when that is nothing."""
        value = {**_key(workspace, key), "expired": expired}
        row = await self._database.read(
            lambda connection: connection.execute(self._sql["named"], value).fetchone(),
        )
        return None if row is None else NamedCall(call=row[0], digest=row[1])

    def forget(self, expired: float, limit: int = 1000) -> asyncio.Future[int]:
        """Drop up to `limit` of those that stand for nothing any more; how many that was."""
        value = {"expired": expired, "limit": limit}
        return self._database.write(
            "forget", lambda connection: connection.execute(self._sql["forget_keys"], value).rowcount
        )


def _key(workspace: str, key: CallKey) -> dict[str, object]:
    return {"workspace": workspace, "owner": key.owner, "function": key.function, "key": key.key}
