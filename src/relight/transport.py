"""One end of a link on asyncio: `protocol.streams` does the deciding, this carries the bytes.

Both ends use it: the agent dials, the server listens.  Nothing here knows what is said.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import cast

from relight.protocol.errors import ProtocolError, RelightError, Unavailable
from relight.protocol.streams import (
    CreditCame,
    DataCame,
    Event,
    MessageCame,
    Mux,
    StreamEnded,
    StreamOpened,
    StreamReset,
)

_FLUSH_BYTES = 128 * 1024
_PATH_BYTES = 107  # sockaddr_un.sun_path, less its closing zero
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid: struct ucred


class Stream:
    """A byte stream of a connection, both ways.  Its methods raise Unavailable once it is reset or the link is gone."""

    def __init__(self, connection: Connection, number: int, service: str, detail: str) -> None:
        self.service = service
        self.detail = detail
        self.connection = connection
        self._number = number
        self._chunks: deque[bytes] = deque()
        self._is_ended = False
        self._reason = ""
        self._changed = asyncio.Event()

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        while not self._chunks:
            if self._reason:
                raise Unavailable(f"cannot read the stream {self.service!r}: {self._reason}; try again")
            if self._is_ended:
                return b""
            await self._wait()
        data = self._chunks.popleft()
        self.connection.grant(self._number, len(data))
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the other end is slow."""
        while not self._reason and self.connection.room(self._number) <= 0:
            await self._wait()
        if self._reason:
            raise Unavailable(f"cannot write to the stream {self.service!r}: {self._reason}; try again")
        self.connection.send_data(self._number, data)

    def finish(self) -> None:
        """Send no more; the other end reads what was sent, then the end."""
        self.connection.finish(self._number)

    def reset(self, reason: str) -> None:
        """Give it up; the other end's next read or write raises with `reason`."""
        self.connection.reset(self._number, reason)
        self.on_reset(reason)

    # -- from the connection

    def on_data(self, data: bytes) -> None:
        """Bytes came."""
        self._chunks.append(data)
        self._changed.set()

    def on_end(self) -> None:
        """The other end sends no more."""
        self._is_ended = True
        self._changed.set()

    def on_credit(self) -> None:
        """There may be room to write."""
        self._changed.set()

    def on_reset(self, reason: str) -> None:
        """It is over."""
        self._reason = self._reason or reason or "it was reset"
        self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()


OnMessage = Callable[["Connection", bytes], None]
OnStream = Callable[[Stream], Awaitable[None]]
OnConnect = Callable[["Connection"], None]


