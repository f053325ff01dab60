"""A worker's socket: what is written there travels on a stream of the link that bears the worker's name, and back."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relight.agent import platform
from relight.agent.platform import MAX_CONNECTIONS, Doors
from relight.transport import Connection, Stream, connect_unix, listen_unix, short_path


@dataclass
class Server:
    """The other end of the link: it says back what it hears, until it hears `bye`."""

    heard: list[tuple[str, str]] = field(default_factory=list)
    open: int = 0
    ends: list[Connection] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, stream: Stream) -> None:
        self.heard.append((stream.service, stream.detail))
        self.open += 1
        self.changed.set()
        try:
            async for data in stream:
                await stream.write(data)
                if data.endswith(b"bye"):
                    break
            stream.finish()
        finally:
            self.open -= 1
            self.changed.set()

    async def until_open(self, count: int) -> None:
        """Return once so many connections are open."""
        async with asyncio.timeout(10):
            while self.open != count:
                self.changed.clear()
                await self.changed.wait()


class Link:
    """A link that is up as long as the test wants."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.is_up = asyncio.Event()

    async def connected(self) -> Connection:
        await self.is_up.wait()
        assert self.connection is not None
        return self.connection


@dataclass
class Node:
    """A node's doors, its link, and the server behind it."""

    doors: Doors
    link: Link
    server: Server
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def dial(self, path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """What a worker does."""
        with short_path(str(path)) as name:
            reader, writer = await asyncio.open_unix_connection(name)
        self.writers.append(writer)
        return reader, writer

    async def hang_up(self) -> None:
        """Close what was dialled, and return once the node has done so too."""
        for writer in self.writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        await self.server.until_open(0)


def ignore(connection: Connection, data: bytes) -> None: ...


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    server, link, path = Server(), Link(), str(tmp_path / "link")
    listening = await listen_unix(path, on_message=ignore, on_stream=server.serve, on_connect=server.ends.append)
    link.connection = await connect_unix(path, on_message=ignore)
    link.is_up.set()
    doors = Doors(tmp_path / "doors", link)
    running = Node(doors, link, server)
    yield running
    await running.hang_up()
    doors.close("worker-1")
    link.connection.close()
    for end in server.ends:
        end.close()
    listening.close()


async def said(node: Node, path: Path, word: bytes) -> bytes:
    """What a new connection answers; nothing when it is refused."""
    reader, writer = await node.dial(path)
    writer.write(word)
    try:
        return await within(reader.read(len(word)))
    except ConnectionResetError:
        return b""


async def within(what: Awaitable[bytes]) -> bytes:
    async with asyncio.timeout(10):
        return await what


async def test_what_a_worker_writes_is_heard_under_its_name_and_answered(node: Node) -> None:
    reader, writer = await node.dial(await node.doors.open("worker-1"))

    writer.write(b"hello")

    assert await within(reader.readexactly(5)) == b"hello"
    assert node.server.heard == [("platform", "worker-1")]


async def test_each_worker_has_a_socket_of_its_own_which_any_user_of_its_sandbox_may_use(node: Node) -> None:
    one, other = await node.doors.open("worker-1"), await node.doors.open("worker-2")

    assert one != other
    assert stat.S_IMODE(one.stat().st_mode) == 0o666
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (one.parent, one.parent.parent)] == [0o700, 0o700]
    node.doors.close("worker-2")
    assert (one.exists(), other.parent.exists()) == (True, False)


async def test_more_bytes_than_any_buffer_holds_pass_in_order(node: Node) -> None:
    data = b"".join(b"%09d\n" % number for number in range(300_000))
    reader, writer = await node.dial(await node.doors.open("worker-1"))

    async def send() -> None:
        writer.write(data)
        await writer.drain()

    sending = asyncio.ensure_future(send())

    assert await within(reader.readexactly(len(data))) == data
    await sending


async def test_the_end_of_either_side_is_passed_on(node: Node) -> None:
    path = await node.doors.open("worker-1")
    reader, writer = await node.dial(path)
    writer.write(b"bye")
    assert await within(reader.read()) == b"bye"
    writer.close()

    _, gone = await node.dial(path)
    gone.write(b"x")
    await node.server.until_open(1)
    gone.close()

    await node.server.until_open(0)


async def test_a_worker_that_is_gone_leaves_no_connection_behind(node: Node) -> None:
    reader, writer = await node.dial(await node.doors.open("worker-1"))
    writer.write(b"x")
    await node.server.until_open(1)

    node.doors.close("worker-1")

    await node.server.until_open(0)
    assert await within(reader.read()) in (b"", b"x")


async def test_a_connection_waits_for_a_server_that_is_away(node: Node) -> None:
    node.link.is_up.clear()
    reader, writer = await node.dial(await node.doors.open("worker-1"))
    writer.write(b"hello")

    node.link.is_up.set()

    assert await within(reader.readexactly(5)) == b"hello"


async def test_a_connection_is_closed_when_the_server_stays_away(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "CONNECT_SECONDS", 0.01)
    node.link.is_up.clear()

    reader, _ = await node.dial(await node.doors.open("worker-1"))

    assert await within(reader.read()) == b""


async def test_a_connection_ends_with_the_link(node: Node) -> None:
    reader, writer = await node.dial(await node.doors.open("worker-1"))
    writer.write(b"x")
    await node.server.until_open(1)
    assert node.link.connection is not None

    node.link.connection.close()

    assert await within(reader.read()) in (b"", b"x")


async def test_a_worker_has_so_many_connections_and_no_more(node: Node) -> None:
    path = await node.doors.open("worker-1")
    taken = [await node.dial(path) for _ in range(MAX_CONNECTIONS)]
    for _, writer in taken:
        writer.write(b"x")
    await node.server.until_open(MAX_CONNECTIONS)

    reader, _ = await node.dial(path)
    assert await within(reader.read()) == b""

    taken[0][1].close()
    await node.server.until_open(MAX_CONNECTIONS - 1)
    while await said(node, path, b"y") != b"y":  # the node has to see the hang-up, too
        pass


async def test_a_folder_too_deep_for_a_sockets_name_is_no_hindrance(node: Node, tmp_path: Path) -> None:
    doors = Doors(tmp_path / ("deep" * 30) / ("er" * 60), node.link)

    reader, writer = await node.dial(await doors.open("worker-1"))

    writer.write(b"hello")
    assert await within(reader.readexactly(5)) == b"hello"
    doors.close("worker-1")


async def test_the_sockets_of_an_agent_before_this_one_are_gone(node: Node, tmp_path: Path) -> None:
    left = await node.doors.open("worker-1")

    Doors(tmp_path / "doors", node.link)

    assert not left.parent.exists()


async def test_a_worker_without_a_socket_closes_like_any_other(node: Node) -> None:
    node.doors.close("worker-9")
