"""Versions and routes, workers and their lives, tokens, epochs: the smaller tables."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

from relight.protocol.codec import from_plain, to_plain
from relight.protocol.manifest import Manifest
from relight.protocol.versions import How, Strategy, Switch, VersionView
from relight.protocol.views import AppView
from relight.protocol.workers import WorkerInterval, WorkerState, WorkerView
from relight.store.database import Database
from relight.store.later import Later
from relight.store.queries import queries
from relight.store.rows import NewVersion, RouteRow, TokenRow, WorkerRow

_BEGINNING = 6  # requested, placing, pulling, starting, ready, and the first busy
_TOKEN = ("workspace", "id", "hash", "at", "name", "scope", "app", "expires_at", "last_used_at")


class VersionTable:
    """Immutable versions, and the names that lead to them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("platform")

    def deploy(self, row: NewVersion, switch: Switch | None = None) -> asyncio.Future[None]:
        """Keep a version and have its name lead where `switch` says (None: to it), in one transaction."""
        led = switch or Switch(at=row.at, how=How.DEPLOY, version=row.id, made_by=row.made_by)
        value = {
            **_place(row),
            "id": row.id,
            "manifest": json.dumps(to_plain(row.manifest)),
            "code": row.manifest.code.digest,
            "at": row.at,
            "made_by": row.made_by,
            "tags": json.dumps(dict(row.tags)),
            "commit_id": row.commit,
            "source": row.source,
        }

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(self._sql["add_version"], value)
            self._switch(connection, value, led)

        return self._database.write("deploy", work)

    def switch(self, workspace: str, app: str, environment: str, switch: Switch) -> asyncio.Future[None]:
        """Have a name lead where `switch` says: to versions that are kept; with none, nowhere."""
        value = {"workspace": workspace, "app": app, "environment": environment}
        return self._database.write("switch", lambda connection: self._switch(connection, value, switch))

    def _switch(self, connection: sqlite3.Connection, place: Mapping[str, object], switch: Switch) -> None:
        value = {**place, **asdict(switch), "how": switch.how.value, "strategy": switch.strategy.value}
        connection.execute(self._sql["switch_route" if switch.version else "remove_route"], value)
        connection.execute(self._sql["add_switch"], value)

    async def route(self, workspace: str, app: str, environment: str) -> RouteRow | None:
        """Where a name leads; None for nowhere."""
        value = {"workspace": workspace, "app": app, "environment": environment}
        row = await self._database.read(lambda connection: connection.execute(self._sql["route"], value).fetchone())
        if row is None:
            return None
        version, manifest, canary, canary_manifest, percent, strategy = row
        return RouteRow(
            version=version,
            manifest=_manifest(manifest),
            canary=canary,
            canary_manifest=_manifest(canary_manifest) if canary else None,
            canary_percent=percent,
            strategy=Strategy(strategy),
        )

    async def history(self, workspace: str, app: str, environment: str) -> tuple[VersionView, ...]:
        """The versions of an app in an environment, oldest first."""
        value = {"workspace": workspace, "app": app, "environment": environment}
        rows = await self._database.read(lambda connection: connection.execute(self._sql["versions"], value).fetchall())
        return tuple(
            VersionView(
                id=name,
                app=app,
                environment=environment,
                number=number,
                at=at,
                percent=percent or 0.0,
                made_by=made_by,
                commit=commit,
                tags=tuple(json.loads(tags).items()),
                source=source,
                shadow_percent=shadow_percent or 0.0,
            )
            for number, (name, at, made_by, tags, commit, source, percent, shadow_percent) in enumerate(rows, 1)
        )

    async def switches(self, workspace: str, app: str, environment: str, *, limit: int = 100) -> tuple[Switch, ...]:
        """Where a name has led, the newest first."""
        value = {"workspace": workspace, "app": app, "environment": environment, "limit": limit}
        rows = await self._database.read(lambda connection: connection.execute(self._sql["switches"], value).fetchall())
        return tuple(
            Switch(
                at=at,
                how=How(how),
                version=version,
                canary=canary,
                canary_percent=percent,
                made_by=made_by,
                strategy=Strategy(strategy),
            )
            for at, how, version, canary, percent, made_by, strategy in rows
        )

    async def manifest(self, workspace: str, version: str) -> Manifest | None:
        """What a version is; None when it is not kept."""
        value = {"workspace": workspace, "id": version}
        row = await self._database.read(lambda connection: connection.execute(self._sql["manifest"], value).fetchone())
        return None if row is None else _manifest(row[0])

    async def list(self, workspace: str) -> tuple[AppView, ...]:
        """Every name, and what it leads to."""
        value = {"workspace": workspace}
        rows = await self._database.read(lambda connection: connection.execute(self._sql["routes"], value).fetchall())
        return tuple(
            AppView(
                app=app,
                environment=environment,
                version=version,
                functions=tuple(function.name for function in _manifest(manifest).functions),
                deployed_at=at,
            )
            for app, environment, version, at, manifest in rows
        )


class _Moment(NamedTuple):
    """A worker enters a state; `view` is how it is then, None when only that has changed."""

    workspace: str
    worker: str
    state: WorkerState
    at: float
    detail: str
    view: WorkerView | None


