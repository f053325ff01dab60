"""One web request while it lives: from the gateway to a worker, and its answer back.

    waits ─▶ with a worker ─▶ begun ─▶ over
      ▲            │
      └── again ───┘   (its worker is gone: it had not been delivered, or may be asked twice and was not answered yet)

Nothing of it is kept before its answer.  What was sent of its body is held as long as it could be sent again.  It is
noted once it is over and no worker has it: who hung up may be gone long before the function that answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from relight.protocol.errors import ProtocolError, RelightError
from relight.protocol.web import (
    PART_BYTES,
    WINDOW_BYTES,
    AnswerHead,
    Kind,
    join,
    pack_count,
    part,
    unpack_answer,
    unpack_count,
)

REPLAY_BYTES = 256 * 1024
"""So much of a body that was sent is held, to be sent again; a request with more is never tried twice."""

CREDIT_BYTES = WINDOW_BYTES // 2
"""So much of an answer is taken before its worker hears that it was."""


class Carries(Protocol):
    """The way to a worker."""

    def send(self, kind: Kind, request: int, data: bytes | memoryview = b"") -> None:
        """Say something to it."""

    def close(self) -> None:
        """Say no more, and hear nothing."""


class Owner(Protocol):
    """Who gives exchanges to workers."""

    def over(self, exchange: Exchange) -> None:
        """Its worker has room for another."""


class Desk(Protocol):
    """Where exchanges come from."""

    def now(self) -> float:
        """The loop's clock."""

    def note(self, exchange: Exchange) -> None:
        """It is over, and no worker has it; told once."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The head of an answer, and its body where that is whole; else `Exchange.parts` has it."""

    head: AnswerHead
    body: bytes | None


