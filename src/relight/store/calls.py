"""Calls and their attempts, kept by the rules of `protocol.calls`: one table of steps, one newest token."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

from relight.protocol.calls import TRANSITIONS, AttemptView, CallEvent, CallRequest, CallState, CallView, Token
from relight.protocol.codec import pack, unpack
from relight.protocol.errors import Failure
from relight.protocol.payload import Payload
from relight.protocol.views import CallPlace, CallQuery
from relight.store.database import Database
from relight.store.later import Later
from relight.store.queries import queries
from relight.store.rows import Claim, End, EndQueued, NewCall, Unfinished

M = TypeVar("M")
KeptEnds = asyncio.Future[tuple[CallView | None, ...]]

AWAITED_SECONDS = 0.01
"""How long a call whose caller waits for its end may wait for that to be committed with: a quick start is over by then."""


@dataclass(slots=True)
class _NewRow:
    """A call on its way to the disk; where its end comes before it is there, that writes both as one row.

    `known` are, of all calls submitted with it, those whose ids were used before.
    """

    workspace: str
    call: NewCall
    known: set[str]
    is_left_to_its_end: bool = False


class CallTable:
    """The calls of every workspace."""

    def __init__(self, database: Database, last_sequence: int) -> None:
        self._database = database
        self._sql = queries("calls")
        self._sequence = last_sequence  # only writes touch it
        self._claims = Later(database, "claim", self._keep_claims)
        self._unended: set[tuple[str, Token]] = set()  # claims whose ends have not come yet
        self._awaited: dict[
            tuple[str, str], _NewRow
        ] = {}  # calls that may still be written with their ends, as one row

    # -- writes

    def submit(self, workspace: str, rows: Sequence[NewCall], *, is_awaited: bool = False) -> asyncio.Future[set[str]]:
        """Keep calls; the future holds the ids that were there already, and stay as they were.

        `is_awaited`: their caller hears nothing before their ends, with which they may be committed.
        """
        known: set[str] = set()
        new = [_NewRow(workspace, row, known) for row in rows]

        def work(connection: sqlite3.Connection) -> set[str]:
            known.clear()  # it may be run twice
            for one in new:
                self._submit_one(connection, one)
            return known

        if not is_awaited:
            return self._database.write("submit", work)
        self._awaited.update(((workspace, one.call.request.id), one) for one in new)
        return self._database.write("submit", work, AWAITED_SECONDS)

    def _submit_one(self, connection: sqlite3.Connection, new: _NewRow) -> None:
        """Keep a call, unless its end does."""
        if new.is_left_to_its_end:
            return
        call_id = new.call.request.id
        self._awaited.pop((new.workspace, call_id), None)
        if not self.insert(connection, new.workspace, new.call):
            new.known.add(call_id)

    def insert(self, connection: sqlite3.Connection, workspace: str, row: NewCall) -> bool:
        """Keep a call inside a write; False when its id is there, and stays as it is."""
        return bool(connection.execute(self._sql["submit"], _new_call(workspace, row)).rowcount)

    def claim(self, workspace: str, rows: Sequence[Claim]) -> asyncio.Future[None]:
        """Keep who has which call; a claim with an older token than the one kept changes nothing."""
        self._unended.update((row.call, row.token) for row in rows)
        return self._claims.add([(workspace, row) for row in rows])

    def _keep_claims(self, claims: list[tuple[str, Claim]], connection: sqlite3.Connection) -> None:
        for workspace, row in claims:
            if (row.call, row.token) not in self._unended:
                continue  # its end is queued or kept, and says all of this too
            value = {"workspace": workspace, **_claim(row), "at": row.at}
            connection.execute(self._sql["supersede_attempt"], value)
            connection.execute(self._sql["claim"], value)

    def end(self, workspace: str, rows: Sequence[End], heard: Callable[[KeptEnds], None] | None = None) -> KeptEnds:
        """Keep how attempts ended; None for each whose token is not the newest, which changed nothing.

        `heard` is called once that is kept, or cannot be, before anybody who awaits something goes on.
        """
        self._unended.difference_update([(row.claim.call, row.claim.token) for row in rows])
        ends = [(row, self._left_to(workspace, row)) for row in rows]

        def work(connection: sqlite3.Connection) -> tuple[CallView | None, ...]:
            return tuple([self._end_one(connection, workspace, row, new) for row, new in ends])

        return self._database.write("end", work, heard=heard)

    def _left_to(self, workspace: str, row: End) -> _NewRow | None:
        """The call itself, where it is not kept yet and is to be with this end."""
        new = self._awaited.pop((workspace, row.claim.call), None)
        if new is None or not TRANSITIONS[(CallState.RUNNING, row.event)].is_final:
            return None
        new.is_left_to_its_end = True
        return new

    def end_queued(self, workspace: str, rows: Sequence[EndQueued]) -> asyncio.Future[tuple[CallView | None, ...]]:
        """End calls that nobody runs; None for each that somebody does, or that had ended."""
        values = [
            {
                "workspace": workspace,
                "call": row.call,
                "state": TRANSITIONS[(CallState.QUEUED, row.event)].value,
                "at": row.at,
                "failure": None if row.failure is None else pack(row.failure),
            }
            for row in rows
        ]

        def work(connection: sqlite3.Connection) -> tuple[CallView | None, ...]:
            return tuple(self._returned(connection, self._sql["end_queued"], value) for value in values)

        return self._database.write("end_queued", work)

    def move(self, workspace: str, ids: Sequence[str], version: str) -> asyncio.Future[None]:
        """Calls that wait are for another version now; one that has ended stays as it is."""
        for new in filter(None, (self._awaited.get((workspace, one)) for one in ids)):
            new.call = replace(new.call, version=version)  # it may be written with its end, as one row
        values = [{"workspace": workspace, "id": one, "version": version} for one in ids]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(self._sql["move"], values)

        return self._database.write("move", work)

    def forget(self, before: float, limit: int = 100) -> asyncio.Future[int]:
        """Drop up to `limit` of the calls that ended before a time; how many that were.

        Ask again until it is none: a longer write would keep every other one waiting.
        """

        def work(connection: sqlite3.Connection) -> int:
            gone = connection.execute(self._sql["forget"], {"before": before, "limit": limit}).fetchall()
            for workspace, call in gone:
                connection.execute(self._sql["forget_attempts"], {"workspace": workspace, "call": call})
            return len(gone)

        return self._database.write("forget", work)

    def _end_one(
        self, connection: sqlite3.Connection, workspace: str, row: End, new: _NewRow | None
    ) -> CallView | None:
        value = _end(workspace, row)
        if new is not None:
            whole = {**_new_call(workspace, new.call), **value, "sequence": self._sequence + 1}
            if connection.execute(self._sql["submit_ended"], whole).rowcount:
                self._sequence += 1
                return _ended_view(new.call, row, self._sequence)
            new.known.add(new.call.request.id)
        connection.execute(self._sql["supersede_attempt"], value)
        view = self._returned(connection, self._sql["end"], value, row)
        if view is not None and not view.state.is_final:
            connection.execute(self._sql["keep_attempt"], {**value, "started_at": view.started_at})
        return view

    def _returned(
        self, connection: sqlite3.Connection, sql: str, value: Mapping[str, object], end: End | None = None
    ) -> CallView | None:
        """Run a write that may end a call for good: then it gets the next number.  `end` is at hand, to be shown."""
        is_final = CallState(value["state"]).is_final
        row = connection.execute(sql, {**value, "sequence": self._sequence + 1 if is_final else 0}).fetchone()
        if row is not None and is_final:
            self._sequence += 1
        return None if row is None else read_view(row, end if is_final else None)

    # -- reads

    async def get(self, workspace: str, call_id: str) -> CallView | None:
        """One call, None when it is not kept."""
        return (await self.existing(workspace, [call_id])).get(call_id)

    async def existing(self, workspace: str, ids: Sequence[str]) -> dict[str, CallView]:
        """Those of `ids` that are kept."""

        def work(connection: sqlite3.Connection) -> dict[str, CallView]:
            rows = (connection.execute(self._sql["get"], {"workspace": workspace, "id": one}).fetchone() for one in ids)
            views = (read_view(row) for row in rows if row is not None)
            return {view.id: view for view in views}

        return await self._database.read(work)

    async def list(self, workspace: str, query: CallQuery) -> tuple[CallView, ...]:
        """Calls, newest first, without their results."""
        value = {
            "workspace": workspace,
            "app": query.app,
            "environment": query.environment,
            "function": query.function,
            "state": query.state.value if query.state is not None else "",
            "before": query.before,
            "parent": query.parent,
            "since": query.since,
            "limit": query.limit,
        }
        return await self._views("list_children" if query.parent else "list", value)

    async def tree(self, workspace: str, call_id: str, *, limit: int, depth: int) -> tuple[CallView, ...]:
        """A call and its descendants, oldest first, without their results: the nearest `limit`, down to `depth`."""
        value = {"workspace": workspace, "id": call_id, "limit": limit, "depth": depth}
        return await self._views("tree", value)

    async def group_ended(self, workspace: str, group: str, after: int, limit: int) -> tuple[CallView, ...]:
        """The calls of a group that ended past end number `after`, in the order of their ends."""
        return await self._views(
            "group_ended", {"workspace": workspace, "group": group, "after": after, "limit": limit}
        )

    async def group_oldest(self, workspace: str, group: str) -> CallView | None:
        """The call of a group that has waited longest; None when all have ended."""
        return next(iter(await self._views("group_oldest", {"workspace": workspace, "group": group})), None)

    async def payload(self, workspace: str, ids: Sequence[str]) -> dict[str, Payload]:
        """What calls were given, those whose submit is still being written included: it is read in the writer's turn."""

        def work(connection: sqlite3.Connection) -> dict[str, Payload]:
            rows = {
                one: connection.execute(self._sql["payload"], {"workspace": workspace, "id": one}).fetchone()
                for one in ids
            }
            return {one: unpack(row[0], Payload) for one, row in rows.items() if row is not None}

        return await self._database.write("payload", work)

    async def unfinished_of(self, workspace: str, ids: Sequence[str], group: str) -> tuple[CallPlace, ...]:
        """Those of `ids`, and of a group, that wait or run: read in the writer's turn, as whoever cancels a call may have
        submitted it a moment ago."""

        def work(connection: sqlite3.Connection) -> tuple[CallPlace, ...]:
            named = [{"workspace": workspace, "id": one} for one in ids]
            rows = [row for one in named for row in connection.execute(self._sql["unfinished_one"], one)]
            if group:
                rows += connection.execute(self._sql["unfinished_group"], {"workspace": workspace, "group": group})
            names = ("id", "app", "environment", "version", "function", "binding")
            return tuple(CallPlace(**dict(zip(names, row, strict=True))) for row in rows)

        return await self._database.write("unfinished_of", work)

    async def request(self, workspace: str, call_id: str, new_call: str) -> CallRequest | None:
        """What a call asked for, as a request of a new one; None when it is not kept."""
        value = {"workspace": workspace, "id": call_id}
        row = await self._database.read(lambda connection: connection.execute(self._sql["request"], value).fetchone())
        if row is None:
            return None
        (app, environment, function, method, binding, session, is_strict, accept, payload, priority, key) = row
        return CallRequest(
            id=new_call,
            app=app,
            environment=environment,
            function=function,
            method=method,
            binding=binding,
            session=session,
            is_strict=bool(is_strict),
            accept=tuple(json.loads(accept)),
            payload=unpack(payload, Payload),
            priority=priority,
            key=key,
        )

    async def session_worker(self, workspace: str, request: CallRequest) -> str:
        """The worker that had the newest call of a request's session; "" where none has had any."""
        value = {
            "workspace": workspace,
            "session": request.session,
            "app": request.app,
            "environment": request.environment,
            "function": request.function,
            "binding": request.binding,
        }
        row = await self._database.read(
            lambda connection: connection.execute(self._sql["session_worker"], value).fetchone()
        )
        return "" if row is None else str(row[0])

    async def attempts(self, workspace: str, call_id: str) -> tuple[AttemptView, ...]:
        """The tries of a call, in order."""

        def work(connection: sqlite3.Connection) -> tuple[AttemptView, ...]:
            rows = connection.execute(self._sql["attempts"], {"workspace": workspace, "call": call_id})
            return tuple(_attempt(row) for row in rows)

        return await self._database.read(work)

    async def unfinished(self) -> tuple[Unfinished, ...]:
        """Every call that waits or runs, oldest first, without what it was given; those that wait here alone are in `lines`."""
        return await self._database.read(
            lambda connection: tuple(read_unfinished(row) for row in connection.execute(self._sql["unfinished"]))
        )

    async def named_blobs(self, digests: Sequence[str]) -> frozenset[str]:
        """Those of `digests` that a call or a version, of any workspace, still needs."""

        def work(connection: sqlite3.Connection) -> frozenset[str]:
            return frozenset(
                one for one in digests if connection.execute(self._sql["names_blob"], {"blob": one}).fetchone()[0]
            )

        return await self._database.read(work)

    async def _views(self, name: str, value: Mapping[str, object]) -> tuple[CallView, ...]:
        return await self._database.read(
            lambda connection: tuple(read_view(row) for row in connection.execute(self._sql[name], value))
        )


