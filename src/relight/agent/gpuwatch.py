"""What the GPUs of this node are doing, looked at once a second: told with heartbeats, and held against the shares.

A share of a GPU is not enforced by it: no driver limits what memory a process takes, or what time.  So a worker that
holds more memory than its share is ended, and it is said why; its neighbours were to have that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NoReturn, Protocol

from relight.agent.gpu import Gpus
from relight.clock import Clock
from relight.protocol.link import GpuUse, WorkerSpec

LOOK_SECONDS = 1.0


class HasWorkers(Protocol):
    """The workers of this node."""

    def sandboxes(self) -> Mapping[str, str]:
        """Those that run, by the names of their sandboxes."""

    def spec_of(self, worker: str) -> WorkerSpec | None:
        """What one of them is; None when it is not here any more."""

    def evict(self, worker: str, why: str, words: str) -> None:
        """End one that takes what is others'."""


class GpuWatch:
    """`latest` is what was seen last."""

    def __init__(self, gpus: Gpus, workers: HasWorkers, clock: Clock) -> None:
        self._gpus = gpus
        self._workers = workers
        self._clock = clock
        self._latest: tuple[GpuUse, ...] = ()

    def latest(self) -> tuple[GpuUse, ...]:
        """How each GPU was used a moment ago."""
        return self._latest

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look once, and end those that hold more than their share."""
        self._latest = await asyncio.to_thread(self._gpus.uses, dict(self._workers.sandboxes()))
        held: dict[str, int] = {}
        for use in self._latest:
            for worker, mib in use.workers:
                held[worker] = max(held.get(worker, 0), mib)
        for worker, mib in held.items():
            spec = self._workers.spec_of(worker)
            most = self._gpus.allowance_mib(spec) if spec is not None else None
            if spec is not None and most is not None and mib > most:
                self._workers.evict(
                    worker,
                    "killed:gpu_memory",
                    f"the worker was killed: it held {mib} MiB of its GPU, of which {spec.gpu_share:g} is {most} MiB; "
                    "ask for a larger share, or use less",
                )
