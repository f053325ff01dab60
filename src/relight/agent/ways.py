"""Connections from workers that serve the web to the server: opened here, said whose they are, and handed over.

on the server's machine:  a socket of the server's, which the worker is given: no byte passes the agent
elsewhere:                a stream of the link, and a pair of sockets to the worker
"""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Protocol

from relight.agent.platform import Opens, carry
from relight.protocol.errors import RelightError
from relight.protocol.web import SOCKET_BYTES, Kind, frame
from relight.transport import Stream, short_path

SERVICE = "web"
"""What the server calls this way in."""

WEB_SOCKET = "web.sock"
"""Where a server listens for these, beside where it listens for nodes."""

CONNECT_SECONDS = 5.0

_log = logging.getLogger("relight.agent")


class Links(Protocol):
    """The link, as it is needed here."""

    async def connected(self) -> Opens:
        """The connection to the server, once there is one."""


class Ways:
    """`path` is where the server listens, if it is on this machine."""

    def __init__(self, path: Path, link: Links) -> None:
        self._path = path
        self._link = link
        self._carrying: set[asyncio.Task[None]] = set()

    async def open(self, secret: str) -> int:
        """A descriptor of the connection that the server waits for under this secret.  Raises RelightError, OSError."""
        attach = frame(Kind.ATTACH, 0, secret.encode())
        async with asyncio.timeout(CONNECT_SECONDS):
            if self._path.exists():
                return await self._dial(attach)
            return await self._carried(attach)

    async def _dial(self, attach: bytes) -> int:
        loop = asyncio.get_running_loop()
        dialled = socket.socket(socket.AF_UNIX)
        try:
            dialled.setblocking(False)
            dialled.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
            with short_path(str(self._path)) as name:
                await loop.sock_connect(dialled, name)
            await loop.sock_sendall(dialled, attach)
        except BaseException:
            dialled.close()
            raise
        return dialled.detach()

    async def _carried(self, attach: bytes) -> int:
        connection = await self._link.connected()
        stream = connection.open(SERVICE, "")
        await stream.write(attach)
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        task = asyncio.get_running_loop().create_task(_carry(reader, writer, stream), name=f"agent.{SERVICE}")
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        return theirs.detach()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: Stream) -> None:
    """Pass bytes both ways until either end is done; the worker sees the end of it, too, however that came."""
    try:
        await carry(reader, writer, stream)
    except (OSError, RelightError) as error:
        _log.debug("connection of a worker ended", extra={"service": SERVICE, "why": str(error)})
    finally:
        writer.close()
