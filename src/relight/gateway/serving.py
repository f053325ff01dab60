"""The HTTP server, on sockets that somebody else opened."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from relight.gateway.app import Gateway
from relight.gateway.carried import ByteStream, CarriedTransport
from relight.gateway.connection import Connections, HttpConnection
from relight.protocol.views import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How the server serves: `stop_seconds` is what open requests get when it stops."""

    max_connections: int = 4096
    stop_seconds: float = 10.0


class HttpServer:
    """The gateway on its sockets."""

    def __init__(self, gateway: Gateway, serving: Serving) -> None:
        self._stop_seconds = serving.stop_seconds
        limit = serving.max_connections
        self._callers = Connections(gateway.answer, gateway.limits, limit)
        self._workers = Connections(gateway.answer, gateway.limits, limit)  # apart: they keep nobody else out
        self._servers: list[asyncio.Server] = []
        self._is_stopping = asyncio.Event()

    async def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Serve until `stop`, and until what was begun by then is answered; the sockets are listening ones."""
        try:
            for one in sockets:
                self._servers.append(await _listen(one, self._callers))
            await self._is_stopping.wait()
        finally:
            self.stop()
            for server in self._servers:
                server.close()
            for one in sockets:
                one.close()
            rooms = (self._callers, self._workers)
            await asyncio.gather(*(room.wait_closed(self._stop_seconds) for room in rooms))

    async def serve_stream(self, stream: ByteStream, principal: Principal) -> None:
        """Serve a connection that comes as a stream, to `principal`; returns when it has ended."""
        if self._is_stopping.is_set():
            stream.finish()
            return
        await CarriedTransport(stream, HttpConnection(self._workers, principal)).run()

    def stop(self) -> None:
        """Take no more connections, let short requests end, tell those that wait to ask again; `serve` then returns."""
        if self._is_stopping.is_set():
            return
        self._is_stopping.set()
        for server in self._servers:
            server.close()
        for connections in (self._callers, self._workers):
            connections.leave()


async def _listen(listening: socket.socket, connections: Connections) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if listening.family == socket.AF_UNIX:
        return await loop.create_unix_server(connections.open, sock=listening, backlog=2048)
    return await loop.create_server(connections.open, sock=listening, backlog=2048)