class Exchange:
    """`answered` is what was answered; it raises what there is to say instead.  Times are on the loop's clock: it came at
    `started`, a worker that was ready had it at `given_at`, and it was over at `ended_at`; 0 for not yet.
    """

    __slots__ = (
        *(
            "_changed",
            "_credit",
            "_desk",
            "_is_body_whole",
            "_is_noted",
            "_owner",
            "_parts",
            "_replay",
            "_room",
            "_unread",
            "_way",
        ),
        *(
            "answered",
            "bytes_out",
            "deadline",
            "ended_at",
            "error",
            "given_at",
            "has_begun",
            "head",
            "is_idempotent",
            "is_leaving",
            "is_over",
            "is_tunnel",
            "is_whole",
        ),
        *("number", "shared_from", "started", "status", "tries", "used_seconds", "worker"),
    )

    def __init__(
        self, number: int, head: bytes, body: bytes | None, desk: Desk, *, is_idempotent: bool, is_tunnel: bool
    ) -> None:
        self.number = number
        self.is_idempotent = is_idempotent
        self.is_tunnel = is_tunnel
        self.is_over = self.is_whole = self.has_begun = self.is_leaving = False
        self.tries = self.status = self.bytes_out = 0
        self.deadline = self.started = self.given_at = self.ended_at = 0.0
        self.shared_from = self.used_seconds = 0.0
        self.worker = ""
        self.error: RelightError | None = None
        self.answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self.head = head
        self._desk = desk
        self._is_noted = False
        self._replay: list[bytes | memoryview] | None = [body] if body else []
        self._is_body_whole = body is not None
        self._way: Carries | None = None
        self._owner: Owner | None = None
        self._room = WINDOW_BYTES
        self._credit = 0
        self._unread = 0
        self._parts: deque[bytes] = deque()
        self._changed: asyncio.Future[None] | None = None

    # -- to a worker, and away from it

    @property
    def may_go_again(self) -> bool:
        """Whether all of it is still here, to be sent to another worker."""
        return self._replay is not None and not self.has_begun and not self.is_over

    def give(self, way: Carries, owner: Owner) -> None:
        """Send what there is of it to a worker."""
        self._way, self._owner = way, owner
        body = b"".join(self._replay or ())
        self._room = WINDOW_BYTES
        if self._is_body_whole and len(body) <= PART_BYTES:
            way.send(Kind.OPEN_WHOLE, self.number, join(self.head, body))
            return
        way.send(Kind.OPEN, self.number, join(self.head, b""))
        for at in range(0, len(body), PART_BYTES):
            way.send(Kind.BODY, self.number, body[at : at + PART_BYTES])
        self._room -= len(body)
        if self._is_body_whole:
            way.send(Kind.END, self.number)
        self._wake()

    def take_away(self) -> None:
        """Its worker is gone."""
        self._way = self._owner = None
        self._settle()

    # -- the gateway

    async def send(self, data: bytes) -> None:
        """More of the request's body; waits until there is room for it.  Nothing is sent once it is over."""
        whole = memoryview(data)  # a piece of it is no copy
        for at in range(0, len(data), PART_BYTES):
            piece = whole[at : at + PART_BYTES]
            while not self.is_over and not self._has_room(len(piece)):
                await self._wait()
            if self.is_over:
                return
            self._hold(piece)
            if self._way is not None:
                self._room -= len(piece)
                self._way.send(Kind.BODY, self.number, piece)

    def _has_room(self, length: int) -> bool:
        if self._way is not None:
            return self._room > 0
        return self._replay is not None and sum(map(len, self._replay)) + length <= REPLAY_BYTES

    def _hold(self, piece: memoryview) -> None:
        """Keep it for another try, where there is room for all of them."""
        replay = self._replay
        if replay is not None and sum(map(len, replay)) + len(piece) <= REPLAY_BYTES:
            replay.append(piece)
        else:
            self._replay = None

    def finish(self) -> None:
        """The request's body is whole."""
        self._is_body_whole = True
        if self._way is not None and not self.is_over:
            self._way.send(Kind.END, self.number)

    def hang_up(self) -> None:
        """Whoever asked is gone."""
        if not self.is_over:
            if self._way is not None:
                self._way.send(Kind.GONE, self.number)
            self._be_over()

    def fail(self, error: RelightError) -> None:
        """It cannot be answered, or not to its end; its worker, if it has one, hears that nobody asks any more."""
        self.error = error
        if not self.has_begun:
            self.status = error.status
        if not self.answered.done():
            self.answered.set_exception(error)
            self.answered.exception()  # seen: nobody may wait for it any more
        if self.is_over:
            self._wake()
        else:
            self.hang_up()

    async def parts(self) -> AsyncIterator[bytes]:
        """The body of the answer.  Raises what broke it off."""
        try:
            while True:
                while self._parts:
                    data = self._parts.popleft()
                    self._unread -= len(data)
                    yield data
                    self._took(len(data))
                if self.error is not None:
                    raise self.error
                if self.is_whole or self.is_over:
                    return
                await self._wait()
        finally:
            if not self.is_whole:
                self.hang_up()

    def _took(self, count: int) -> None:
        self._credit += count
        if self._credit >= CREDIT_BYTES and self._way is not None and not self.is_whole:
            self._way.send(Kind.CREDIT, self.number, pack_count(self._credit))
            self._credit = 0

    # -- the worker

    def hear(self, kind: int, data: bytes) -> None:
        """What its worker says of it.  Raises ProtocolError."""
        if kind == Kind.WHOLE:
            head, body = part(data)
            self._begin(Answered(unpack_answer(head), body))
            self._end()
        elif kind == Kind.HEAD:
            self._begin(Answered(unpack_answer(data), None))
        elif kind == Kind.BODY:
            if self._unread > WINDOW_BYTES:
                raise ProtocolError("cannot take more of an answer: it was sent without credit")
            if not self.is_over:
                self._unread += len(data)
                self.bytes_out += len(data)
                self._parts.append(data)
                self._wake()
        elif kind == Kind.CREDIT:
            self._room += unpack_count(data)
            self._wake()
        elif kind == Kind.END:
            self._end()
        elif kind == Kind.BROKEN:
            self._leave()
            if not self.is_over:
                self.fail(RelightError("cannot finish the answer: the function raised after it had begun; see its log"))
        else:
            raise ProtocolError(f"cannot read a frame of kind {kind}: a worker says no such thing")

    def _begin(self, answered: Answered) -> None:
        if self.has_begun:
            raise ProtocolError("cannot take two answers to one request")
        self.has_begun = True
        self._replay = None
        if not self.is_over:
            self.status = answered.head.status
        if answered.body is not None:
            self.bytes_out = len(answered.body)
        if not self.answered.done():
            self.answered.set_result(answered)
        self._wake()

    def _end(self) -> None:
        if not self.has_begun:
            raise ProtocolError("cannot take the end of an answer that has not begun")
        self.is_whole = not self.is_over
        self._be_over()
        self._leave()

    def _leave(self) -> None:
        owner, self._owner, self._way = self._owner, None, None
        if owner is not None:
            owner.over(self)
        self._settle()

    def _be_over(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.ended_at = self._desk.now()
        self._wake()
        self._settle()

    def _settle(self) -> None:
        """Be noted, once, as soon as it is over and no worker has it."""
        if self.is_over and self._owner is None and not self._is_noted:
            self._is_noted = True
            self._desk.note(self)

    async def _wait(self) -> None:
        waiting = self._changed
        if waiting is None or waiting.done():
            waiting = self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(waiting)

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
