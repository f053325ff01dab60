"""Connections of workers that serve the web: frames in and out, each turn of the loop written at its end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import cast

from relight.control.web import Session, Web
from relight.protocol.errors import ProtocolError, RelightError
from relight.protocol.web import SOCKET_BYTES, Frames, Kind, frame_head
from relight.transport import Stream, short_path

ATTACH_SECONDS = 5.0
"""How long a connection has to say whose it is."""

JOINED_BYTES = 32 * 1024
"""So much is copied to be one write; more is written as it is, piece by piece in one system call."""

_PEER = struct.Struct("3i")
_log = logging.getLogger("relight.links")

Carry = Callable[[Stream, asyncio.Protocol], Awaitable[None]]
"""Has a protocol speak on a stream."""


class WebListener:
    """Takes them in: on a socket of this machine, and on the streams of links."""

    def __init__(self, web: Web, carry: Carry) -> None:
        self._web = web
        self._carry = carry

    async def listen(self, path: str) -> asyncio.AbstractServer:
        """Take connections at a path."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as unbound, short_path(path) as name:
            unbound.bind(name)
            listening = unbound.dup()
        return await loop.create_unix_server(self._made, sock=listening, backlog=1024)

    async def serve_stream(self, stream: Stream) -> None:
        """Take one that comes over a link."""
        await self._carry(stream, self._made())

    def _made(self) -> WebConnection:
        return WebConnection(self._web)


class WebConnection(asyncio.Protocol):
    """One connection.  What its first frame says is an agent's word, all after that a worker's, which nobody trusts."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._loop = asyncio.get_running_loop()
        self._frames = Frames()
        self._session: Session | None = None
        self._unsent: list[bytes | memoryview] = []
        self._unsent_bytes = 0
        self._transport: asyncio.Transport
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None

    # -- what control asks

    def send(self, kind: Kind, request: int, data: bytes | memoryview = b"") -> None:
        """Say something to the worker, at the end of this turn of the loop."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent += (frame_head(kind, request, len(data)), data)
        self._unsent_bytes += len(data)

    def close(self) -> None:
        """Say no more, and hear nothing."""
        self._session = None
        self._flush()
        self._is_closed = True
        self._transport.close()

    def _flush(self) -> None:
        if self._unsent and not self._is_closed:
            if self._unsent_bytes > JOINED_BYTES:
                self._transport.writelines(self._unsent)
            else:
                self._transport.write(b"".join(self._unsent))
        self._unsent.clear()
        self._unsent_bytes = 0

    # -- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = self._loop.call_later(ATTACH_SECONDS, self._give_up)
        peer = transport.get_extra_info("socket")
        if peer is None:
            return
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        if _uid(peer) not in (0, os.getuid()):
            self.close()

    def data_received(self, data: bytes) -> None:
        try:
            for kind, request, said in self._frames.feed(data):
                if self._is_closed:
                    return
                self._hear(kind, request, said)
        except RelightError as error:
            _log.warning("connection of a worker ended", extra={"why": str(error)})
            self._transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        session, self._session = self._session, None
        if session is not None:
            self._web.detached(session)

    def _hear(self, kind: int, request: int, said: bytes) -> None:
        if self._session is not None:
            self._web.heard(self._session, kind, request, said)
        elif kind == Kind.ATTACH and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._session = self._web.attached(str(said, "latin-1"), self)
        else:
            raise ProtocolError("cannot take a connection for the web: it does not say whose it is")

    def _give_up(self) -> None:
        if self._session is None:
            self._transport.abort()


def _uid(peer: socket.socket) -> int:
    with socket.socket(fileno=os.dup(peer.fileno())) as own:
        return int(_PEER.unpack(own.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[1])
