"""One request and its answer, as handlers see them; without any I/O."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qsl

import msgspec

from relight.gateway.problems import PROBLEM_TYPE, HttpProblem
from relight.protocol.api import MEDIA_TYPE
from relight.protocol.codec import pack, unpack
from relight.protocol.errors import Forbidden, InvalidRequest, LimitExceeded, RelightError
from relight.protocol.manifest import Json
from relight.protocol.views import Principal
from relight.protocol.web import Fields

T = TypeVar("T")

_NOBODY = Principal(workspace="")

JSON_TYPE = "application/json"
NDJSON_TYPE = "application/x-ndjson"
EVENTS_TYPE = "text/event-stream"
BYTES_TYPE = "application/octet-stream"

MAX_MOMENT = 1e11
"""The year 5138: what is larger was meant in milliseconds."""


class Placed(Protocol):
    """A call, asked for or told of."""

    @property
    def app(self) -> str:
        """The app it is of."""

    @property
    def environment(self) -> str:
        """Where that is deployed."""


class ClientGone(Exception):
    """The other end hung up: there is nobody left to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The longest bodies, in bytes, by what they are."""

    frame_bytes: int = 64 * 1024 * 1024
    json_bytes: int = 16 * 1024 * 1024
    blob_bytes: int = 16 * 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that is known whole.  `headers` are further ones, in lower case."""

    status: int = 200
    body: bytes = b""
    type: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAnswer:
    """An answer that is made while it is sent.  `length` None: sent in chunks, until `parts` ends."""

    parts: AsyncIterator[bytes]
    type: str = NDJSON_TYPE
    status: int = 200
    length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """An answer of somebody's app: headers as they were said.  `body` None: `parts` has it, as it is made."""

    status: int
    fields: Fields
    body: bytes | None = None
    parts: AsyncIterator[bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What is known of a connection's other end before it says a word.

    `uid`: by which user's program a unix socket is held; None for TCP.  `principal`: who it is, where that is known from
    the way it came.  `host` and `port` are where a TCP connection comes from.
    """

    uid: int | None = None
    principal: Principal | None = None
    host: str = ""
    port: int = 0


class Head(NamedTuple):
    """What stands before the body.  `path` is decoded, `raw_path` as it came; names of headers are in lower case."""

    method: str
    path: str
    raw_path: bytes = b""
    query_string: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()
    is_old: bool = False  # HTTP/1.0
    keeps_alive: bool = True


class Body:
    """What has come of a body.  `on_wait` is told each time that somebody waits for more of it."""

    __slots__ = ("_is_dropped", "_on_wait", "_parts", "_waiting", "is_broken", "is_whole", "size")

    def __init__(self, on_wait: Callable[[], None] | None = None) -> None:
        self.size = 0
        self.is_whole = False
        self.is_broken = False
        self._parts: list[bytes] = []
        self._waiting: asyncio.Future[None] | None = None
        self._is_dropped = False
        self._on_wait = on_wait

    def put(self, part: bytes) -> None:
        """More has come."""
        if not self._is_dropped:
            self._parts.append(part)
            self.size += len(part)
            self._wake()

    def end(self) -> None:
        """All of it has come."""
        self.is_whole = True
        self._wake()

    def break_off(self) -> None:
        """No more will come."""
        self.is_broken = True
        self._wake()

    def drop(self) -> None:
        """Nobody wants what is still to come."""
        self._is_dropped = True
        self._parts.clear()
        self.size = 0

    async def next(self) -> bytes:
        """All that is there, or else comes next; empty at its end.  Raises ClientGone when it breaks off."""
        while not self._parts and not self.is_whole:
            if self.is_broken:
                raise ClientGone
            self._waiting = asyncio.get_running_loop().create_future()
            if self._on_wait is not None:
                self._on_wait()
            await self._waiting
        return self.take()

    def take(self) -> bytes:
        """All that is there."""
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        self.size = 0
        return data

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Ask:
    """A request: its head at once, its body when somebody reads it.

    `may_wait`: the answer may be long in coming, so a server that stops does not wait for it.
    """

    __slots__ = (
        *("_body", "_query", "_sleeper", "_tunnel", "head", "is_gone", "limits", "may_wait"),
        *("params", "peer", "principal"),
    )

    def __init__(self, head: Head, body: Body, peer: Peer, limits: Limits, tunnel: Body | None = None) -> None:
        self.head = head
        self.peer = peer
        self.limits = limits
        self.principal = _NOBODY
        self.params: dict[str, str] = {}
        self.is_gone = False
        self.may_wait = False
        self._body = body
        self._tunnel = tunnel
        self._query: dict[str, str] | None = None
        self._sleeper: asyncio.Task[object] | None = None

    @property
    def workspace(self) -> str:
        """The workspace the caller acts in."""
        return self.principal.workspace

    @property
    def app(self) -> str:
        """The one app that the caller's token is for; empty for all."""
        return self.principal.app

    def check_app(self, *apps: str) -> None:
        """Raise Forbidden when one of these is not an app that the caller's token is for."""
        own = self.principal.app
        if own and any(app != own for app in apps):
            raise Forbidden(
                f"cannot answer for another app: this token is for app {own!r} alone; use a token for all apps"
            )

    @property
    def environment(self) -> str:
        """The one environment that the caller may see: a worker's own; empty for all."""
        return self.principal.environment

    @property
    def worker(self) -> str:
        """The worker that asks, from inside its sandbox; empty for everybody else."""
        return self.principal.worker

    def check_environment(self, *environments: str) -> None:
        """Raise Forbidden when one of these is not where the worker that asks runs."""
        own = self.principal.environment
        if own and any(environment != own for environment in environments):
            raise Forbidden(
                f"cannot answer for another environment: the worker that asks runs in {own!r}, and may call and read "
                "there alone; ask from outside, or deploy what it needs to the same environment"
            )

    def check_calls(self, calls: Iterable[Placed]) -> None:
        """Raise Forbidden when one of these calls is of an app or an environment that the caller may not see."""
        if self.principal.app or self.principal.environment:
            for call in calls:
                self.check_app(call.app)
                self.check_environment(call.environment)

    def header(self, name: bytes) -> str:
        """A header's value by its name in lower case; empty when it is not there."""
        for key, value in self.head.headers:
            if key == name:
                return str(value, "latin-1")
        return ""

    def query(self, name: str, default: str = "") -> str:
        """A parameter of the query string; the last of several."""
        if self._query is None:
            pairs = parse_qsl(str(self.head.query_string, "latin-1"), keep_blank_values=True, max_num_fields=100)
            self._query = dict(pairs)
        return self._query.get(name, default)

    def whole(self, name: str, default: int, *, most: int) -> int:
        """A whole number of the query string, from 0 to `most`.  Raises InvalidRequest."""
        text = self.query(name, str(default))
        if not (text.isascii() and text.isdecimal() and int(text[:20]) <= most):
            raise InvalidRequest(f"cannot read {name}={text[:40]!r}: it must be a whole number from 0 to {most}")
        return int(text)

    def number(self, name: str, default: float, *, most: float) -> float:
        """A number of the query string, from 0 to `most`.  Raises InvalidRequest."""
        text = self.query(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= most:
            raise InvalidRequest(f"cannot read {name}={text[:40]!r}: it must be a number from 0 to {most:g}")
        return value

    def moment(self, name: str) -> float:
        """A time of the query string, in seconds since 1970; 0 when it is left out.  Raises InvalidRequest."""
        text = self.query(name)
        try:
            at = float(text or "0")
        except ValueError:
            at = math.nan
        if not 0 <= at < MAX_MOMENT:
            raise InvalidRequest(f"cannot read {name}={text[:40]!r}: it is no time; give seconds since 1970")
        return at

    @property
    def speaks_frames(self) -> bool:
        """Whether the caller is one that reads `application/x-relight`."""
        return MEDIA_TYPE in (self.header(b"accept"), self._media_type())

    async def frame(self, kind: type[T]) -> T:
        """The message in the body.  Raises a problem when it is something else."""
        if self._media_type() != MEDIA_TYPE:
            raise HttpProblem(
                415, InvalidRequest(f"cannot read a body of type {self._media_type()!r}: send {MEDIA_TYPE}")
            )
        return unpack(await self.body(self.limits.frame_bytes), kind)

    async def json(self) -> tuple[bytes, Json]:
        """The body as it came, and what it says; an empty one says nothing (None).  Raises InvalidRequest."""
        body = await self.body(self.limits.json_bytes)
        if not body.strip():
            return b"", None
        try:
            said: Json = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(
                f"cannot read the body as JSON: {error}; send JSON, with Content-Type: application/json"
            ) from error
        return body, said

    async def body(self, limit: int) -> bytes:
        """The whole body.  Raises a problem (413) once it is longer than `limit` bytes."""
        self._check_announced(limit)
        parts: list[bytes] = []
        length = 0
        while True:
            part = await self._body.next()
            length += len(part)
            self._check_length(length, limit)
            if self._body.is_whole and not parts:
                return part
            parts.append(part)
            if self._body.is_whole:
                return b"".join(parts)

    async def stream(self, limit: int) -> AsyncIterator[bytes]:
        """The body as it comes.  Raises a problem (413) once it is longer than `limit`, ClientGone when it breaks off."""
        self._check_announced(limit)
        length = 0
        while part := await self._body.next():
            length += len(part)
            self._check_length(length, limit)
            yield part

    @property
    def is_upgrade(self) -> bool:
        """Whether it asks for a WebSocket: what follows it is then `tunnel`."""
        return self._tunnel is not None

    def whole_body(self) -> bytes | None:
        """The body, where all of it is here; None where more is to come, which `stream` reads."""
        return self._body.take() if self._body.is_whole else None

    async def tunnel(self) -> AsyncIterator[bytes]:
        """The bytes that follow a request for another protocol.  Raises ClientGone when they break off."""
        assert self._tunnel is not None, "it asks for another protocol"
        while part := await self._tunnel.next():
            yield part

    async def unless_gone(self, work: Awaitable[T]) -> T:
        """What `work` gives; cancels it and raises ClientGone when the caller hangs up."""
        task = asyncio.current_task()
        assert task is not None
        self._sleeper = task
        if self.is_gone:
            task.cancel()
        try:
            return await work
        except asyncio.CancelledError:
            if not self.is_gone or task.uncancel():
                raise
            raise ClientGone from None
        finally:
            self._sleeper = None

    def drop_body(self) -> None:
        """It is answered: what is still to come of its body nobody reads."""
        self._body.drop()
        if self._tunnel is not None:
            self._tunnel.drop()

    def hang_up(self) -> None:
        """The caller is gone: nobody reads the answer, and no more of the body comes."""
        self.is_gone = True
        self._body.break_off()
        if self._tunnel is not None:
            self._tunnel.break_off()
        if self._sleeper is not None:
            self._sleeper.cancel()

    def _check_announced(self, limit: int) -> None:
        announced = self.header(b"content-length")
        if announced.isdecimal():
            self._check_length(int(announced), limit)

    def _check_length(self, length: int, limit: int) -> None:
        if length > limit:
            raise HttpProblem.too_large(length, limit)

    def _media_type(self) -> str:
        return self.header(b"content-type").partition(";")[0].strip().lower()


def json_answer(value: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Plain data as JSON."""
    return Answer(status=status, body=msgspec.json.encode(value), headers=headers)


def frame_answer(message: object) -> Answer:
    """A message of the protocol."""
    return Answer(body=pack(message), type=MEDIA_TYPE)


def problem_answer(error: RelightError | HttpProblem) -> Answer:
    """An error, as a problem."""
    problem = error if isinstance(error, HttpProblem) else HttpProblem(error.status, error, _when_again(error))
    body = msgspec.json.encode(problem.problem)
    return Answer(status=problem.status, body=body, type=PROBLEM_TYPE, headers=problem.headers)


def _when_again(error: RelightError) -> tuple[tuple[str, str], ...]:
    seconds = error.retry_after_seconds if isinstance(error, LimitExceeded) else None
    return () if seconds is None else (("retry-after", str(math.ceil(seconds))),)


@asynccontextmanager
async def closing(parts: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Leave a source as soon as its reader does, rather than when it is collected."""
    try:
        yield parts
    finally:
        if isinstance(parts, AsyncGenerator):
            await parts.aclose()