class WorkerTable:
    """Workers, and the intervals that tile their lives."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("platform")
        self._later = Later(database, "worker", self._write)

    def record(self, workspace: str, rows: Sequence[WorkerRow]) -> asyncio.Future[None]:
        """Each worker is as its row says from `at` on; a time before its present state began counts as that time."""
        return self._later.add(
            _Moment(workspace, row.view.id, row.view.state, row.at, row.detail, row.view) for row in rows
        )

    def pass_through(self, workspace: str, worker: str, state: WorkerState, at: float) -> None:
        """A worker turned busy or idle, as it does with each call: written with others of its kind, a moment later."""
        self._later.add((_Moment(workspace, worker, state, at, "", None),))

    def _write(self, moments: list[_Moment], connection: sqlite3.Connection) -> None:
        """Write the moments of each worker at once: most lives are short."""
        lives: dict[tuple[str, str], list[_Moment]] = {}
        for moment in moments:
            lives.setdefault((moment.workspace, moment.worker), []).append(moment)
        rows: list[_Interval] = []
        for (workspace, worker), life in lives.items():
            last = connection.execute(self._sql["last_interval"], {"workspace": workspace, "id": worker}).fetchone()
            rows += _intervals(life, last)
            if last is not None:
                connection.execute(self._sql["close_interval"], {**rows[-len(life)], "n": last[0]})
            self._put(connection, life)
        connection.executemany(self._sql["open_interval"], rows)

    def _put(self, connection: sqlite3.Connection, life: Sequence[_Moment]) -> None:
        now = life[-1]
        value = {"workspace": now.workspace, "id": now.worker, "state": now.state.value}
        view = next((moment.view for moment in reversed(life) if moment.view is not None), None)
        if view is None:
            connection.execute(self._sql["move_worker"], value)
        else:
            connection.execute(self._sql["put_worker"], {**value, "view": json.dumps(to_plain(view))})

    async def get(self, workspace: str, worker: str) -> WorkerView | None:
        """One worker, None when it was never recorded."""
        await self._later.settled()
        value = {"workspace": workspace, "id": worker}
        row = await self._database.read(lambda connection: connection.execute(self._sql["worker"], value).fetchone())
        return None if row is None else _worker_view(*row)

    async def list(self, workspace: str, *, include_gone: bool = False, limit: int = 1000) -> tuple[WorkerView, ...]:
        """The newest workers, oldest first."""
        await self._later.settled()
        value = {"workspace": workspace, "include_gone": include_gone, "limit": limit}
        rows = await self._database.read(lambda connection: connection.execute(self._sql["workers"], value).fetchall())
        return tuple(_worker_view(*row) for row in rows)

    async def intervals(
        self, workspace: str, worker: str, *, since: float = 0.0, until: float | None = None
    ) -> tuple[WorkerInterval, ...]:
        """A worker's life: how it began, and all that overlaps a time; each interval ends where the next begins."""
        await self._later.settled()
        value = {"workspace": workspace, "worker": worker, "since": since, "until": until, "first": _BEGINNING}
        rows = await self._database.read(
            lambda connection: connection.execute(self._sql["intervals"], value).fetchall()
        )
        return tuple(
            WorkerInterval(worker=name, state=WorkerState(state), since=since, until=until, detail=detail)
            for name, state, since, until, detail in rows
        )


_Interval = dict[str, object]


def _intervals(life: Sequence[_Moment], last: tuple[int, float, float | None] | None) -> list[_Interval]:
    """A worker's next states, each from where it left the one before: `last` is that one's number, since and until."""
    number, since, until = (-1, life[0].at, life[0].at) if last is None else last
    begin = max(since, life[0].at) if until is None else until
    rows: list[_Interval] = []
    for moment, after in zip(life, [*life[1:], None], strict=True):
        number += 1
        is_over = moment.state is WorkerState.GONE  # it has no length
        until = begin if is_over else None if after is None else max(begin, after.at)
        rows.append(
            {
                "workspace": moment.workspace,
                "id": moment.worker,
                "n": number,
                "state": moment.state.value,
                "since": begin,
                "until": until,
                "detail": moment.detail,
            }
        )
        begin = begin if until is None else until
    return rows


def _worker_view(view: str, state: str) -> WorkerView:
    return replace(from_plain(json.loads(view), WorkerView), state=WorkerState(state))


class TokenTable:
    """Tokens, by their hashes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("platform")

    def add(self, row: TokenRow) -> asyncio.Future[None]:
        """A token is known; one whose hash is there stays as it is."""
        return self._database.write("token", lambda connection: _run(connection, self._sql["add_token"], asdict(row)))

    def remove(self, workspace: str, token_id: str) -> asyncio.Future[None]:
        """A token is not known any more."""
        value = {"workspace": workspace, "id": token_id}
        return self._database.write("token", lambda connection: _run(connection, self._sql["remove_token"], value))

    def use(self, used: Sequence[tuple[str, str, float]]) -> asyncio.Future[None]:
        """Tokens were shown: the workspace, the id and the time of each."""
        values = [{"workspace": workspace, "id": token_id, "at": at} for workspace, token_id, at in used]

        def work(connection: sqlite3.Connection) -> None:
            for value in values:
                connection.execute(self._sql["use_token"], value)

        return self._database.write("token", work)

    async def all(self) -> tuple[TokenRow, ...]:
        """Every token, oldest first."""
        rows = await self._database.read(lambda connection: connection.execute(self._sql["tokens"]).fetchall())
        return tuple(TokenRow(**dict(zip(_TOKEN, row, strict=True))) for row in rows)


class EpochTable:
    """The epochs of schedulers, each committed before its first token."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("platform")

    def begin(self) -> asyncio.Future[int]:
        """The next epoch."""
        return self._database.write(
            "epoch", lambda connection: int(connection.execute(self._sql["begin_epoch"]).fetchone()[0])
        )


def _run(connection: sqlite3.Connection, sql: str, value: Mapping[str, object]) -> None:
    connection.execute(sql, value)


def _place(row: NewVersion) -> dict[str, object]:
    return {"workspace": row.workspace, "app": row.app, "environment": row.environment}


def _manifest(text: str) -> Manifest:
    return from_plain(json.loads(text), Manifest)
