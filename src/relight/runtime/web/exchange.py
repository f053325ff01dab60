"""One request and its answer, as what answers it sees them: its body part by part, and the way back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from relight.protocol.web import (
    PART_BYTES,
    WINDOW_BYTES,
    AnswerHead,
    Fields,
    Kind,
    RequestHead,
    join,
    pack_answer,
    pack_count,
)

Handler = Callable[["Exchange"], Awaitable[None]]
"""Answers a request.  Whatever it raises before it has begun to is the user's, and becomes a 500."""

_TEXT = ((b"content-type", b"text/plain; charset=utf-8"),)


class Sends(Protocol):
    """The way to the server."""

    def send(self, kind: Kind, request: int, data: bytes | memoryview = b"") -> None:
        """Say something."""


class Gone(Exception):
    """Whoever asked is not there any more."""


class Exchange:
    """`task` answers it.  `is_gone`: nobody hears the answer; `has_begun`, `is_over`: what was said of it."""

    __slots__ = (
        *("_body", "_changed", "_room", "_session", "_taken"),
        *("has_begun", "head", "is_body_whole", "is_gone", "is_over", "number", "task"),
    )

    def __init__(self, session: Sends, number: int, head: RequestHead, body: bytes | None) -> None:
        self._session = session
        self.number = number
        self.head = head
        self.is_body_whole = body is not None
        self.is_gone = False
        self.has_begun = False
        self.is_over = False
        self.task: asyncio.Task[None] | None = None
        self._body: deque[bytes] = deque((body,) if body else ())
        self._changed: asyncio.Future[None] | None = None
        self._room = WINDOW_BYTES
        self._taken = 0

    # -- what is asked

    async def read(self) -> bytes:
        """What comes next of the body; empty at its end.  Raises Gone when no more can come."""
        while not self._body:
            if self.is_body_whole:
                return b""
            if self.is_gone:
                raise Gone
            await self._wait()
        return self.take()

    def take(self) -> bytes:
        """What is there of the body already."""
        if not self._body:
            return b""
        data = self._body.popleft()
        if not self.is_body_whole:
            self._taken += len(data)
            if self._taken * 2 >= WINDOW_BYTES:
                self._session.send(Kind.CREDIT, self.number, pack_count(self._taken))
                self._taken = 0
        return data

    @property
    def has_more(self) -> bool:
        """Whether some of the body is here that nobody took."""
        return bool(self._body)

    async def read_all(self, most: int) -> bytes | None:
        """The whole body; None when it is longer than `most` bytes.  Raises Gone."""
        parts, length = [], 0
        while data := await self.read():
            parts.append(data)
            length += len(data)
            if length > most:
                return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def put_back(self, data: bytes) -> None:
        """It was taken, and is needed once more."""
        self._body.appendleft(data)

    async def wait_gone(self) -> None:
        """Return when whoever asked has hung up, or all is said."""
        while not self.is_gone and not self.is_over:
            await self._wait()

    # -- what is answered

    def answer(self, status: int, headers: Fields, body: bytes) -> None:
        """All of an answer."""
        if len(body) > PART_BYTES:
            raise ValueError(f"{len(body)} bytes are more than one part")
        self.has_begun = self.is_over = True
        self._session.send(Kind.WHOLE, self.number, join(pack_answer(AnswerHead(status, headers)), body))

    def begin(self, status: int, headers: Fields) -> None:
        """The head of an answer, whose body follows."""
        self.has_begun = True
        self._session.send(Kind.HEAD, self.number, pack_answer(AnswerHead(status, headers)))

    async def write(self, data: bytes) -> None:
        """More of the body; waits while whoever asked is slow.  Raises Gone when they are not there."""
        whole = memoryview(data)  # a part of it is no copy
        for at in range(0, len(data), PART_BYTES):
            while self._room <= 0 and not self.is_gone:
                await self._wait()
            if self.is_gone:
                raise Gone
            part = whole[at : at + PART_BYTES]
            self._room -= len(part)
            self._session.send(Kind.BODY, self.number, part)
        if self.is_gone:
            raise Gone

    def end(self) -> None:
        """The body is whole."""
        if not self.is_over:
            self.is_over = True
            self._session.send(Kind.END, self.number)
            self._wake()

    async def answer_all(self, status: int, headers: Fields, body: bytes) -> None:
        """An answer, however long it is."""
        if len(body) <= PART_BYTES:
            self.answer(status, headers, body)
            return
        self.begin(status, headers)
        await self.write(body)
        self.end()

    def fail(self, status: int, text: str) -> None:
        """What there is to say when it cannot be answered, as far as there is still somebody to hear it."""
        if self.is_over or self.is_gone:
            return
        if self.has_begun:
            self.is_over = True
            self._session.send(Kind.BROKEN, self.number)
        else:
            self.answer(status, _TEXT, text.encode())

    # -- what the session hears

    def on_body(self, data: bytes) -> None:
        """More of the body came."""
        if data:
            self._body.append(data)
            self._wake()

    def on_end(self) -> None:
        """The body is whole."""
        self.is_body_whole = True
        self._wake()

    def on_credit(self, count: int) -> None:
        """So many bytes more may be sent."""
        self._room += count
        self._wake()

    def on_gone(self) -> None:
        """Nobody hears the answer."""
        self.is_gone = True
        self._wake()

    async def _wait(self) -> None:
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        await self._changed

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
