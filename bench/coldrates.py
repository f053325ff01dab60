"""Many cold starts: how many a second for a while, how soon fifty at once are answered, what idle workers weigh.

Each call is of an object with a number that no other has at that time, so that it needs a worker of its own, which ends
after it; the objects of a class share a template.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import processes
from served import Server

import relight

CALLERS = 12
"""So many calls are on their way at once: a node of two cores has room for sixteen workers."""

NUMBERS = 1000
"""So many numbers, one after the other and then again: the worker of the same number was gone long before."""

IDLE_WORKERS = 10
REST_SECONDS = 2.0
"""After a start: what is made ahead for the next ones is there again."""

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Cold starts for a while, each worker's end included.  `cpu_ms` is what each start took of the processor, by who."""

    case: str
    seconds: float
    starts: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """So many calls at once, none of which finds a worker: milliseconds until the first, the half, and all of them are
    answered."""

    case: str
    calls: int
    first_ms: float
    half_ms: float
    all_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """An idle worker that has had one call, the median of several: its processes, and what its memory group counts.

    `added_mib` is how much more each makes of the server's processes together, shared pages counted once.  `own_mib` is
    what no other process has mapped: more, as what its template has written since is its own then.
    """

    case: str
    workers: int
    added_mib: float
    own_mib: float
    group_mib: float | None
    processes: int


class Crowd:
    """Objects of one app's classes."""

    def __init__(self, server: Server, case: str, app: str) -> None:
        self._server = server
        self._case = case
        self._app = app
        self._numbers = itertools.cycle(range(NUMBERS))

    def sustain(self, seconds: float, watch: Callable[[], None] | None = None) -> Rate:
        """Start for so long; `watch` is called every second."""
        self._server.wait_gone()
        before = (processes.cpu_by_kind(self._server.pid), time.process_time())
        began = time.perf_counter()
        taken = asyncio.run(self._start_for(seconds, watch))
        self._server.wait_gone()
        took = time.perf_counter() - began
        used = processes.cpu_between(before[0], processes.cpu_by_kind(self._server.pid))
        used["caller"] = time.process_time() - before[1]
        return Rate(
            case=self._case,
            seconds=took,
            starts=len(taken),
            per_second=len(taken) / took,
            p50_ms=statistics.median(taken) * 1000,
            p99_ms=sorted(taken)[int(len(taken) * 0.99)] * 1000,
            cpu_ms={name: seconds / len(taken) * 1000 for name, seconds in used.items()},
        )

    def burst(self, calls: int) -> Burst:
        """All at once."""
        self._server.wait_gone()
        ends = sorted(asyncio.run(self._start_at_once(calls)))
        return Burst(
            case=self._case,
            calls=calls,
            first_ms=ends[0] * 1000,
            half_ms=ends[len(ends) // 2] * 1000,
            all_ms=ends[-1] * 1000,
        )

    def weigh(self) -> Weight:
        """Start some that stay, and look at them.  It comes last: they take the room of others."""
        self._server.wait_gone(self._app)
        time.sleep(REST_SECONDS)
        before = sum(processes.pss_mib(self._server.pid).values())
        kept = relight.Cls.from_name(self._app, "Kept")
        for number in range(IDLE_WORKERS):
            kept(number=number).answer.remote(number)
        workers = [one["sandbox"] for one in self._server.workers(self._app) if one["function"] == "Kept"]
        seen = [_weigh(self._server, worker) for worker in workers]
        time.sleep(REST_SECONDS)
        after = sum(processes.pss_mib(self._server.pid).values())
        groups = [group for _, group, _ in seen if group is not None]
        return Weight(
            case=self._case,
            workers=len(seen),
            added_mib=(after - before) / IDLE_WORKERS,
            own_mib=statistics.median(own for own, _, _ in seen),
            group_mib=statistics.median(groups) if groups else None,
            processes=max(count for _, _, count in seen),
        )

    async def _start_for(self, seconds: float, watch: Callable[[], None] | None) -> list[float]:
        until = time.perf_counter() + seconds
        taken: list[float] = []

        async def call_on() -> None:
            while time.perf_counter() < until:
                taken.append(await self._start())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(CALLERS):
                tasks.create_task(call_on())
            while watch is not None and time.perf_counter() < until:
                await asyncio.sleep(1)
                await asyncio.to_thread(watch)
        return taken

    async def _start_at_once(self, calls: int) -> list[float]:
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(self._start()) for _ in range(calls)]
        return [one.result() for one in started]

    async def _start(self) -> float:
        number = next(self._numbers)
        answer = relight.Cls.from_name(self._app, "Apart")(number=number).answer
        began = time.perf_counter()
        said = await answer.remote.aio(number)
        seconds = time.perf_counter() - began
        if said != number:
            raise ValueError(f"cannot measure {self._app}: the answer to {number} is {said!r}")
        return seconds


def _weigh(server: Server, sandbox: str) -> tuple[float, float | None, int]:
    folders = [folder for folder in server.group_folders(sandbox) if folder.exists()]
    pids = {int(pid) for folder in folders for pid in (folder / "cgroup.procs").read_text().split()}
    own = sum(processes.own_mib(pid) for pid in pids)
    return own, next(_group_mib(folders), None), len(pids)


def _group_mib(folders: list[Path]) -> Iterator[float]:
    for folder in folders:
        for name in ("memory.usage_in_bytes", "memory.current"):
            with suppress(OSError):  # this tree does not count memory
                yield int((folder / name).read_text()) / MIB
