"""One request and its answer, as handlers see them.

Plain ASGI underneath: on the path of a call, a framework's request object costs as much as the rest of the gateway.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, NewType, Protocol, TypeVar
from urllib.parse import parse_qsl

import msgspec

from relight.gateway.problems import HttpProblem
from relight.protocol.api import MEDIA_TYPE
from relight.protocol.codec import pack, unpack
from relight.protocol.errors import Forbidden, InvalidRequest
from relight.protocol.manifest import Json
from relight.protocol.views import Principal

T = TypeVar("T")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = NewType("Headers", list[tuple[bytes, bytes]])

JSON_TYPE = "application/json"
NDJSON_TYPE = "application/x-ndjson"
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


class Ask:
    """A request: its head at once, its body when somebody reads it."""

    __slots__ = ("_query", "_receive", "is_gone", "limits", "params", "principal", "scope")

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        self.scope = scope
        self.limits = limits
        self.principal = Principal(workspace="")
        self.params: dict[str, str] = {}
        self.is_gone = False
        self._receive = receive
        self._query: dict[str, str] | None = None

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
        for key, value in self.scope["headers"]:
            if key == name:
                return str(value, "latin-1")
        return ""

    def query(self, name: str, default: str = "") -> str:
        """A parameter of the query string; the last of several."""
        if self._query is None:
            pairs = parse_qsl(str(self.scope["query_string"], "latin-1"), keep_blank_values=True, max_num_fields=100)
            self._query = dict(pairs)
        return self._query.get(name, default)

    def whole(self, name: str, default: int, *, most: int) -> int:
        """A whole number of the query string, from 0 to `most`.  Raises InvalidRequest."""
        text = self.query(name, str(default))
        if not (text.isascii() and text.isdecimal() and int(text[:20]) <= most):
            raise InvalidRequest(f"cannot read {name}={text[:40]!r}: it must be a whole number from 0 to {most}")
        return int(text)

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
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            data: bytes = message.get("body", b"")
            self._check_length(len(data), limit)
            return data
        parts, length = [], 0
        async for part in self._parts(message):
            length += len(part)
            self._check_length(length, limit)
            parts.append(part)
        return b"".join(parts)

    async def stream(self, limit: int) -> AsyncIterator[bytes]:
        """The body as it comes.  Raises a problem (413) once it is longer than `limit`, ClientGone when it breaks off."""
        announced = self.header(b"content-length")
        if announced.isdecimal():
            self._check_length(int(announced), limit)
        length = 0
        async for part in self._parts(await self._receive()):
            length += len(part)
            self._check_length(length, limit)
            yield part

    async def unless_gone(self, work: Awaitable[T]) -> T:
        """What `work` gives; cancels it and raises ClientGone when the caller hangs up.  The body must have been read."""
        task = asyncio.ensure_future(work)
        watch = asyncio.ensure_future(self.wait_gone())
        try:
            await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ClientGone
        finally:
            for one in (task, watch):
                one.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((one,))

    async def wait_gone(self) -> None:
        """Return when the caller has hung up."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True

    async def _parts(self, message: Message) -> AsyncIterator[bytes]:
        while message["type"] == "http.request":
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                return
            message = await self._receive()
        raise ClientGone

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


async def send_answer(send: Send, answer: Answer) -> None:
    """Say an answer."""
    headers = [(b"content-type", answer.type.encode()), (b"content-length", b"%d" % len(answer.body))]
    headers += [(name.encode(), value.encode("latin-1", "replace")) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def send_stream(ask: Ask, send: Send, answer: StreamAnswer) -> None:
    """Say an answer part by part; ends early, and closes the source, when the caller hangs up."""
    headers = [(b"content-type", answer.type.encode()), (b"cache-control", b"no-store")]
    if answer.length is not None:
        headers.append((b"content-length", b"%d" % answer.length))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await ask.unless_gone(_send_parts(send, answer.parts))


@asynccontextmanager
async def closing(parts: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Leave a source as soon as its reader does, rather than when it is collected."""
    try:
        yield parts
    finally:
        if isinstance(parts, AsyncGenerator):
            await parts.aclose()


async def _send_parts(send: Send, parts: AsyncIterator[bytes]) -> None:
    async with closing(parts):
        async for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
