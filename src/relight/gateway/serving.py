"""The HTTP server: uvicorn on sockets that somebody else opened.

What uvicorn leaves open is closed here: the uid at the other end of a unix socket is told to the gateway, a head has a
longest length and a longest time, and there are never more connections than the limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from relight.gateway.app import Gateway
from relight.gateway.carried import ByteStream, CarriedTransport
from relight.gateway.guard import PEER_UID, PRINCIPAL
from relight.gateway.problems import PROBLEM_TYPE, problem_of
from relight.protocol.errors import InvalidRequest, RelightError, TooLarge, Unavailable
from relight.protocol.views import Principal

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 20.0
KEEP_ALIVE_SECONDS = 75
_PEER = struct.Struct("3i")
_PHRASES = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How the server serves: `stop_seconds` is what open requests get when it stops."""

    max_connections: int = 4096
    stop_seconds: float = 10.0


class HttpServer:
    """The gateway on its sockets."""

    def __init__(self, gateway: Gateway, serving: Serving) -> None:
        self._gateway = gateway
        config = uvicorn.Config(
            gateway,
            loop="none",
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(serving.stop_seconds),
            limit_concurrency=serving.max_connections,
        )
        self._config = config
        self._server = _Server(config)
        self._of_streams = ServerState()  # counted apart: however many workers ask, they keep nobody else out

    async def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Serve until `stop`; the sockets are listening ones, and are closed at the end."""
        await self._server.serve(sockets=list(sockets))

    async def serve_stream(self, stream: ByteStream, principal: Principal) -> None:
        """Serve a connection that comes as a stream, to `principal`; returns when it has ended."""
        if self._server.should_exit:
            stream.finish()
            return
        protocol = _Protocol(self._config, self._of_streams, {PRINCIPAL: principal})
        await CarriedTransport(stream, protocol).run()

    def stop(self) -> None:
        """Take no more connections, let short requests end, tell those that wait to ask again; `serve` then returns."""
        self._gateway.stop()
        for connection in list(self._of_streams.connections):
            connection.shutdown()
        self._server.should_exit = True


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # signals are the composition root's


class _Protocol(HttpToolsProtocol):
    """One connection."""

    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it so
        limit, self.limit_concurrency = self.limit_concurrency, None  # told here, as a problem, rather than as text
        super().connection_made(transport)
        if limit is not None and len(self.connections) > limit:
            self._refuse(
                503, Unavailable(f"cannot take the connection: {limit} are open; try again, or raise max_connections")
            )
            return
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family == socket.AF_UNIX:
            self.app_state = {**self.app_state, PEER_UID: _peer_uid(peer.fileno())}
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        if self._head_timer is None:
            self._wait_for_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        if self.transport.is_closing():
            return
        if self._head_bytes > HEAD_BYTES:
            self._refuse(
                431, TooLarge(f"cannot read the request: its head is longer than {HEAD_BYTES} bytes; send less")
            )
        else:
            self._refuse(400, InvalidRequest("cannot read the request: it is not HTTP/1.1; use an HTTP client"))

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            raise ValueError("head too long")  # httptools makes it a parser error, which ends in send_400_response

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_too_late)

    def _head_too_late(self) -> None:
        if not self.transport.is_closing():
            self._refuse(
                408, InvalidRequest(f"cannot wait for the request: no head came in {HEAD_SECONDS:g} s; ask again")
            )

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: int, error: RelightError) -> None:
        body = msgspec.json.encode(problem_of(error, status))
        head = f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: {PROBLEM_TYPE}\r\n"
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()


def _peer_uid(fd: int) -> int:
    with socket.socket(fileno=os.dup(fd)) as peer:
        credentials: Any = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return int(_PEER.unpack(credentials)[1])
