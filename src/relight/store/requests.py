"""Web requests that are over, in a file of their own: many at a time, compressed, and never waited for.

    over ─▶ what waits to be kept ─half a second, or 1,000 of them▶ a block for each function ─▶ the disk

So a server that is killed loses what it would have kept within half a second, and a disk that does not keep up loses
what came past MOST_WAITING.  Nobody was promised these: a request's answer is not its record.

A block is between two ids, by which requests are found, the newest first; few have to be opened for a page.  It holds one
number of chance, of which, with its time and its place in the block, each request's id is made.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import nlargest
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, TypeVar

import msgspec

from relight.protocol.ids import id_of
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

_PLACE_BITS = 16
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


class Kept(NamedTuple):
    """One as it is kept."""

    id: str
    place: Place
    request: Request


class _Body(NamedTuple):
    """What a block holds."""

    chance: int
    requests: list[Request]

    def id_at(self, place: int) -> str:
        """The id of the request at a place."""
        return id_of(KIND, _ms(self.requests[place]), self.chance << _PLACE_BITS | place)

    def bounds(self) -> tuple[str, str]:
        """The first and the last id."""
        order = sorted(range(len(self.requests)), key=lambda place: _ms(self.requests[place]))
        return self.id_at(order[0]), self.id_at(order[-1])


@dataclass(frozen=True, slots=True)
class _Block:
    place: Place
    last_id: str
    body: bytes

    def requests(self) -> Iterator[Kept]:
        """What is in it."""
        body = msgspec.json.decode(zlib.decompress(self.body), type=_Body)
        for at, request in enumerate(body.requests):
            yield Kept(body.id_at(at), self.place, request)


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
            return next((one for block in blocks for one in block.requests() if one.id == request_id), None)

        return await self._read(work)

    async def newest(self, workspace: str, query: CallQuery) -> tuple[Kept, ...]:
        """The newest that are asked for; `before` may be the id of a call."""
        before = _id_of(query.before)
        state = query.state.value if query.state is not None else ""
        value = {"app": query.app, "environment": query.environment, "function": query.function}

        def is_asked(one: Kept) -> bool:
            return (
                (not before or one.id < before)
                and (not state or one.request.state == state)
                and one.request.submitted_at >= query.since
            )

        asked = {"workspace": workspace, **value, "before": before, "since": query.since}
        return await self._read(partial(self._newest, asked, is_asked, query.limit))

    async def used(self, workspace: str, query: UsageQuery) -> tuple[UsedCall, ...]:
        """Those that ended then and had some of a worker's time, as calls, newest first."""
        until = query.until or ENDLESS_US
        place = {"app": query.app, "environment": query.environment, "function": query.function}
        asked = {"workspace": workspace, **place, "before": "", "since": query.since}

        def is_asked(one: Kept) -> bool:
            is_meant = not query.call or one.id == query.call
            return is_meant and one.request.used_us > 0 and query.since < one.request.ended_at <= until

        return tuple(map(_used, await self._read(partial(self._newest, asked, is_asked, query.limit))))

    def _newest(
        self, asked: dict[str, object], is_asked: Callable[[Kept], bool], limit: int, connection: sqlite3.Connection
    ) -> tuple[Kept, ...]:
        """The newest of a query: as many blocks are opened as may have one of them."""
        name = "newest_of" if asked["app"] and asked["function"] else "newest"
        found: list[Kept] = []
        for block in map(_block(str(asked["workspace"])), connection.execute(self._sql[name], asked)):
            if len(found) == limit and block.last_id < found[-1].id:
                break
            found += filter(is_asked, block.requests())
            found = nlargest(limit, found, key=itemgetter(0))
        return tuple(found)

    async def _read(self, work: Callable[[sqlite3.Connection], R]) -> R:
        await self._later.settled()
        return await self._database.read(work)

    # -- inside, on the writer's thread

    def _keep(self, rows: list[tuple[Place, Request]], connection: sqlite3.Connection) -> None:
        self._written += len(rows)
        for place, some in groupby(sorted(rows, key=itemgetter(0)), key=itemgetter(0)):
            body = _Body(int.from_bytes(os.urandom(8), "big"), [one for _, one in some])
            first, last = body.bounds()
            value = {
                **place._asdict(),
                "first_id": first,
                "last_id": last,
                "ended_at": max(one.ended_at for one in body.requests),
                "size": len(body.requests),
                "body": zlib.compress(msgspec.json.encode(body), _LEVEL),
            }
            connection.execute(self._sql["add"], value)


def _block(workspace: str) -> Callable[[Sequence[str | bytes]], _Block]:
    def made(row: Sequence[str | bytes]) -> _Block:
        *place, last_id, body = row
        assert isinstance(body, bytes)
        return _Block(Place(workspace, *map(str, place)), str(last_id), body)

    return made


def _ms(request: Request) -> int:
    return int(request.submitted_at * 1000)


def _id_of(before: str) -> str:
    """The id of a request that was made when this call, or request, was."""
    return f"{KIND}-{before.partition('-')[2]}" if before else ""


def _used(kept: Kept) -> UsedCall:
    request_id, place, request = kept
    return UsedCall(
        id=request_id,
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