class Connection(asyncio.Protocol):
    """A link's end.  `on_message` is called for each message, in order; `on_stream` is run as a task for each stream
    the other end opens.  An error of either ends the connection; `closed` is done when it has ended, with the reason.
    """

    def __init__(
        self, *, is_dialer: bool, on_message: OnMessage, on_stream: OnStream, on_connect: OnConnect | None = None
    ) -> None:
        self._mux = Mux(is_dialer=is_dialer)
        self._on_message = on_message
        self._on_stream = on_stream
        self._on_connect = on_connect
        self._streams: dict[int, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport | None = None
        self._is_paused = False
        self._is_flushing = False
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = self._loop.create_future()

    # -- what both ends do

    def send(self, message: bytes) -> None:
        """Send a message, in order and before any stream's bytes.  Nothing is sent once the link is gone."""
        self._mux.send_message(message)
        self._flush_soon()

    def flush(self) -> None:
        """Send what there is now, for who knows that nothing more comes in this turn of the loop."""
        if not self._is_paused:
            self._flush()

    def open(self, service: str, detail: str) -> Stream:
        """Open a stream to the other end's `service`."""
        if self.closed.done():
            raise Unavailable(f"cannot open {service!r}: the link is gone; try again")
        number = self._mux.open(service, detail)
        stream = self._streams[number] = Stream(self, number, service, detail)
        self._flush_soon()
        return stream

    def close(self, reason: str = "closed here") -> None:
        """End the connection; what was sent still goes if the other end takes it."""
        if self._transport is not None and not self.closed.done():
            self._flush()
            self._end(reason)
            self._transport.close()

    def peer_uid(self) -> int | None:
        """The user id of the process at the other end of a unix socket; None for other transports."""
        peer = self._transport.get_extra_info("socket") if self._transport is not None else None
        if peer is None or peer.family != socket.AF_UNIX:
            return None
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(credentials)[1])

    @property
    def is_behind(self) -> bool:
        """Whether the other end takes less than is sent: what can wait should."""
        return self._is_paused

    # -- what a stream asks for

    def grant(self, number: int, count: int) -> None:
        """A reader took `count` bytes."""
        self._mux.grant(number, count)
        self._flush_soon()

    def room(self, number: int) -> int:
        """How many bytes a stream can send now."""
        return self._mux.room(number)

    def send_data(self, number: int, data: bytes) -> None:
        """Queue a stream's bytes."""
        self._mux.send(number, data)
        self._flush_soon()

    def finish(self, number: int) -> None:
        """A stream sends no more."""
        self._mux.end(number)
        self._flush_soon()

    def reset(self, number: int, reason: str) -> None:
        """A stream is given up."""
        self._streams.pop(number, None)
        self._mux.reset(number, reason)
        self._flush_soon()

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_FLUSH_BYTES)
        if self._on_connect is not None:
            self._on_connect(self)

    def data_received(self, data: bytes) -> None:
        try:
            for event in self._mux.feed(data):
                self._handle(event)
            self._forget_streams()
        except RelightError as error:
            self.close(f"the other end broke the protocol: {error}")

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(str(exc) if exc else "the other end closed it")

    # -- inside

    def _handle(self, event: Event) -> None:
        if isinstance(event, MessageCame):
            self._on_message(self, event.data)
            return
        if isinstance(event, StreamOpened):
            self._accept(event)
            return
        stream = self._streams.get(event.stream)
        if stream is None:
            return
        if isinstance(event, DataCame):
            stream.on_data(event.data)
        elif isinstance(event, CreditCame):
            stream.on_credit()
        elif isinstance(event, StreamEnded):
            stream.on_end()
        elif isinstance(event, StreamReset):
            stream.on_reset(event.reason)

    def _accept(self, opened: StreamOpened) -> None:
        stream = self._streams[opened.stream] = Stream(self, opened.stream, opened.service, opened.detail)
        task = self._loop.create_task(self._serve(stream), name=f"link.{opened.service}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, stream: Stream) -> None:
        try:
            await self._on_stream(stream)
        except RelightError as error:
            stream.reset(str(error))

    def _flush_soon(self) -> None:
        if not self._is_flushing and not self._is_paused:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        while self._transport is not None and not self._is_paused and not self.closed.done():
            data = self._mux.take(_FLUSH_BYTES)
            if not data:
                break
            self._transport.write(data)
        self._forget_streams()

    def _forget_streams(self) -> None:
        for number in self._mux.pop_over():
            self._streams.pop(number, None)

    def _end(self, reason: str) -> None:
        if self.closed.done():
            return
        self.closed.set_result(reason)
        for stream in self._streams.values():
            stream.on_reset(f"the link is gone ({reason})")
        self._streams.clear()
        for task in self._tasks:
            task.cancel()


async def refuse_stream(stream: Stream) -> None:
    """The `on_stream` of an end that offers no services."""
    raise ProtocolError(f"cannot open {stream.service!r}: this end offers no such service")


@contextmanager
def short_path(path: str) -> Iterator[str]:
    """A name of a unix socket that the kernel takes: it has room for 107 bytes, and folders may be deeper than that."""
    if len(os.fsencode(path)) <= _PATH_BYTES:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


async def connect_unix(path: str, *, on_message: OnMessage, on_stream: OnStream = refuse_stream) -> Connection:
    """Dial the server that listens at `path`.  Raises OSError when none does."""
    loop = asyncio.get_running_loop()
    with short_path(path) as name:
        _, connection = await loop.create_unix_connection(
            lambda: Connection(is_dialer=True, on_message=on_message, on_stream=on_stream), name
        )
    return connection


async def listen_unix(
    path: str, *, on_message: OnMessage, on_stream: OnStream, on_connect: OnConnect
) -> asyncio.AbstractServer:
    """Take dialers at `path`; `on_connect` is called with each."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as unbound, short_path(path) as name:
        unbound.bind(name)
        listening = unbound.dup()
    return await loop.create_unix_server(
        lambda: Connection(is_dialer=False, on_message=on_message, on_stream=on_stream, on_connect=on_connect),
        sock=listening,
    )
