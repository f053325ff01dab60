"""A connection that comes as a stream of somebody else's: what the HTTP server takes for a socket's transport.

    bytes in:   the stream ─ read, unless paused ─▶ protocol.data_received
    bytes out:  protocol ─ write ─▶ here, a little ─ as the other end takes them ─▶ the stream

Reading and writing go on side by side, so that a request's end is seen while its answer is still on the way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol, cast

from relight.protocol.errors import RelightError

HIGH_BYTES = 256 * 1024
"""With so much still to be sent, the protocol is asked to wait."""


class ByteStream(Protocol):
    """What carries the bytes.  Its reads and writes raise a RelightError once it is gone."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """What comes, until its end."""

    async def write(self, data: bytes, /) -> None:
        """Send bytes; waits while the other end is slow."""

    def finish(self) -> None:
        """Send no more."""


class CarriedTransport(asyncio.Transport):
    """The transport of one connection.  `run` is its life."""

    def __init__(self, stream: ByteStream, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._stream = stream
        self._protocol = protocol
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._has_unsent = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._is_closing = False
        self._is_protocol_paused = False

    async def run(self) -> None:
        """Returns once either end has closed it, and the protocol knows."""
        self._protocol.connection_made(self)
        reading = asyncio.ensure_future(self._read())
        writing = asyncio.ensure_future(self._write())
        try:
            await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._is_closing = True
            reading.cancel()
            writing.cancel()
            await asyncio.wait((reading, writing))
            self._stream.finish()
            self._protocol.connection_lost(None)

    async def _read(self) -> None:
        try:
            async for data in self._stream:
                self._protocol.data_received(data)
                await self._may_read.wait()
        except RelightError:
            return  # it is gone: `run` says so

    async def _write(self) -> None:
        """Send what there is, in order; returns when all is sent and nothing more will come."""
        try:
            while True:
                while self._unsent:
                    await self._stream.write(self._take())
                if self._is_closing:
                    return
                self._has_unsent.clear()
                await self._has_unsent.wait()
        except RelightError:
            return

    def _take(self) -> bytes:
        data = b"".join(self._unsent) if len(self._unsent) > 1 else self._unsent[0]
        self._unsent.clear()
        self._unsent_bytes = 0
        if self._is_protocol_paused:
            self._is_protocol_paused = False
            self._protocol.resume_writing()
        return data

    # -- what the protocol asks

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or not data:
            return
        self._unsent.append(bytes(data))
        self._unsent_bytes += len(data)
        self._has_unsent.set()
        if self._unsent_bytes >= HIGH_BYTES and not self._is_protocol_paused:
            self._is_protocol_paused = True
            self._protocol.pause_writing()

    def close(self) -> None:
        self._is_closing = True
        self._has_unsent.set()

    def abort(self) -> None:
        self._unsent.clear()
        self.close()

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    def is_reading(self) -> bool:
        return self._may_read.is_set()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)


async def carry(stream: ByteStream, protocol: asyncio.Protocol) -> None:
    """Have a protocol speak on a stream, until either is done."""
    await CarriedTransport(stream, protocol).run()
