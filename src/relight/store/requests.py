"""Web requests that are over, in a file of their own: many at a time, compressed, and never waited for.

    over ─▶ what waits to be kept ─half a second, or 1,000 of them▶ a block for each function ─▶ the disk

So a server that is killed loses what it would have kept within half a second, and a disk that does not keep up loses
what came past MOST_WAITING.  Nobody was promised these: a request's answer is not its record.

A block is between two ids, by which requests are found, the newest first; few have to be opened for a page.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import nlargest
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, TypeVar

from relight.protocol.ids import new_id
from relight.protocol.views import CallQuery
from relight.store.database import Database
from relight.store.later import Later
from relight.store.queries import queries
from relight.store.usage import ENDLESS_US, UsageQuery, UsedCall

R = TypeVar("R")

KIND = "req"
"""The ids of requests begin so."""

KEEP_SECONDS = 0.5
"""How long they wait for others: what a server that is killed loses of them."""

BLOCK_REQUESTS = 1000
MOST_WAITING = 50_000
"""Past so many that are not on the disk yet, those that come are lost, and counted."""

_LEVEL = 1  # a request takes some 30 bytes; level 6 saves a fifth of that and takes three times as long


class Place(NamedTuple):
    """What answered."""

    workspace: str
    app: str
    environment: str
    version: str
    function: str
    method: str


class Request(NamedTuple):
    """One that is over.  Times are seconds since 1970; `started_at` None: no worker took it.  `state` is a CallState's
    value; `status` 0: nobody was told one; `code` and `why`: the error that was told, where one was; `used_us` is what of
    its worker's time is the request's.
    """

    verb: str
    path: str
    client: str
    status: int
    state: str
    code: str
    why: str
    worker: str
    tries: int
    submitted_at: float
    started_at: float | None
    ended_at: float
    bytes_out: int
    used_us: int
    id: str = ""  # the store gives them


class Kept(NamedTuple):
    """One as it is kept."""

    place: Place
    request: Request


@dataclass(frozen=True, slots=True)
class _Block:
    place: Place
    last_id: str
    body: bytes

    def requests(self) -> Iterator[Kept]:
        """What is in it."""
        for row in json.loads(zlib.decompress(self.body)):
            yield Kept(self.place, Request._make(row))


class RequestTable:
    """Requests of every workspace."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("requests")
        self._later: Later[tuple[Place, Request]] = Later(
            database, "requests", self._keep, seconds=KEEP_SECONDS, most=BLOCK_REQUESTS
        )
        self._added = self._written = 0  # the second is the writer's thread's alone to change
        self._group: asyncio.Future[None] | None = None
        self.lost = 0
        """How many could not be kept since the server started."""

    def add(self, place: Place, request: Request) -> asyncio.Future[None] | None:
        """Keep one, in a while; the future of the first of those that are kept together, None for the others."""
        if self._added - self._written >= MOST_WAITING:
            self.lost += 1
            return None
        self._added += 1
        group = self._later.add(((place, request),))
        if group is self._group:
            return None
        self._group = group
        return group

    def forget(self, before: float, limit: int) -> asyncio.Future[int]:
        """Drop up to `limit` of the blocks whose requests all ended before a time; how many requests those were."""

        def work(connection: sqlite3.Connection) -> int:
            return sum(size for (size,) in connection.execute(self._sql["forget"], {"before": before, "limit": limit}))

        return self._database.write("requests", work)

    # -- reads: what waits to be kept is written first, so that who asks sees what was answered before

    async def count(self) -> int:
        """How many are kept."""
        return int(await self._read(lambda connection: connection.execute(self._sql["count"]).fetchone()[0]))

    async def get(self, workspace: str, request_id: str) -> Kept | None:
        """One; None when it is not kept."""
        value = {"workspace": workspace, "id": request_id}

        def work(connection: sqlite3.Connection) -> Kept | None:
            blocks = map(_block(workspace), connection.execute(self._sql["around"], value))
            return next((one for block in blocks for one in block.requests() if one.request.id == request_id), None)

        return await self._read(work)

    async def newest(self, workspace: str, query: CallQuery) -> tuple[Kept, ...]:
        """The newest that are asked for; `before` may be the id of a call."""
        before = _id_of(query.before)
        state = query.state.value if query.state is not None else ""
        value = {"app": query.app, "environment": query.environment, "function": query.function}

        def is_asked(request: Request) -> bool:
            return (
                (not before or request.id < before)
                and (not state or request.state == state)
                and request.submitted_at >= query.since
            )

        asked = {"workspace": workspace, **value, "before": before, "since": query.since}
        return await self._read(partial(self._newest, asked, is_asked, query.limit))

    async def used(self, workspace: str, query: UsageQuery) -> tuple[UsedCall, ...]:
        """Those that ended then and had some of a worker's time, as calls, newest first."""
        until = query.until or ENDLESS_US
        place = {"app": query.app, "environment": query.environment, "function": query.function}
        asked = {"workspace": workspace, **place, "before": "", "since": query.since}

        def is_asked(request: Request) -> bool:
            is_meant = not query.call or request.id == query.call
            return is_meant and request.used_us > 0 and query.since < request.ended_at <= until

        return tuple(map(_used, await self._read(partial(self._newest, asked, is_asked, query.limit))))

    def _newest(
        self, asked: dict[str, object], is_asked: Callable[[Request], bool], limit: int, connection: sqlite3.Connection
    ) -> tuple[Kept, ...]:
        """The newest of a query: as many blocks are opened as may have one of them."""
        name = "newest_of" if asked["app"] and asked["function"] else "newest"
        found: list[Kept] = []
        for block in map(_block(str(asked["workspace"])), connection.execute(self._sql[name], asked)):
            if len(found) == limit and block.last_id < found[-1].request.id:
                break
            found += [one for one in block.requests() if is_asked(one.request)]
            found = nlargest(limit, found, key=lambda one: one.request.id)
        return tuple(found)

    async def _read(self, work: Callable[[sqlite3.Connection], R]) -> R:
        await self._later.settled()
        return await self._database.read(work)

    # -- inside, on the writer's thread

    def _keep(self, rows: list[tuple[Place, Request]], connection: sqlite3.Connection) -> None:
        self._written += len(rows)
        for place, some in groupby(sorted(rows, key=itemgetter(0)), key=itemgetter(0)):
            requests = [one._replace(id=new_id(KIND, int(one.submitted_at * 1000))) for _, one in some]
            ids = [one.id for one in requests]
            value = {
                **place._asdict(),
                "first_id": min(ids),
                "last_id": max(ids),
                "ended_at": max(one.ended_at for one in requests),
                "size": len(requests),
                "body": zlib.compress(json.dumps(requests, separators=(",", ":")).encode(), _LEVEL),
            }
            connection.execute(self._sql["add"], value)


def _block(workspace: str) -> Callable[[Sequence[str | bytes]], _Block]:
    def made(row: Sequence[str | bytes]) -> _Block:
        *place, last_id, body = row
        assert isinstance(body, bytes)
        return _Block(Place(workspace, *map(str, place)), str(last_id), body)

    return made


def _id_of(before: str) -> str:
    """The id of a request that was made when this call, or request, was."""
    return f"{KIND}-{before.partition('-')[2]}" if before else ""


def _used(kept: Kept) -> UsedCall:
    place, request = kept
    return UsedCall(
        id=request.id,
        app=place.app,
        environment=place.environment,
        version=place.version,
        function=place.function,
        binding="",
        worker=request.worker,
        used_us=request.used_us,
        tokens_in=0,  # tokens of web requests are their worker's
        tokens_out=0,
        ended_at=request.ended_at,
    )