def last_sequence(connection: sqlite3.Connection) -> int:
    """The number of the newest end."""
    return int(connection.execute(queries("calls")["last_sequence"]).fetchone()[0])


def _new_call(workspace: str, row: NewCall) -> dict[str, object]:
    request = row.request
    return {
        "workspace": workspace,
        "id": request.id,
        "app": request.app,
        "environment": request.environment,
        "version": row.version,
        "function": request.function,
        "method": request.method,
        "in_group": request.group,
        "parent": request.parent,
        "is_awaited": int(request.is_awaited),
        "binding": request.binding,
        "session": request.session,
        "is_strict": int(request.is_strict),
        "accept": _in_json(request.accept),
        "submitted_at": row.at,
        "payload_blob": request.payload.blob,
        "payload": pack(request.payload),
        "priority": request.priority,
        "order_key": request.key,
        "expires_at": row.expires_at,
        "is_beyond": int(row.is_beyond),
    }


@lru_cache(maxsize=64)
def _in_json(accept: tuple[str, ...]) -> str:
    """Nearly every call accepts the same."""
    return json.dumps(accept)


def _claim(row: Claim) -> dict[str, object]:
    return {
        "call": row.call,
        "epoch": row.token.epoch,
        "n": row.token.n,
        "attempt": row.attempt,
        "worker": row.worker,
        "node": row.node,
    }


