"""A server's end of a link that the test plays: it takes nodes, keeps what they say, and orders what the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from relight.protocol import PROTOCOL
from relight.protocol.codec import pack
from relight.protocol.errors import NotFound, Unavailable
from relight.protocol.link import TO_SERVER, CallEnd, Hello, LogLines, Orders, Reports, Welcome
from relight.transport import Connection, Stream, listen_unix

WAIT_SECONDS = 30.0


class ScriptedServer:
    """Takes nodes, keeps what they say, and says what the test wants."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.hellos: list[Hello] = []
        self.reports: list[Reports] = []
        self.blobs: dict[str, bytes] = {}
        self.is_welcoming = True
        self.refusals = 0
        self._changed = asyncio.Condition()
        self._connections: list[Connection] = []
        self._server: asyncio.AbstractServer | None = None

    async def open(self) -> None:
        self._server = await listen_unix(
            self.path, on_message=self._hear, on_stream=self._serve, on_connect=self._connections.append
        )

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            Path(self.path).unlink(missing_ok=True)  # a socket stays where it was bound
        self.cut()

    def cut(self) -> None:
        """The link is lost."""
        for connection in self._connections:
            connection.close("cut")
        self._connections.clear()

    def order(self, **orders: object) -> None:
        """Send orders to the node that is there."""
        self._connections[-1].send(pack(Orders(**orders)))

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return once what was heard makes it so."""
        async with asyncio.timeout(WAIT_SECONDS), self._changed:
            await self._changed.wait_for(is_so)

    def ends(self) -> list[CallEnd]:
        return [end for report in self.reports for end in report.ends]

    def states(self) -> list[str]:
        return [change.state.value for report in self.reports for change in report.workers]

    def lines(self) -> list[tuple[LogLines, str]]:
        return [(group, text) for report in self.reports for group in report.logs for text in group.texts]

    def _hear(self, connection: Connection, data: bytes) -> None:
        message = TO_SERVER.unpack(data)
        if isinstance(message, Hello):
            self.hellos.append(message)
            if self.is_welcoming:
                connection.send(pack(Welcome(epoch=1, protocol=PROTOCOL)))
            else:
                connection.close("not you")
        elif isinstance(message, Reports):
            self.reports.append(message)
        self._note = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _serve(self, stream: Stream) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("cannot do that now")
        if stream.service == "blob":
            if stream.detail not in self.blobs:
                raise NotFound("cannot send it")
            await stream.write(self.blobs[stream.detail])
        else:
            self.blobs[stream.detail] = b"".join([chunk async for chunk in stream])
            await stream.write(b"kept")
        stream.finish()
