"""One node's link: Hello, Welcome, then orders out and reports in until it is gone.

Streams that an agent may open: `blob` (its detail a digest: the server sends the bytes), `blob-put` (the agent sends
them, the server answers `kept` once they are on disk and are what the digest says) and `platform` (its detail a worker of
that node, which speaks HTTP on it from inside its sandbox).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from relight.control.nodes import Nodes
from relight.control.platform import Control
from relight.protocol.codec import pack
from relight.protocol.errors import Forbidden, NotFound, ProtocolError
from relight.protocol.link import TO_SERVER, Hello, Orders, Reports
from relight.protocol.views import Principal
from relight.transport import Connection, Stream

ServeHttp = Callable[[Stream, Principal], Awaitable[None]]
"""Answers the requests that come on a stream, as those of somebody; returns when the stream has ended."""

ServeWeb = Callable[[Stream], Awaitable[None]]
"""Takes the connection of a worker that serves the web; returns when it has ended."""


class Links:
    """Takes nodes in.  Give its methods to `transport.listen_unix`."""

    def __init__(self, control: Control, serve_http: ServeHttp, serve_web: ServeWeb) -> None:
        self._control = control
        self._serve_http = serve_http
        self._serve_web = serve_web
        self._sessions: dict[Connection, Session] = {}

    def on_connect(self, connection: Connection) -> None:
        """A dialer is there: only the server's own user, or root, may be a node on this machine."""
        if connection.peer_uid() not in (None, 0, os.getuid()):
            connection.close(f"user {connection.peer_uid()} may not be a node")
            return
        session = self._sessions[connection] = Session(connection, self._control.nodes)
        connection.closed.add_done_callback(lambda _: self._forget(connection, session))

    def on_message(self, connection: Connection, data: bytes) -> None:
        """A node said something."""
        session = self._sessions.get(connection)
        if session is not None:
            session.on_message(data)

    async def on_stream(self, stream: Stream) -> None:
        """A node opened a stream."""
        blobs = self._control.blobs
        if stream.service == "blob":
            if not blobs.has(stream.detail):
                raise NotFound(f"cannot send blob {stream.detail[:12]}…: it is not kept here")
            async for chunk in blobs.read(stream.detail):
                await stream.write(chunk)
        elif stream.service == "blob-put":
            await blobs.put(aiter(stream), stream.detail)
            await stream.write(b"kept")
        elif stream.service == "platform":
            await self._serve_http(stream, self._worker_of(stream))
            return
        elif stream.service == "web":
            await self._serve_web(stream)
            return
        else:
            raise ProtocolError(f"cannot open {stream.service!r}: this server offers no such service")
        stream.finish()

    def _worker_of(self, stream: Stream) -> Principal:
        """Who speaks on a `platform` stream: the node says so, and may only name a worker of its own."""
        session = self._sessions.get(stream.connection)
        return self._control.nodes.principal(session.node if session is not None else "", stream.detail)

    def close(self) -> None:
        """Hang up on every node; they will dial again."""
        for connection in list(self._sessions):
            connection.close("the server stops")

    def _forget(self, connection: Connection, session: Session) -> None:
        self._sessions.pop(connection, None)
        session.on_closed()


class Session:
    """What is known of one link.  `node` is who is at its other end, empty before its Hello."""

    def __init__(self, connection: Connection, nodes: Nodes) -> None:
        self._connection = connection
        self._nodes = nodes
        self.node = ""

    def on_message(self, data: bytes) -> None:
        """Hello first, reports after.  Raises ProtocolError, which ends the link, for anything else."""
        message = TO_SERVER.unpack(data)
        if isinstance(message, Hello) and not self.node:
            welcome = self._nodes.connect(message, self._send)
            self.node = message.node
            self._connection.send(pack(welcome))
        elif isinstance(message, Reports) and self.node:
            self._nodes.report(self.node, message)
        else:
            raise Forbidden("cannot take the message: a link begins with one Hello")

    def on_closed(self) -> None:
        """The link is gone."""
        if self.node:
            self._nodes.disconnect(self.node, self._send)

    def _send(self, orders: Orders) -> None:
        self._connection.send(pack(orders))
        self._connection.flush()  # they are all that this turn of the loop has decided