def _end(workspace: str, row: End) -> dict[str, object]:
    state = TRANSITIONS[(CallState.RUNNING, row.event)]
    is_ok = row.event is CallEvent.SUCCEEDED
    return {
        "workspace": workspace,
        **_claim(row.claim),
        "claimed_at": row.claim.at,
        "state": state.value,
        "charged": int(row.is_charged),
        "items": row.items if state.is_final else 0,
        "used_us": row.used_us,
        "tokens_in": row.tokens_in,
        "tokens_out": row.tokens_out,
        "not_before": row.not_before,
        "ended_at": row.at if state.is_final else None,
        "at": row.at,
        "result": pack(row.result) if is_ok and row.result is not None else None,
        "result_blob": row.result.blob if is_ok and row.result is not None else "",
        "failure": pack(row.failure) if row.failure is not None and state.is_final else None,
        "outcome": row.event.value,
        "detail": _storable(row.failure.message[:500]) if row.failure is not None else "",
    }


def _ended_view(new: NewCall, end: End, sequence: int) -> CallView:
    """A call that was kept with its end, as it would be read."""
    request = new.request
    return CallView(
        id=request.id,
        app=request.app,
        environment=request.environment,
        version=new.version,
        function=request.function,
        method=request.method,
        state=TRANSITIONS[(CallState.RUNNING, end.event)],
        attempts=int(end.is_charged),
        worker=end.claim.worker,
        group=request.group,
        parent=request.parent,
        binding=request.binding,
        submitted_at=new.at,
        started_at=end.claim.at,
        ended_at=end.at,
        result=end.result,
        failure=end.failure,
        sequence=sequence,
        items=end.items,
    )


