"""A worker's time with the web: frames in, a task for each request, frames out, until the server has no more.

All that is said in one turn of the loop is written at its end, at once: a write is a system call, and wakes the server.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable
from typing import Any, cast

from relight.protocol.errors import ProtocolError
from relight.protocol.web import Frames, Kind, frame_head, part, unpack_count, unpack_request
from relight.runtime.tracebacks import describe
from relight.runtime.web.exchange import Exchange, Gone, Handler

GONE_SECONDS = 0.05
"""How long a handler whose caller has hung up has to end by itself, before it is cancelled."""

MakesHandler = Callable[[dict[str, Any]], Any]
"""Makes a handler of what the server says of it first; awaits what must be awaited before."""

LeavesBy = Callable[["Callable[[], None] | None"], None]
"""Takes what is called when the worker is to leave; None for nothing."""


class Session(asyncio.Protocol):
    """`over` is done when it has ended: with what went wrong, if something did.  `answered` is called after each request."""

    def __init__(self, make_handler: MakesHandler, answered: Callable[[], None]) -> None:
        self._make_handler = make_handler
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._frames = Frames()
        self._exchanges: dict[int, Exchange] = {}
        self._early: list[Exchange] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._handler: Handler | None = None
        self._unsent: list[bytes | memoryview] = []
        self._is_finishing = False
        self._transport: asyncio.Transport
        self.over: asyncio.Future[None] = self._loop.create_future()

    def send(self, kind: Kind, request: int, data: bytes | memoryview = b"") -> None:
        """Say something, at the end of this turn of the loop."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent += (frame_head(kind, request, len(data)), data)

    def _flush(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        self._transport.write(data)

    # -- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for kind, number, said in self._frames.feed(data):
                self._hear(kind, number, said)
        except ProtocolError as error:
            self._end(error)

    def connection_lost(self, _error: Exception | None) -> None:
        for exchange in self._exchanges.values():
            exchange.on_gone()
        self._end(None)

    # -- what the server says

    def _hear(self, kind: int, number: int, said: bytes) -> None:
        if kind == Kind.OPEN_WHOLE or kind == Kind.OPEN:
            head, body = part(said)
            is_whole = kind == Kind.OPEN_WHOLE
            exchange = Exchange(self, number, unpack_request(head), body if is_whole else None)
            self._exchanges[number] = exchange
            if self._handler is None:
                self._early.append(exchange)
            else:
                self._begin(self._handler, exchange)
            return
        exchange_of = self._exchanges.get(number)
        if kind == Kind.CONFIG:
            self._spawn(self._make_ready(json.loads(said)), "web.ready")
        elif kind == Kind.FINISH:
            self._is_finishing = True
            self._finish_if_done()
        elif exchange_of is not None:
            self._hear_of(exchange_of, kind, said)

    def _hear_of(self, exchange: Exchange, kind: int, said: bytes) -> None:
        if kind == Kind.BODY:
            exchange.on_body(said)
        elif kind == Kind.END:
            exchange.on_end()
        elif kind == Kind.CREDIT:
            exchange.on_credit(unpack_count(said))
        elif kind == Kind.GONE:
            exchange.on_gone()
            self._loop.call_later(GONE_SECONDS, self._cancel, exchange)

    def _cancel(self, exchange: Exchange) -> None:
        if exchange.task is not None:
            exchange.task.cancel()

    # -- requests

    async def _make_ready(self, config: dict[str, Any]) -> None:
        try:
            self._handler = await self._make_handler(config)
        except BaseException as error:  # noqa: BLE001 - the boundary of user code: the app may raise anything as it starts
            self._end(error)
            return
        self.send(Kind.READY, 0)
        early, self._early = self._early, []
        for exchange in early:
            self._begin(self._handler, exchange)

    def _begin(self, handler: Handler, exchange: Exchange) -> None:
        exchange.task = self._spawn(self._answer(handler, exchange), "web.request")

    async def _answer(self, handler: Handler, exchange: Exchange) -> None:
        try:
            await handler(exchange)
            if not exchange.is_over:
                exchange.fail(500, "Internal Server Error")
        except Gone:
            exchange.fail(500, "Internal Server Error")
        except asyncio.CancelledError:
            exchange.fail(503, "the worker is leaving")
        except BaseException as error:  # noqa: BLE001 - the boundary of one request: the user's code may raise anything
            show(error)
            exchange.fail(500, "Internal Server Error")
        finally:
            if not exchange.is_over:
                self.send(Kind.BROKEN, exchange.number)
            del self._exchanges[exchange.number]
            self._answered()
            self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._is_finishing and not self._exchanges:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        if self.over.done():
            return
        if error is None:
            self.over.set_result(None)
        else:
            self.over.set_exception(error)

    async def close(self) -> None:
        """Leave nothing of it."""
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._unsent:
            self._flush()
        self._transport.close()

    def _spawn(self, work: Any, name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def serve(
    descriptor: int, make_handler: MakesHandler, leave_by: LeavesBy, answered: Callable[[], None] = lambda: None
) -> None:
    """Serve what comes on a socket until the server has no more, calling `answered` after each request.

    Raises what the user's app raises as it starts.
    """
    connection = socket.socket(fileno=descriptor)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    _, session = await loop.create_connection(lambda: Session(make_handler, answered), sock=connection)

    def leave() -> None:
        loop.call_soon_threadsafe(session.send, Kind.LEAVE, 0)

    leave_by(leave)
    try:
        await session.over
    finally:
        leave_by(None)
        await session.close()


def show(error: BaseException) -> None:
    """What the user's code raised, where Python would have shown it."""
    sys.stderr.write(f"{describe(error)}\n")
