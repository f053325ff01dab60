"""What workers used and what it cost: stretch after stretch, each with its posting, and neither ever changed."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

from relight.protocol.usage import StateTimes, UsageRecord, UsedBy, add_times
from relight.protocol.workers import WorkerKind, WorkerState
from relight.store.database import Database
from relight.store.queries import queries

R = TypeVar("R")

ENDLESS_US = 10**18
"""Later than all, in microseconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """A stretch as it is kept: on which node, and what the worker held, in thousandths of a core, MiB, and kinds of GPUs,
    of each of which `gpu_micros` millionths.
    """

    record: UsageRecord
    node: str
    cpu_millis: int
    memory_mib: int
    gpus: tuple[str, ...] = ()
    gpu_micros: int = 1_000_000

    @property
    def length_us(self) -> int:
        """How long the stretch is."""
        return self.record.until_us - self.record.since_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """All that a worker used before a stretch."""

    times: StateTimes = ()
    calls: int = 0
    egress_bytes: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What was posted: `unpriced` postings have no price.  The first of it was used at `since`, seconds since 1970; 0: none."""

    nanos: int
    unpriced: int
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """What a stretch cost, in nano-dollars: None where the card has no price.  `correction` 0 is the first word on it."""

    card: str
    nanos: int | None
    billed_us: int
    correction: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the ledger."""

    row: UsageRow
    posting: Posting


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """Which stretches: those that ended after `since` and up to `until` (seconds since 1970; 0 for all); empty asks for all."""

    app: str = ""
    environment: str = ""
    function: str = ""
    since: float = 0.0
    until: float = 0.0
    call: str = ""
    limit: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedCall:
    """What a call had of workers' time, all its tries together."""

    id: str
    app: str
    environment: str
    version: str
    function: str
    binding: str
    worker: str
    used_us: int
    tokens_in: int
    tokens_out: int
    ended_at: float


Post = Callable[[UsageRow, Before], Posting]
"""What a stretch costs, after all that its worker used before."""


class UsageTable:
    """The ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("usage")

    def keep(self, rows: Sequence[UsageRow], post: Post) -> asyncio.Future[None]:
        """Keep stretches with their postings.  One that is there, or comes after its worker's last, changes nothing."""

        def work(connection: sqlite3.Connection) -> None:
            for row in rows:
                self._keep_one(connection, row, post)

        return self._database.write("usage", work, 0.05)

    def close(self, row: UsageRow, post: Post) -> asyncio.Future[None]:
        """End a life that its node can tell no more of, with a stretch from where it was told of last.

        What `row` says of the time before counts only where nothing was told.  Nothing changes where the last word is there.
        """

        def work(connection: sqlite3.Connection) -> None:
            last = connection.execute(self._sql["last_usage"], _key(row.record)).fetchone()
            if last is not None and last[2]:
                return
            number, since_us = (-1, row.record.since_us) if last is None else last[:2]
            until_us = max(since_us, row.record.until_us)
            if last is None and until_us == since_us:
                return
            states = _fit(row.record.states, until_us - since_us)
            record = replace(
                row.record, n=number + 1, since_us=since_us, until_us=until_us, states=states, is_last=True
            )
            self._keep_one(connection, replace(row, record=record), post)

        return self._database.write("usage", work)

    def correct(self, workspace: str, worker: str, n: int, posting: Posting) -> asyncio.Future[int | None]:
        """Post so much more, or less, for a stretch; the number of the correction, None where there is no such stretch."""
        value = {"workspace": workspace, "worker": worker, "n": n}
        value |= {"card": posting.card, "nanos": posting.nanos, "reason": posting.reason}

        def work(connection: sqlite3.Connection) -> int | None:
            row = connection.execute(self._sql["correct"], value).fetchone()
            return None if row is None else int(row[0])

        return self._database.write("correct", work)

    async def look(self, workspace: str, query: UsageQuery, summarize: Callable[[Iterable[Entry]], R]) -> R:
        """What `summarize` makes of the ledger, oldest first: much may be read without the loop standing still."""
        value = {
            "workspace": workspace,
            "app": query.app,
            "environment": query.environment,
            "function": query.function,
            "since_us": round(query.since * 1e6),
            "until_us": round(query.until * 1e6) or ENDLESS_US,
        }
        return await self._database.read(
            lambda connection: summarize(
                _entry(workspace, row) for row in connection.execute(self._sql["ledger"], value)
            )
        )

    async def spent(
        self, workspace: str, app: str, since: float, *, environment: str = "", function: str = ""
    ) -> Spent:
        """What was posted from a time on, of what is named or of all ("")."""
        value: dict[str, object] = {"workspace": workspace, "app": app, "since_us": round(since * 1e6)}
        value |= {"environment": environment, "function": function}
        row = await self._database.read(lambda connection: connection.execute(self._sql["spent"], value).fetchone())
        return Spent(nanos=row[0], unpriced=row[1], since=row[2] / 1e6)

    async def calls(self, workspace: str, query: UsageQuery) -> tuple[UsedCall, ...]:
        """The calls that ended then and had some of a worker's time, newest first; as long as calls are kept."""
        value = {
            "workspace": workspace,
            "app": query.app,
            "environment": query.environment,
            "function": query.function,
            "call": query.call,
            "since": query.since,
            "until": query.until or ENDLESS_US,
            "limit": query.limit,
        }
        rows = await self._database.read(
            lambda connection: connection.execute(self._sql["used_calls"], value).fetchall()
        )
        return tuple(_used_call(row) for row in rows)

    def _keep_one(self, connection: sqlite3.Connection, row: UsageRow, post: Post) -> None:
        if connection.execute(self._sql["add_usage"], _value(row)).fetchone() is None:
            return
        posting = post(row, self._before(connection, row))
        value = {**_key(row.record), "n": row.record.n, "until_us": row.record.until_us}
        value |= {"card": posting.card, "nanos": posting.nanos, "billed_us": posting.billed_us}
        connection.execute(self._sql["add_posting"], value)

    def _before(self, connection: sqlite3.Connection, row: UsageRow) -> Before:
        if not row.record.n:
            return Before()
        rows = connection.execute(self._sql["usage_before"], {**_key(row.record), "n": row.record.n}).fetchall()
        return Before(
            times=add_times(*(_times(row[0]) for row in rows)),
            calls=sum(row[1] for row in rows),
            egress_bytes=sum(row[2] for row in rows),
            tokens_in=sum(row[3] for row in rows),
            tokens_out=sum(row[4] for row in rows),
        )


