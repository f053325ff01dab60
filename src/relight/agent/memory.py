"""Ends workers that take more memory than they may, where no control group of the kernel's does: for users without delegation.

It looks a few times a second, so a worker may take more for so long; and it ends it whole, as the kernel would. What shared
pages cost is divided among those who share them: a fork is not charged for its template.
"""

from __future__ import annotations

import os
import resource
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from relight.agent.resources import memory_of
from relight.clock import Clock
from relight.protocol.link import WorkerSpec

LOOK_SECONDS = 0.25
"""How often is looked."""

_MIB = 1 << 20


class Weighed(Protocol):
    """A worker whose process runs."""

    spec: WorkerSpec

    @property
    def pid(self) -> int:
        """Its process, as this machine sees it; 0 when that is not known."""

    def evict(self, why: str, words: str) -> None:
        """End it at once, for this reason; `words` tell so in its log."""


class HasWorkers(Protocol):
    """The workers of a node."""

    def weighed(self) -> Iterable[Weighed]:
        """Those that run."""


class MemoryWatch:
    """Looks at all workers of a node."""

    def __init__(self, workers: HasWorkers, clock: Clock, proc: Path = Path("/proc")) -> None:
        self._workers = workers
        self._clock = clock
        self._proc = proc

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """End those that have taken too much."""
        asked = [
            (worker, worker.spec.function.resources.memory_mib) for worker in self._workers.weighed() if worker.pid
        ]
        bounded = [(worker, memory_mib) for worker, memory_mib in asked if memory_mib]
        families = _families(self._proc) if bounded else {}
        for worker, memory_mib in bounded:
            taken = self._taken(families.get(_family_of(self._proc, worker.pid), ()), memory_mib * _MIB)
            if taken > memory_mib * _MIB:
                words = f"it took {taken // _MIB} MiB of memory, and may take {memory_mib}"
                worker.evict("out_of_memory", words)

    def _taken(self, pids: Iterable[int], limit: int) -> int:
        """What processes take together; where all that is mapped is within the limit nobody counts more exactly."""
        pids = tuple(pids)
        mapped = sum(_resident_bytes(self._proc, pid) for pid in pids)
        return mapped if mapped <= limit else sum(memory_of(pid, self._proc) for pid in pids)


def _families(proc: Path) -> Mapping[str, list[int]]:
    """The processes of this machine that we may look into, by what each belongs to."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for name in filter(str.isdecimal, os.listdir(proc)):
        if family := _family_of(proc, int(name)):
            found[family].append(int(name))
    return found


def _family_of(proc: Path, pid: int) -> str:
    """The namespace of processes that one is in; "" when it is gone, or not ours to look into.

    Where sandboxes have none of their own it is the session that tells them apart: their first process begins one.
    """
    with suppress(OSError, IndexError):
        space = os.readlink(proc / str(pid) / "ns" / "pid")
        if space != os.readlink(proc / "self" / "ns" / "pid"):
            return space
        return (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[3]
    return ""


def _resident_bytes(proc: Path, pid: int) -> int:
    with suppress(OSError, IndexError, ValueError):
        return int((proc / str(pid) / "statm").read_text().split()[1]) * resource.getpagesize()
    return 0
