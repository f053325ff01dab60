"""One base: a sandboxed process that has started Python and our own code, and forks templates and workers from then on.

    build ▶ ready ▶ grow …  ▶ close
      └ refused: it cannot be started, or not be forked safely

What is grown lives in a nested sandbox, and outlives its base.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from relight.agent.cable import Ends
from relight.agent.control import Control
from relight.agent.sandboxes import Sandbox
from relight.agent.template import ForkedWorker
from relight.protocol.channel import FROM_BASE, BaseReady, Exited, Forked, Grow, Warm
from relight.protocol.errors import ProtocolError, StartFailed
from relight.sandbox.plan import environment
from relight.sandbox.spec import SandboxSpec

READY_SECONDS = 30.0
"""A base that says nothing for so long is of no use."""

COLD = Warm()
"""Nothing is imported but our own."""

LAST_BYTES = 500
"""So much of what it wrote last is kept."""

_log = logging.getLogger("relight.agent")


class MakesSandboxes(Protocol):
    """Where a base's sandbox and those below it come from."""

    async def start(self, spec: SandboxSpec, *, channel: socket.socket, stdout: int, stderr: int) -> Sandbox:
        """Start one.  Raises StartFailed."""

    async def start_nested(self, spec: SandboxSpec, base: str) -> Sandbox:
        """Make one below a base's.  Raises StartFailed."""


class Grown(ForkedWorker):
    """A sandbox below a base's, and the process in it that the base forked.

    A worker's is waited for, and gone then; a template's lives until it is killed, for the workers in it.
    """

    @property
    def pid(self) -> int:
        """Its process, as this machine sees it; 0 before there is one, or when it has ended."""
        try:
            with open(f"/proc/self/fdinfo/{self._pidfd}", encoding="utf-8") as file:
                return max(0, next(int(line.split()[1]) for line in file if line.startswith("Pid:")))
        except OSError:
            return 0

    async def kill(self) -> object:
        """End every process of it; returns when none is left."""
        how = await super().kill()
        self._close()
        return how


class Base:
    """One that is being started, or is ready, or is gone."""

    def __init__(self, spec: SandboxSpec, sandboxes: MakesSandboxes, warm: Warm = COLD) -> None:
        self._spec = spec
        self._warm = warm
        self._sandboxes = sandboxes
        self._sandbox: Sandbox | None = None
        self._control = Control(FROM_BASE, self._take, self._end)
        self._told: asyncio.Future[BaseReady] = asyncio.get_running_loop().create_future()
        self._told.add_done_callback(lambda told: told.cancelled() or told.exception())
        self._output = -1
        self._last_words = b""
        self._grown: dict[str, Grown] = {}
        self.is_gone = False

    @property
    def pid(self) -> int:
        """Its process, as this machine sees it; 0 before there is one."""
        return self._sandbox.pid if self._sandbox is not None else 0

    @property
    def is_used(self) -> bool:
        """Whether anything that it forked is there."""
        return bool(self._grown)

    async def build(self) -> None:
        """Start it; returns once it can fork.  Raises StartFailed."""
        # A pipe, as those of its forks: Python's streams keep what they found as they were made, seekable or not.
        self._output, output = os.pipe()
        asyncio.get_running_loop().add_reader(self._output, self._drain)
        try:
            self._sandbox = await self._sandboxes.start(
                self._spec, channel=self._control.theirs, stdout=output, stderr=output
            )
        finally:
            self._control.hand_over()
            os.close(output)
        self._control.listen()
        self._control.try_send(self._warm)
        try:
            async with asyncio.timeout(READY_SECONDS):
                ready = await self._told
        except TimeoutError:
            raise StartFailed(
                f"cannot start a base: it took more than {READY_SECONDS:g} s; look at its image"
            ) from None
        if ready.unsafe:
            raise StartFailed(f"cannot fork a base: {ready.unsafe}; look at what its image starts with Python")

    async def grow(self, spec: SandboxSpec, ends: Ends, begin: Callable[[str], None]) -> Grown:
        """Fork what `spec` describes, a template or a worker; returns when the order is on its way.  Raises StartFailed."""
        assert self._sandbox is not None, "it was built"
        sandbox = await self._sandboxes.start_nested(spec, self._sandbox.id)
        begin("fork")
        entrance = sandbox.entrance
        order = Grow(
            id=spec.id,
            is_template=spec.is_template,
            env=environment(spec),
            folder=spec.working_folder,
            namespaces=len(entrance.namespaces),
        )
        grown = Grown(sandbox, lambda: self._forget(spec.id))
        self._grown[spec.id] = grown
        own = (ends.channel.fileno(), ends.stdout, ends.stderr)
        if not self._control.try_send(order, (*own, *entrance.namespaces, *entrance.doors)):
            grown.end(None)
            await grown.kill()
            raise StartFailed(f"cannot start {spec.id}: its base has ended, or does not listen; start it afresh")
        sandbox.close_entrance()
        return grown

    def close(self) -> None:
        """End it; what it forked lives on, and its sandbox until the last of that has ended."""
        self._disconnect()
        if self._sandbox is not None:
            self._sandbox.signal(signal.SIGKILL)

    def _disconnect(self) -> None:
        if self.is_gone:
            return
        self.is_gone = True
        self._control.close()
        for grown in self._grown.values():
            grown.orphan()
        if self._output >= 0:
            asyncio.get_running_loop().remove_reader(self._output)
            os.close(self._output)
        if not self._told.done():
            last = self._last_words.decode(errors="replace").strip().rpartition("\n")[2]
            self._told.set_exception(
                StartFailed(f"cannot start a base: its process ended ({last}); look at what its image starts")
            )

    def _drain(self) -> None:
        """What its image says as Python starts is nobody's, unless nothing else comes of it."""
        data = os.read(self._output, 65_536)
        self._last_words = (self._last_words + data)[-LAST_BYTES:]
        if not data:
            asyncio.get_running_loop().remove_reader(self._output)

    def _forget(self, name: str) -> None:
        self._grown.pop(name, None)

    def _end(self, why: str) -> None:
        if why:
            _log.warning("base killed", extra={"base": self._spec.id, "why": why})
            self.close()
        else:
            self._disconnect()

    def _take(self, message: object, descriptors: Sequence[int]) -> None:
        if isinstance(message, BaseReady):
            if self._told.done():
                raise ProtocolError("cannot believe a base that is ready twice")
            self._told.set_result(message)
        elif isinstance(message, Forked) and message.worker in self._grown:
            grown = self._grown[message.worker]
            if grown.has_begun or len(descriptors) != 1:
                raise ProtocolError(f"cannot believe a fork of {message.worker[:40]!r}")
            grown.begun(descriptors[0])
        elif isinstance(message, Exited) and message.worker in self._grown:
            self._grown[message.worker].end(message)