def _key(record: UsageRecord) -> dict[str, object]:
    return {"workspace": record.by.workspace, "worker": record.worker}


def _value(row: UsageRow) -> dict[str, object]:
    record, by = row.record, row.record.by
    return {
        **_key(record),
        "n": record.n,
        "node": row.node,
        "app": by.app,
        "environment": by.environment,
        "version": by.version,
        "function": by.function,
        "binding": by.binding,
        "kind": by.kind.value,
        "since_us": record.since_us,
        "until_us": record.until_us,
        "times": json.dumps({state.value: microseconds for state, microseconds in record.states}),
        "cpu_millis": row.cpu_millis,
        "memory_mib": row.memory_mib,
        "gpus": json.dumps(row.gpus),
        "gpu_micros": row.gpu_micros,
        "calls": record.calls,
        "cpu_us": record.cpu_us,
        "egress_bytes": record.egress_bytes,
        "tokens_in": record.tokens_in,
        "tokens_out": record.tokens_out,
        "tags": json.dumps(dict(by.tags)),
        "is_last": int(record.is_last),
    }


def _fit(states: StateTimes, length_us: int) -> StateTimes:
    """The last so many microseconds of times that are in the order in which they passed; the first state fills what lacks,
    and idleness where nothing is known."""
    fitted: list[tuple[WorkerState, int]] = []
    left = length_us
    for state, microseconds in reversed(states):
        taken = min(left, microseconds)
        fitted.append((state, taken))
        left -= taken
    if left:
        fitted.append((fitted[-1][0] if fitted else WorkerState.IDLE, left))
    return add_times(tuple(fitted))


def _times(text: str) -> StateTimes:
    return tuple((WorkerState(state), microseconds) for state, microseconds in json.loads(text).items())


@lru_cache(maxsize=1024)
def _tags(of_version: str, own: str) -> tuple[tuple[str, str], ...]:
    """Those of a function, and of its deploy where it has none of that name."""
    return tuple(sorted({**json.loads(of_version), **json.loads(own)}.items()))


def _entry(workspace: str, row: Sequence[object]) -> Entry:
    (worker, n, node, app, environment, version, function, binding, kind, since_us, until_us, times, *rest) = row
    cpu_millis, memory_mib, gpus, gpu_micros, calls, cpu_us, egress, tokens_in, tokens_out, tags, of_version, *rest = (
        rest
    )
    is_last, correction, card, nanos, billed_us, reason = rest
    by = UsedBy(
        workspace=workspace,
        app=str(app),
        environment=str(environment),
        version=str(version),
        function=str(function),
        binding=str(binding),
        kind=WorkerKind(kind),
        tags=_tags(str(of_version), str(tags)),
    )
    record = UsageRecord(
        worker=str(worker),
        n=_int(n),
        by=by,
        since_us=_int(since_us),
        until_us=_int(until_us),
        states=_times(str(times)),
        calls=_int(calls),
        cpu_us=None if cpu_us is None else _int(cpu_us),
        egress_bytes=None if egress is None else _int(egress),
        tokens_in=_int(tokens_in),
        tokens_out=_int(tokens_out),
        is_last=bool(is_last),
    )
    held = UsageRow(
        record=record,
        node=str(node),
        cpu_millis=_int(cpu_millis),
        memory_mib=_int(memory_mib),
        gpus=tuple(json.loads(str(gpus))),
        gpu_micros=_int(gpu_micros),
    )
    posting = Posting(
        card=str(card),
        nanos=None if nanos is None else _int(nanos),
        billed_us=_int(billed_us),
        correction=_int(correction),
        reason=str(reason),
    )
    return Entry(row=held, posting=posting)


def _used_call(row: Sequence[object]) -> UsedCall:
    call, app, environment, version, function, binding, worker, used_us, tokens_in, tokens_out, ended_at = row
    assert isinstance(ended_at, float)
    return UsedCall(
        id=str(call),
        app=str(app),
        environment=str(environment),
        version=str(version),
        function=str(function),
        binding=str(binding),
        worker=str(worker),
        used_us=_int(used_us),
        tokens_in=_int(tokens_in),
        tokens_out=_int(tokens_out),
        ended_at=ended_at,
    )


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
