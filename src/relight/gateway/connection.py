"""One connection that speaks HTTP/1.1: has its requests answered, one after the other in their order.

    bytes ─▶ reading.Reader ─▶ asks, one at a time ─▶ Gateway.answer ─▶ writing ─▶ bytes

A request is begun as soon as its head is here, in the same turn of the loop; nothing stands between its handler and the
socket.  Reading pauses while nobody takes what came of a body, or while requests wait for their turn.  A head that takes
too long, or a rest between two requests, ends the connection: one timer looks for both.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from relight.gateway import writing
from relight.gateway.exchange import (
    Answer,
    Ask,
    ClientGone,
    Limits,
    Peer,
    RawAnswer,
    StreamAnswer,
    closing,
    problem_answer,
)
from relight.gateway.headstart import start_now
from relight.gateway.problems import HttpProblem
from relight.gateway.reading import Reader
from relight.protocol.errors import InvalidRequest, Unavailable
from relight.protocol.views import Principal

log = logging.getLogger("relight.gateway")

HEAD_SECONDS = 20.0
KEEP_ALIVE_SECONDS = 75.0
LINGER_SECONDS = 5.0
"""How long what is still to come of a body is read away, after the last answer: to hang up on it would break the answer."""

CUT_OFF_SECONDS = 1.0
"""What a request that is cut off may still need to clean up."""

UNREAD_BYTES = 64 * 1024
"""With so much of a body that nobody has taken, reading pauses."""

_JOINED_BYTES = 64 * 1024
_PEER = struct.Struct("3i")

Answering = Callable[[Ask], Awaitable[Answer | StreamAnswer | RawAnswer]]
"""Answers a request.  Raises ClientGone when there is nobody left to hear it."""


class Connections:
    """Those that are open, `limit` at most, and what they have in common."""

    def __init__(self, answering: Answering, limits: Limits, limit: int) -> None:
        self.answering = answering
        self.limits = limits
        self.limit = limit
        self.dates = writing.Dates()
        self.is_leaving = False
        self._open: set[HttpConnection] = set()
        self._changed = asyncio.Event()

    def open(self) -> HttpConnection:
        """One more, for whoever comes."""
        return HttpConnection(self)

    def add(self, connection: HttpConnection) -> bool:
        """It has begun; whether there is room for it."""
        self._open.add(connection)
        return len(self._open) <= self.limit

    def discard(self, connection: HttpConnection) -> None:
        """It is over, and so is what it was asked."""
        self._open.discard(connection)
        self._changed.set()

    def leave(self) -> None:
        """Take no more requests; those that only wait are told to ask again, the others are answered."""
        self.is_leaving = True
        for connection in list(self._open):
            connection.leave()

    async def wait_closed(self, seconds: float) -> None:
        """Return when all are over; what is not by then is cut off."""
        if await self._try_wait_closed(seconds):
            return
        log.warning("requests cut off", extra={"connections": len(self._open), "after_seconds": seconds})
        for connection in list(self._open):
            connection.cut_off()
        await self._try_wait_closed(CUT_OFF_SECONDS)

    async def _try_wait_closed(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while self._open:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True


class HttpConnection(asyncio.Protocol):
    """One connection.  `principal`: who is at its other end, where that is known."""

    def __init__(self, room: Connections, principal: Principal | None = None) -> None:
        self._room = room
        self._principal = principal
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._reader: Reader
        self._ask: Ask | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rests_since = 0.0
        self._is_fresh = True
        self._is_ending = False
        self._is_lost = False
        self._is_reading_paused = False
        self._writable: asyncio.Future[None] | None = None

    # -- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._reader = Reader(_peer(transport, self._principal), self._room.limits, self._go_on)
        self._rests_since = self._loop.time()
        self._look_again_in(HEAD_SECONDS)
        if not self._room.add(self):
            said = f"cannot take the connection: {self._room.limit} are open; try again, or raise max_connections"
            self._refuse(HttpProblem(503, Unavailable(said)))
        elif self._room.is_leaving:
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        if self._ask is None and not self._reader.is_in_head:
            self._rests_since = self._loop.time()
        self._is_fresh = False
        self._reader.feed(data)
        if self._is_ending:
            self._end()
            return
        self._proceed()
        if self._reader.unread > UNREAD_BYTES or self._reader.asks:
            self._pause_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.resume_writing()
        if self._ask is None:
            self._room.discard(self)
        else:
            self._ask.hang_up()
        self._reader.close()

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # -- what the server tells

    def leave(self) -> None:
        """End as soon as what was begun is answered; what only waits is told to ask again."""
        if self._ask is None:
            self._transport.close()
        elif self._ask.may_wait and self._task is not None:
            self._task.cancel()

    def cut_off(self) -> None:
        """End now."""
        if self._ask is not None:
            self._ask.hang_up()
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()

    # -- one request after the other

    def _proceed(self) -> None:
        """Begin with the next request, unless one is in hand."""
        if self._ask is not None or not self._reader.asks or self._transport.is_closing():
            return
        ask = self._reader.asks.popleft()
        if isinstance(ask, HttpProblem):
            self._refuse(ask)
            return
        self._ask = ask
        task = start_now(self._loop, self._serve(ask), "gateway.request")
        self._task = task if self._ask is ask else None

    async def _serve(self, ask: Ask) -> None:
        is_answered = False
        try:
            answer = await self._answer(ask)
            is_answered = await self._send(ask, answer)
        except ClientGone:
            pass  # nobody hears it; if the end of the body could not be read, the next of the asks says so
        except Exception:  # the boundary of one answer: too late for a status, the broken connection says it
            log.exception("answer broke off", extra={"method": ask.head.method, "path": ask.head.path})
        finally:
            self._finish(ask, is_answered=is_answered)

    async def _answer(self, ask: Ask) -> Answer | StreamAnswer | RawAnswer:
        try:
            return await self._room.answering(ask)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if ask.is_gone or not self._room.is_leaving or task is None or task.uncancel():
                raise
            said = "cannot wait any longer: the server is stopping; ask again when it is back"
            return problem_answer(Unavailable(said))

    def _finish(self, ask: Ask, *, is_answered: bool) -> None:
        self._ask = self._task = None
        if self._is_lost:
            self._room.discard(self)
            return
        is_problem_next = bool(self._reader.asks) and isinstance(self._reader.asks[0], HttpProblem)
        if not is_answered and not is_problem_next:
            self._transport.close()
            return
        ask.drop_body()
        self._rests_since = self._loop.time()
        if is_answered and self._closes(ask):
            self._end()
        elif self._reader.asks:
            self._loop.call_soon(self._proceed)
        else:
            self._resume_reading()

    def _end(self) -> None:
        """Close, once the body that is being sent is here or may not come."""
        if not self._reader.is_in_body or self._reader.is_held_back:
            self._transport.close()
        elif not self._is_ending:
            self._is_ending = True
            self._look_again_in(LINGER_SECONDS)
            self._resume_reading()

    def _closes(self, ask: Ask) -> bool:
        """Whether the connection ends with the answer to this."""
        return not ask.head.keeps_alive or self._room.is_leaving or self._reader.is_held_back

    # -- writing

    async def _send(self, ask: Ask, answer: Answer | StreamAnswer | RawAnswer) -> bool:
        if isinstance(answer, StreamAnswer):
            length, is_chunked = answer.length, answer.length is None and not ask.head.is_old
            head = writing.stream_head(answer, self._room.dates.now(), is_chunked=is_chunked, closes=self._closes(ask))
            await ask.unless_gone(self._send_parts(ask, head, answer.parts, length, is_chunked=is_chunked))
            return True
        if isinstance(answer, RawAnswer) and answer.parts is not None:
            raw = writing.raw_stream_head(answer, ask.head, self._room.dates.now(), closes=self._closes(ask))
            await ask.unless_gone(self._send_parts(ask, raw.lines, answer.parts, raw.length, is_chunked=raw.is_chunked))
            return True
        if self._writable is not None:
            await self._writable
        if isinstance(answer, RawAnswer):
            self._write(writing.raw_whole(answer, ask.head, self._room.dates.now(), closes=self._closes(ask)))
        else:
            self._write_whole(answer, ask)
        return True

    def _write_whole(self, answer: Answer, ask: Ask | None) -> None:
        closes = ask is None or self._closes(ask)
        head, body = writing.whole(answer, ask.head if ask else None, self._room.dates.now(), closes=closes)
        if len(body) <= _JOINED_BYTES:
            self._write(head + body)
        else:
            self._write(head)
            self._write(body)

    def _write(self, data: bytes) -> None:
        if not self._is_lost:  # nobody may be there any more to hear that a call was taken
            self._transport.write(data)

    async def _send_parts(
        self, ask: Ask, head: bytes, parts: AsyncIterator[bytes], length: int | None, *, is_chunked: bool
    ) -> None:
        self._write(head)
        sent = 0
        async with closing(parts):
            if ask.head.method == "HEAD":
                return
            async for part in parts:
                if self._writable is not None:
                    await self._writable
                if part:
                    sent += len(part)
                    self._write(writing.chunk(part) if is_chunked else part)
        if length not in (None, sent):
            raise ValueError(f"{sent} bytes were sent of {length}")
        if is_chunked:
            self._write(writing.LAST_CHUNK)

    def _refuse(self, problem: HttpProblem) -> None:
        """The last that is said here."""
        self._write_whole(problem_answer(problem), None)
        self._transport.close()

    # -- reading

    def _go_on(self, is_awaited: bool) -> None:
        """Somebody waits for more of a body, and its sender perhaps for a word."""
        if self._transport.is_closing():
            return
        if is_awaited:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._is_reading_paused and not self._transport.is_closing():
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_reading_paused and not self._transport.is_closing():
            self._is_reading_paused = False
            self._transport.resume_reading()

    # -- the time

    def _look_again_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._look_at_the_time)

    def _look_at_the_time(self) -> None:
        if self._transport.is_closing():
            return
        is_in_head = self._is_fresh or self._reader.is_in_head
        left = HEAD_SECONDS
        if self._ask is None:
            limit = LINGER_SECONDS if self._is_ending else HEAD_SECONDS if is_in_head else KEEP_ALIVE_SECONDS
            left = self._rests_since + limit - self._loop.time()
        if left > 0:
            self._look_again_in(min(left, HEAD_SECONDS))
        elif is_in_head:
            said = f"cannot wait for the request: no head came in {HEAD_SECONDS:g} s; ask again"
            self._refuse(HttpProblem(408, InvalidRequest(said)))
        else:
            self._transport.close()


def _peer(transport: asyncio.BaseTransport, principal: Principal | None) -> Peer:
    """What is known of a connection's other end."""
    uid = _peer_uid(transport)
    address = transport.get_extra_info("peername") if uid is None else None
    if not isinstance(address, tuple):
        return Peer(uid=uid, principal=principal)
    return Peer(uid=uid, principal=principal, host=str(address[0]), port=int(address[1]))


def _peer_uid(transport: asyncio.BaseTransport) -> int | None:
    """The uid at the other end of a unix socket."""
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family != socket.AF_UNIX:
        return None
    with socket.socket(fileno=os.dup(peer.fileno())) as own:
        credentials: Any = own.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return int(_PEER.unpack(credentials)[1])
