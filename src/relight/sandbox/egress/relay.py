"""Two connections as one: what comes in at either goes out at the other, and so do an end and a break."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import cast

_HIGH_BYTES = 512 * 1024  # so much waits for a slow reader before the other side is not read any more
_NO_LINGER = struct.pack("ii", 1, 0)


class Relay:
    """Carries bytes between `inner` and `outer`, which are its own from now on; `when_over` is called once.

    `sends` is told how many bytes go out each time.
    """

    def __init__(
        self,
        inner: socket.socket,
        outer: socket.socket,
        when_over: Callable[[Relay], None],
        sends: Callable[[int], None] | None = None,
    ) -> None:
        self._inner, self._outer = _Side(self._end, sends), _Side(self._end)
        self._inner.other, self._outer.other = self._outer, self._inner
        self._sockets = (inner, outer)
        self._when_over: Callable[[Relay], None] | None = when_over

    async def begin(self) -> None:
        """Start carrying."""
        loop = asyncio.get_running_loop()
        inner, outer = self._sockets
        await loop.create_connection(lambda: self._inner, sock=inner)
        await loop.create_connection(lambda: self._outer, sock=outer)

    def close(self) -> None:
        """Break both off."""
        for side, sock in zip((self._inner, self._outer), self._sockets, strict=True):
            side.abort()
            if side.transport is None:
                sock.close()
        self._end()

    def _end(self) -> None:
        if self._when_over is not None and self._inner.is_over and self._outer.is_over:
            then, self._when_over = self._when_over, None
            then(self)


def reset(connection: socket.socket) -> None:
    """Close a connection so that whoever is at its end hears that it was broken off."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    connection.close()


class _Side(asyncio.Protocol):
    """One of the two."""

    other: _Side

    def __init__(self, ended: Callable[[], None], hears: Callable[[int], None] | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.is_over = False
        self._ended, self._hears = ended, hears
        self._early = b""  # what came before the other was there: up to Python 3.11 a transport reads even if paused
        self._has_said_all = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_HIGH_BYTES)
        if self.is_over:  # the other ended before this began
            self.transport.abort()
        self.other.catch_up()  # at once: what comes next must not be passed on before

    def catch_up(self) -> None:
        """Pass on what came before the other was there."""
        if self.other.transport is None or self.is_over:
            return
        if self._early:
            self.other.transport.write(self._early)
            self._early = b""
        if self._has_said_all and not self.other.is_over:
            with suppress(OSError):
                self.other.transport.write_eof()

    def data_received(self, data: bytes) -> None:
        if self._hears is not None:
            self._hears(len(data))
        if self.other.transport is None:
            self._early += data
        else:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other.transport is not None and not self.other.is_over:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other.transport is not None and not self.other.is_over:
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        self._has_said_all = True
        if self.other._has_said_all:
            self.close()
            self.other.close()
        elif self.other.transport is not None:
            with suppress(OSError):
                self.other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True
        if exc is not None:
            self.other.abort()
        else:
            self.other.close()
        self._ended()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()
        else:
            self.is_over = True

    def abort(self) -> None:
        """Break it off, so that whoever is at its end hears that it was."""
        if self.transport is None:
            self.is_over = True
            return
        if not self.is_over:
            with suppress(OSError):
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()
