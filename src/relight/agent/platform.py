"""The way from inside a worker to the server: a unix socket each, whose connections travel as streams of the link.

    worker ─ unix socket ─▶ here ─ a stream `platform`, named after the worker ─▶ server

There is no token in a sandbox.  Who asks is said here, by which socket they came through, and only the worker that a
socket is made for can see it.  What is said is none of this room's business: the bytes pass through as they are.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from relight.protocol.errors import RelightError
from relight.transport import Stream, short_path

SERVICE = "platform"
"""What the server calls this way in."""

MAX_CONNECTIONS = 64
"""How many connections a worker may have open; the next ones are closed at once."""

CONNECT_SECONDS = 5.0
"""How long a connection waits for a server that is away.  It is closed then, and whoever asked asks again."""

_READ_BYTES = 64 * 1024
_NAME = "platform.sock"
_log = logging.getLogger("relight.agent")


class Opens(Protocol):
    """A link's connection: opens streams to the server."""

    def open(self, service: str, detail: str) -> Stream:
        """Open one.  Raises Unavailable when the link is gone."""


class Links(Protocol):
    """The link, as it is needed here."""

    def connected(self) -> Awaitable[Opens]:
        """The connection to the server, once there is one."""


class Doors:
    """The sockets of a node's workers, each in a folder of its own below `folder`."""

    def __init__(self, folder: Path, link: Links) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # those of an agent before this one: nobody listens there any more
        folder.mkdir(mode=0o700, parents=True)
        self._folder = folder
        self._link = link
        self._doors: dict[str, Door] = {}

    async def open(self, worker: str) -> Path:
        """The socket of a worker, which listens.  Raises OSError when there can be none."""
        door = self._doors[worker] = Door(worker, self._link)
        return await door.open(self._folder / worker / _NAME)

    async def adopt(self, listening: socket.socket) -> Door:
        """A socket that listens in a shell, for a worker that is still to be: `name` says which."""
        door = Door("", self._link)
        await door.serve(listening)
        return door

    def name(self, worker: str, door: Door) -> None:
        """Who comes through it from now on."""
        door.worker = worker
        self._doors[worker] = door

    def close(self, worker: str) -> None:
        """A worker is gone, and its connections with it; nothing happens when it had no socket."""
        door = self._doors.pop(worker, None)
        if door is not None:
            door.close()


class Door:
    """One worker's socket."""

    def __init__(self, worker: str, link: Links) -> None:
        self.worker = worker
        self._path: Path | None = None
        self._link = link
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self, path: Path) -> Path:
        """Listen at a path of this machine, which a sandbox can be shown.  Raises OSError when that cannot be."""
        self._path = path
        path.parent.mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX) as unbound, short_path(str(path)) as name:
            unbound.bind(name)
            os.chmod(name, 0o666)  # the sandbox's user is nobody to this machine; the folder keeps all others out
            listening = unbound.dup()
        await self.serve(listening)
        return path

    async def serve(self, listening: socket.socket) -> None:
        """Take what comes through a socket that is bound."""
        listening.setblocking(False)
        self._server = await asyncio.start_unix_server(self._accept, sock=listening)

    def close(self) -> None:
        """Listen no more, and hang up."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        if self._path is not None:
            shutil.rmtree(self._path.parent, ignore_errors=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            _log.warning("connection of a worker refused", extra={"worker": self.worker, "open": MAX_CONNECTIONS})
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name=f"{self.worker}.{SERVICE}")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either end is done with it."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._link.connected()
            await carry(reader, writer, connection.open(SERVICE, self.worker))
        except (TimeoutError, OSError, RelightError) as error:
            _log.debug("connection of a worker ended", extra={"worker": self.worker, "why": str(error)})
        finally:
            writer.close()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: Stream) -> None:
    """Pass bytes both ways until the server has said all; when the worker hangs up, that is passed on and it soon has."""
    up = asyncio.ensure_future(_pass_up(reader, stream))
    try:
        async for data in stream:
            writer.write(data)
            await writer.drain()
    finally:
        up.cancel()
        stream.reset("it is over")  # rather than its end: what is left of it, either way, is for nobody
        await asyncio.wait((up,))


async def _pass_up(reader: asyncio.StreamReader, stream: Stream) -> None:
    with suppress(RelightError):  # the stream is gone: the other way has been told, too
        try:
            while data := await reader.read(_READ_BYTES):
                await stream.write(data)
            stream.finish()
        except OSError:
            stream.reset("the worker's connection is gone")
