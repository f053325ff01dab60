"""The node itself: its parts put together, its orders carried out, its end in good order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from relight.agent.link import Link
from relight.agent.outbox import Outbox
from relight.agent.workers import Workers
from relight.protocol import PROTOCOL
from relight.protocol.fitness import Check
from relight.protocol.link import GpuFact, GpuUse, Hello, Orders, StopWorker, Welcome, WorkerSpec
from relight.protocol.templates import TemplateOutcome

DRAIN_SECONDS = 10.0
"""What workers get to leave by themselves when the node is stopped."""

TELL_SECONDS = 2.0
"""How long a node that is being stopped waits until the server has heard its last words."""

_log = logging.getLogger("relight.agent")


class HasTemplates(Protocol):
    """Keeps templates."""

    def prepare(self, spec: WorkerSpec) -> None:
        """Have one ready before a worker of it is wanted."""

    def forget(self, version: str) -> None:
        """Those of a version are of no use any more."""

    def outcomes(self) -> tuple[TemplateOutcome, ...]:
        """What became of each that was to be made."""

    async def close(self) -> None:
        """End them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a node says of itself.  A new `incarnation` means that all it had before is gone."""

    node: str
    incarnation: str
    cpu: float
    memory_mib: int
    gpus: tuple[GpuFact, ...]
    isolation: str
    pid: int
    checks: tuple[Check, ...] = ()


class Node:
    """Serves its link until told to leave."""

    def __init__(
        self,
        identity: Identity,
        workers: Workers,
        templates: HasTemplates,
        outbox: Outbox,
        gpu_use: Callable[[], tuple[GpuUse, ...]] = tuple,
    ) -> None:
        self._identity = identity
        self._workers = workers
        self._templates = templates
        self._outbox = outbox
        self._gpu_use = gpu_use

    # -- what the link asks

    def hello(self) -> Hello:
        """What it is and has, now."""
        me = self._identity
        return Hello(
            node=me.node,
            incarnation=me.incarnation,
            protocol=PROTOCOL,
            cpu=me.cpu,
            memory_mib=me.memory_mib,
            gpus=me.gpus,
            isolation=me.isolation,
            pid=me.pid,
            workers=self._workers.held_workers(),
            templates=self._templates.outcomes(),
            checks=me.checks,
        )

    def welcome(self, welcome: Welcome) -> None:
        """The server took it: what nobody there asked for is stopped, and what was used so far is told, in case this ends now."""
        self._workers.seal()
        _log.info("node joined", extra={"node": self._identity.node, "epoch": welcome.epoch})
        for worker in welcome.unknown_workers:
            self._workers.stop(StopWorker(worker=worker, now=True))

    def obey(self, orders: Orders) -> None:
        """Carry out orders.  Acknowledgements come first: they make room; what is about calls after the runs."""
        self._outbox.acknowledge(orders.acknowledged)
        self._outbox.lines_kept(orders.logs_kept)
        if orders.usage_kept:
            self._outbox.usage_kept(orders.usage_kept)
        for start in orders.start:
            self._workers.start(start)
        for spec in orders.prepare:
            self._templates.prepare(spec)
        for version in orders.forget:
            self._templates.forget(version)
        self._workers.run(orders.run)
        for grant in orders.grant:
            self._outbox.taken((grant.call, grant.token), grant.taken)
            self._workers.grant(grant)
        for one in orders.ask_back:
            self._workers.ask_back(one)
        for cancel in orders.cancel:
            self._workers.cancel(cancel)
        for stop in orders.stop:
            self._workers.stop(stop)

    def held_calls(self) -> tuple[str, ...]:
        """The calls that must not be given to another."""
        return self._workers.held_calls()

    def gpu_use(self) -> tuple[GpuUse, ...]:
        """How its GPUs are used."""
        return self._gpu_use()

    # -- life

    async def serve(self, link: Link, wait_leave: Callable[[], Awaitable[object]]) -> None:
        """Serve until `wait_leave` returns, or the link says that there is nobody to serve."""
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(link.run(self), name="agent.link")
            leaving = tasks.create_task(_wait(wait_leave), name="agent.leave")
            await asyncio.wait((serving, leaving), return_when=asyncio.FIRST_COMPLETED)
            _log.info("node leaves", extra={"node": self._identity.node})
            await self._workers.drain(DRAIN_SECONDS if leaving.done() else 0.0)
            await self._templates.close()
            if link.is_up:
                await self._tell_last()
            serving.cancel()
            leaving.cancel()

    async def _tell_last(self) -> None:
        """Wait, not for long, until the server has acknowledged every end."""
        try:
            async with asyncio.timeout(TELL_SECONDS):
                await self._outbox.wait_told()
        except TimeoutError:
            _log.warning("some ends were not acknowledged before leaving", extra={"node": self._identity.node})


async def _wait(wait_leave: Callable[[], Awaitable[object]]) -> None:
    await wait_leave()
