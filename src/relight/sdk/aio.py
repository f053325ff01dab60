"""Steps taken on the caller's own event loop: there is no other loop, and no thread.

Each loop has its own connections to a server.  Several requests at once take several of them, up to `MOST`; they are
kept, and hung up when the loop ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol, TypeVar

from relight.sdk.environment import is_debugging
from relight.sdk.frames import is_told
from relight.sdk.http import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    Address,
    Answer,
    Unreachable,
    connect_unix,
    not_trusted,
    tls_context,
)
from relight.sdk.requests import Reply, Request
from relight.sdk.steps import NO_REPLY, Pause, Steps

MOST = 128
"""How many connections one loop opens to one server; who asks for more waits for one to be free."""

T = TypeVar("T")


class Line(Protocol):
    """One HTTP connection of one loop."""

    @property
    def is_open(self) -> bool:
        """Whether it may be used again."""

    async def exchange(self, request: Request) -> Reply:
        """Send it and read the answer.  Raises Unreachable; a line that failed, or was cancelled, is not open."""

    def close(self) -> None:
        """Hang up."""


OpenLine = Callable[[Address], Awaitable[Line]]


async def open_line(address: Address) -> Line:
    """A connection.  Raises Unreachable."""
    try:
        if address.path:
            reader, writer = await asyncio.open_connection(sock=connect_unix(address.path))
        else:
            reader, writer = await asyncio.wait_for(_open_tcp(address), CONNECT_SECONDS)
    except (OSError, asyncio.TimeoutError) as error:
        raise Unreachable(f"it does not answer: {getattr(error, 'strerror', '') or error}") from error
    return _StreamLine(address, reader, writer)


async def _open_tcp(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if not address.is_tls:
        return await asyncio.open_connection(address.host, address.port)
    from ssl import SSLCertVerificationError

    try:
        return await asyncio.open_connection(address.host, address.port, ssl=tls_context(address))
    except SSLCertVerificationError as error:
        raise not_trusted(address, error) from error


class _StreamLine:
    """A connection made of asyncio's streams."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer

    @property
    def is_open(self) -> bool:
        return not (self._writer.is_closing() or self._reader.at_eof())

    async def exchange(self, request: Request) -> Reply:
        answer = Answer(request.method)
        seconds = request.wait_seconds + ANSWER_SECONDS
        alarm = asyncio.get_running_loop().call_later(seconds, self._writer.transport.abort)
        try:
            self._writer.write(request.head(self._address.name, self._address.token) + request.body)
            await self._writer.drain()
            while not answer.is_whole:
                data = await self._reader.read(answer.wants)
                if data:
                    answer.feed(data)
                else:
                    answer.end()
        except OSError as error:
            self.close()
            raise Unreachable(f"the connection broke: {error or type(error).__name__}") from error
        except BaseException:  # cancelled too: an answer that nobody read must not be taken for the next one's
            self.close()
            raise
        finally:
            alarm.cancel()
        if answer.will_close:
            self.close()
        return answer.reply()

    def close(self) -> None:
        self._writer.transport.abort()


class Pool:
    """The connections of one loop to one server."""

    def __init__(self, address: Address, sleep: Callable[[float], Awaitable[None]], open_it: OpenLine | None) -> None:
        self._address = address
        self._sleep = sleep
        self._open = open_it or open_line
        self._idle: list[Line] = []
        self._room = asyncio.Semaphore(MOST)
        self._end: AsyncGenerator[None, None] | None = None

    async def do(self, steps: Steps[T]) -> T:
        """Take the steps; what comes of them."""
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    await self._sleep(step.seconds)
                    step = steps.send(NO_REPLY)
                    continue
                try:
                    reply = await self.exchange(step)
                except Unreachable as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        except Exception as error:
            if is_told(error) and not is_debugging():
                raise error.with_traceback(None)  # noqa: B904 - it is the same error; as in Connection.do
            raise

    async def do_at_least(self, steps: Steps[T]) -> None:
        """Take the steps even while this is being cancelled: somebody else must hear what we leave behind."""
        await asyncio.shield(asyncio.ensure_future(self.do(steps)))

    async def exchange(self, request: Request) -> Reply:
        """Send it and read the answer.  Raises Unreachable."""
        async with self._room:
            line = await self._take()
            try:
                return await line.exchange(request)
            finally:
                if line.is_open:
                    self._idle.append(line)

    def close(self) -> None:
        """Hang up what is idle; on its own loop only."""
        for line in self._idle:
            line.close()
        self._idle.clear()

    async def _take(self) -> Line:
        if self._end is None:
            self._end = _until_the_loop_ends(self)
            await self._end.__anext__()
        while self._idle:
            line = self._idle.pop()
            if line.is_open:
                return line
            line.close()
        return await self._open(self._address)


async def _until_the_loop_ends(pool: Pool) -> AsyncGenerator[None, None]:
    """A loop that ends closes the generators it has seen: the one sign it gives to those who use it."""
    try:
        yield
    finally:
        pool.close()
