"""When the room that a worker took may be given to another: not when it has ended, but when nothing of it is left.

A process that is dead may hold memory for a while: until the kernel lets go of it (one that waits for a device cannot be
killed), and of a GPU until its driver has taken the memory back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from relight.agent.starter import Sandbox
from relight.protocol.link import WorkerSpec

LATE_SECONDS = 0.05
"""A worker whose room is clear by then is gone; one whose room is not is said to be on its way out."""

_log = logging.getLogger("relight.agent")


class Devices(Protocol):
    """The GPUs of a node."""

    async def wait_free(self, gpus: tuple[str, ...]) -> None:
        """Return once no memory of these is held by what ran on them last."""


class NoDevices:
    """A node whose GPUs, if it has any, are simulated: they hold nothing."""

    async def wait_free(self, gpus: tuple[str, ...]) -> None:
        """Return at once."""


class Slots:
    """Knows when a worker's room is clear."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices
        self._closed = asyncio.Event()

    async def wait_clear(self, sandbox: Sandbox, spec: WorkerSpec, when_late: Callable[[], None]) -> None:
        """Return once nothing is left of a worker whose sandbox has ended; `when_late` is called if that takes a while."""
        clearing = asyncio.ensure_future(self._wait_clear(sandbox, spec))
        closing = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait((clearing,), timeout=LATE_SECONDS)
            if not clearing.done():
                gone = {"sandbox": sandbox.id, "gpus": spec.gpus}
                _log.warning("worker ended, and its room is not clear yet", extra=gone)
                when_late()
                await asyncio.wait((clearing, closing), return_when=asyncio.FIRST_COMPLETED)
            if clearing.done():
                clearing.result()
        finally:
            clearing.cancel()
            closing.cancel()

    def close(self) -> None:
        """Wait for no room any more: nobody is to have it."""
        self._closed.set()

    async def _wait_clear(self, sandbox: Sandbox, spec: WorkerSpec) -> None:
        await sandbox.wait_empty()
        if spec.gpus:
            await self._devices.wait_free(spec.gpus)
