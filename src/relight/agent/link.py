"""The node's one connection to its server: made again whenever it is lost, for as long as the node lives.

    dial ─▶ Hello ─▶ Welcome ─▶ orders in, reports out, a heartbeat now and then ─▶ lost ─▶ dial again, soon

Nothing waits for a tick: what happened in a turn of the loop goes out at its end, as one report.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Protocol

from relight.agent.outbox import Outbox
from relight.clock import Clock
from relight.protocol.codec import pack
from relight.protocol.errors import ProtocolError
from relight.protocol.link import HEARTBEAT_SECONDS, TO_AGENT, GpuUse, Hello, Orders, Reports, Welcome
from relight.transport import Connection, connect_unix

FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = 0.05, 1.0
"""How long is waited before dialling again: doubling from the first to the last."""

WELCOME_SECONDS = 10.0
LEAVE_SECONDS = 5.0
"""A node that is to leave with its server does so when it could not be reached for so long."""

_CONGESTED_SECONDS = 0.02

_log = logging.getLogger("relight.agent")


class Serves(Protocol):
    """The node, as its link sees it."""

    def hello(self) -> Hello:
        """What it is and has, now."""

    def welcome(self, welcome: Welcome) -> None:
        """The server took it."""

    def obey(self, orders: Orders) -> None:
        """Orders came."""

    def held_calls(self) -> tuple[str, ...]:
        """The calls that must not be given to another."""

    def gpu_use(self) -> tuple[GpuUse, ...]:
        """How its GPUs are used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """Where the server listens, and whether the node outlives it."""

    path: str
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    leaves_with_server: bool = False


class Link:
    """`run` keeps it up; `connected` waits until it is."""

    def __init__(self, options: LinkOptions, outbox: Outbox, clock: Clock) -> None:
        self._options = options
        self._outbox = outbox
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._node: Serves | None = None
        self._connection: Connection | None = None
        self._is_up = asyncio.Event()
        self._is_flushing = False
        self._flush_later: asyncio.TimerHandle | None = None
        outbox.wake = self.flush_within

    async def connected(self) -> Connection:
        """The connection to the server, once there is one and the server has taken the node."""
        while self._connection is None or self._connection.closed.done():
            self._is_up.clear()
            await self._is_up.wait()
        return self._connection

    @property
    def is_up(self) -> bool:
        """Whether the server hears."""
        return self._connection is not None and not self._connection.closed.done()

    async def run(self, node: Serves) -> None:
        """Keep the link up.  Returns only where the node leaves with its server, and that is gone."""
        self._node = node
        delay = FIRST_DELAY_SECONDS
        lost_at = self._clock.monotonic()
        while True:
            if await self._serve_once():
                delay, lost_at = FIRST_DELAY_SECONDS, self._clock.monotonic()
            elif self._options.leaves_with_server and self._clock.monotonic() - lost_at >= LEAVE_SECONDS:
                _log.warning("server is gone, leaving with it", extra={"path": self._options.path})
                return
            self._outbox.look(self._clock.monotonic())
            await self._clock.sleep(delay)
            delay = min(delay * 2, LAST_DELAY_SECONDS)

    async def _serve_once(self) -> bool:
        """One connection, from dialling to its end; whether the server took the node on it."""
        welcomed: asyncio.Future[None] = self._loop.create_future()

        def hear(connection: Connection, data: bytes) -> None:
            self._hear(connection, data, welcomed)

        try:
            connection = await connect_unix(self._options.path, on_message=hear)
        except OSError:
            return False
        assert self._node is not None, "run sets it"
        try:
            connection.send(pack(replace(self._node.hello(), now=self._clock.now())))
            try:
                async with asyncio.timeout(WELCOME_SECONDS):
                    await asyncio.wait((welcomed, connection.closed), return_when=asyncio.FIRST_COMPLETED)
            except TimeoutError:
                _log.warning("server did not answer", extra={"path": self._options.path})
                return False
            if not welcomed.done():
                _log.warning("server refused this node", extra={"reason": connection.closed.result()})
                return False
            await self._beat(connection)
            _log.warning("link lost", extra={"reason": connection.closed.result()})
            return True
        finally:
            self._connection = None
            connection.close("the node closes it")

    async def _beat(self, connection: Connection) -> None:
        """Say what is held, until the connection ends."""
        while not connection.closed.done():
            assert self._node is not None, "run sets it"
            self._outbox.look(self._clock.monotonic())
            connection.send(pack(Reports(held=self._node.held_calls(), gpus=self._node.gpu_use())))
            await asyncio.wait((connection.closed,), timeout=self._options.heartbeat_seconds)

    def _hear(self, connection: Connection, data: bytes, welcomed: asyncio.Future[None]) -> None:
        message = TO_AGENT.unpack(data)
        assert self._node is not None, "run sets it"
        if isinstance(message, Welcome):
            if welcomed.done():
                raise ProtocolError("cannot be welcomed twice on one link")
            welcomed.set_result(None)
            self._node.welcome(message)
            self._connection = connection
            self._outbox.rewind()
            self._is_up.set()
            self.flush_within(0.0)
        elif isinstance(message, Orders):
            if not welcomed.done():
                raise ProtocolError("cannot take orders before the server has taken this node")
            self._node.obey(message)

    # -- out

    def flush_within(self, seconds: float) -> None:
        """Tell what there is within so many seconds, 0 for the end of this turn of the loop."""
        if self._is_flushing or not self.is_up:
            return
        if not seconds:
            self._is_flushing = True
            self._loop.call_soon(self._flush)
        elif self._flush_later is None or self._flush_later.when() > self._loop.time() + seconds:
            self._cancel_later()
            self._flush_later = self._loop.call_later(seconds, self._flush)

    def _cancel_later(self) -> None:
        if self._flush_later is not None:
            self._flush_later.cancel()
            self._flush_later = None

    def _flush(self) -> None:
        self._is_flushing = False
        self._cancel_later()
        connection = self._connection
        if connection is None or connection.closed.done():
            return
        # Lines give way: a worker that writes for ever must not fill this process's memory with what the link is to
        # carry.  Changes, and ends of calls that wrote nothing, go in any case; there are as many as there were orders.
        while (report := self._outbox.take(with_lines=not connection.is_behind)) is not None:
            connection.send(pack(report))
        connection.flush()
        if self._outbox.has_lines:
            self._is_flushing = True
            self._loop.call_later(_CONGESTED_SECONDS, self._flush)
