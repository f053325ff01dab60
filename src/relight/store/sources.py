"""Sources and their pushes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from relight.protocol.sources import PushState, PushView, SourceView
from relight.store.database import Database
from relight.store.queries import queries
from relight.store.seal import Seal


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """A source, with what is secret of it."""

    workspace: str
    view: SourceView
    secret: str
    status_token: str


class SourceTable:
    """Branches whose pushes are deployed, and what became of the pushes."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal
        self._sql = queries("sources")

    def add(self, row: SourceRow) -> asyncio.Future[None]:
        """A source is known."""
        view = row.view
        value = {
            "workspace": row.workspace,
            "id": view.id,
            "url": view.url,
            "branch": view.branch,
            "file": view.file,
            "environment": view.environment,
            "status_url": view.status_url,
            "made_by": view.made_by,
            "at": view.at,
            "secret": self._seal.close(row.secret, f"{view.id}.secret"),
            "status_token": self._seal.close(row.status_token, f"{view.id}.status_token"),
        }
        return self._database.write("source", lambda connection: _run(connection, self._sql["add_source"], value))

    async def get(self, source: str) -> SourceRow | None:
        """A source by its id, in whatever workspace; None when there is none.  Raises Unavailable when it cannot be opened."""
        value = {"id": source}
        row = await self._database.read(lambda connection: connection.execute(self._sql["source"], value).fetchone())
        if row is None:
            return None
        *fields, workspace, secret, status_token = row
        return SourceRow(
            workspace=workspace,
            view=_source_view(fields),
            secret=self._seal.open(secret, f"{source}.secret"),
            status_token=self._seal.open(status_token, f"{source}.status_token"),
        )

    async def list(self, workspace: str) -> tuple[SourceView, ...]:
        """The sources of a workspace, oldest first."""
        value = {"workspace": workspace}
        rows = await self._database.read(lambda connection: connection.execute(self._sql["sources"], value).fetchall())
        return tuple(map(_source_view, rows))

    def remove(self, workspace: str, source: str) -> asyncio.Future[None]:
        """A source is known no more, and what became of its pushes neither."""
        value = {"workspace": workspace, "id": source}

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(self._sql["remove_pushes"], value)
            connection.execute(self._sql["remove_source"], value)

        return self._database.write("source", work)

    def put(self, workspace: str, push: PushView) -> asyncio.Future[None]:
        """A push is as it is now."""
        value = {
            "workspace": workspace,
            "id": push.id,
            "source": push.source,
            "commit_id": push.commit,
            "state": push.state.value,
            "at": push.at,
            "ended_at": push.ended_at,
            "versions": json.dumps(push.versions),
            "detail": push.detail,
        }
        return self._database.write("push", lambda connection: _run(connection, self._sql["put_push"], value))

    async def pushes(self, workspace: str, source: str, *, limit: int = 100) -> tuple[PushView, ...]:
        """What became of the pushes of a source, the newest first."""
        value = {"workspace": workspace, "source": source, "limit": limit}
        rows = await self._database.read(lambda connection: connection.execute(self._sql["pushes"], value).fetchall())
        return tuple(map(_push_view, rows))

    async def unfinished(self) -> tuple[PushView, ...]:
        """The pushes that a server before this one did not see to their end, oldest first."""
        rows = await self._database.read(lambda connection: connection.execute(self._sql["unfinished"]).fetchall())
        return tuple(map(_push_view, rows))


def _source_view(row: list[object] | tuple[object, ...]) -> SourceView:
    names = ("id", "url", "branch", "file", "environment", "status_url", "made_by", "at")
    return SourceView(**dict(zip(names, row, strict=True)))  # type: ignore[arg-type]  # as the table has them


def _push_view(row: tuple[str, str, str, str, float, float | None, str, str]) -> PushView:
    name, source, commit, state, at, ended_at, versions, detail = row
    return PushView(
        id=name,
        source=source,
        commit=commit,
        state=PushState(state),
        at=at,
        ended_at=ended_at,
        versions=tuple(json.loads(versions)),
        detail=detail,
    )


def _run(connection: sqlite3.Connection, sql: str, value: Mapping[str, object]) -> None:
    connection.execute(sql, value)