def read_view(row: sqlite3.Row | tuple[object, ...], end: End | None = None) -> CallView:
    """A call as it is kept; what `end` says of its outcome need not be read back."""
    (_, call_id, app, environment, version, function, method, state, attempts, worker, group, parent, *rest) = row
    binding, submitted_at, started_at, ended_at, sequence, result, failure, items = rest
    return CallView(
        id=str(call_id),
        app=str(app),
        environment=str(environment),
        version=str(version),
        function=str(function),
        method=str(method),
        state=CallState(state),
        attempts=_int(attempts),
        worker=str(worker),
        group=str(group),
        parent=str(parent),
        binding=str(binding),
        submitted_at=_time(submitted_at) or 0.0,
        started_at=_time(started_at),
        ended_at=_time(ended_at),
        sequence=_int(sequence),
        result=end.result if end is not None else _unpacked(result, Payload),
        failure=end.failure if end is not None else _unpacked(failure, Failure),
        items=_int(items),
    )


def _unpacked(data: object, kind: type[M]) -> M | None:
    return unpack(data, kind) if isinstance(data, bytes) else None


def _attempt(row: sqlite3.Row | tuple[object, ...]) -> AttemptView:
    call, number, worker, node, started_at, ended_at, outcome, detail, packed = row
    failure = _unpacked(packed, Failure)
    return AttemptView(
        call=str(call),
        number=_int(number),
        worker=str(worker),
        node=str(node),
        started_at=_time(started_at) or 0.0,
        ended_at=_time(ended_at),
        outcome=str(outcome),
        detail=str(detail) if failure is None else failure.message[:500],
    )


def read_unfinished(row: sqlite3.Row | tuple[object, ...]) -> Unfinished:
    (call_id, workspace, app, environment, version, function, method, binding, *rest) = row
    accept, state, attempts, epoch, n, worker, node, not_before, submitted_at, group, parent, is_awaited, *more = rest
    session, is_strict, priority, order_key, expires_at, payload = more[:6]
    return Unfinished(
        id=str(call_id),
        workspace=str(workspace),
        app=str(app),
        environment=str(environment),
        version=str(version),
        function=str(function),
        method=str(method),
        binding=str(binding),
        accept=tuple(json.loads(str(accept))),
        state=CallState(state),
        attempts=_int(attempts),
        token=Token(_int(epoch), _int(n)) if epoch else None,
        worker=str(worker),
        node=str(node),
        not_before=_time(not_before) or 0.0,
        submitted_at=_time(submitted_at) or 0.0,
        group=str(group),
        parent=str(parent),
        is_awaited=bool(is_awaited),
        session=str(session),
        is_strict=bool(is_strict),
        priority=_int(priority),
        order_key=str(order_key),
        expires_at=_time(expires_at),
        payload=_unpacked(payload, Payload),
    )


def _storable(text: str) -> str:
    """Half a surrogate pair, which user code may raise with, is no text to a database."""
    return text.encode("utf-8", "replace").decode()


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _time(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
