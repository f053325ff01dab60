"""Whether anything is left of workers, and whether memory grows, while they are started and ended at the full rate."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

import processes
from coldrates import Crowd, Rate
from harness import Target
from served import Server

WARM_SECONDS = 20.0
REST_SECONDS = 5.0
"""After the last worker is gone: what is made ahead for the next ones is there again."""

LOOK_SECONDS = 10.0
GROWTH = 1.1
"""The memory of the last quarter beside that of the second: so much more is still flat."""

PAGE_KIB = os.sysconf("SC_PAGESIZE") // 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What there is of each kind that could be left over: of the server's processes, and on the machine for them."""

    processes: int
    groups: int
    namespaces: int
    mounts: int
    descriptors: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A moment of the soak: resident MiB by what processes are."""

    seconds: float
    rss_mib: dict[str, float]
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Soaked:
    """The whole of it."""

    rate: Rate
    before: Counts
    after: Counts
    growth: dict[str, float]


class Soak:
    """Starts workers for `seconds`."""

    def __init__(self, server: Server, crowd: Crowd, tell: Callable[[str, object], None]) -> None:
        self._server = server
        self._crowd = crowd
        self._tell = tell
        self._began = 0.0
        self._looks: list[Look] = []

    def run(self, seconds: float) -> Soaked:
        """Warm up, count, start workers, count again."""
        self._crowd.sustain(WARM_SECONDS)
        before = self._count_at_rest()
        self._began = time.perf_counter()
        rate = self._crowd.sustain(seconds, self._watch)
        after = self._count_at_rest()
        return Soaked(rate=rate, before=before, after=after, growth=growth_of(self._looks))

    def _watch(self) -> None:
        passed = time.perf_counter() - self._began
        if passed < (self._looks[-1].seconds if self._looks else 0.0) + LOOK_SECONDS:
            return
        look = Look(seconds=passed, rss_mib=_rss_mib(self._server.pid), counts=count(self._server))
        self._looks.append(look)
        self._tell("look", look)

    def _count_at_rest(self) -> Counts:
        self._server.wait_gone()
        time.sleep(REST_SECONDS)
        return count(self._server)


def count(server: Server) -> Counts:
    """Look at everything once."""
    pids = processes.tree(server.pid)
    tables = dict(filter(None, map(_mounts, pids)))
    return Counts(
        processes=len(pids),
        groups=sum(len(folders) for top in server.group_folders() for _, folders, _ in os.walk(top)),
        namespaces=len(tables),
        mounts=sum(tables.values()),
        descriptors=sum(map(_descriptors, pids)),
        files=sum(len(names) for _, _, names in os.walk(server.folder)),
    )


def growth_of(looks: list[Look]) -> dict[str, float]:
    """How much more each kind of process holds in the last quarter than in the second."""
    quarter = len(looks) // 4
    if not quarter:
        return {}
    early, late = looks[quarter : 2 * quarter], looks[-quarter:]
    kinds = set.intersection(*(set(look.rss_mib) for look in (*early, *late)))
    return {kind: _median(late, kind) / _median(early, kind) for kind in sorted(kinds)}


def targets_of(soaked: Soaked) -> list[Target]:
    """Nothing is left, and memory is flat."""
    left = [
        Target(
            what=f"soak: {field.name} beside before",
            seen=float(getattr(soaked.after, field.name)),
            limit=float(getattr(soaked.before, field.name)),
            unit="",
        )
        for field in fields(Counts)
    ]
    flat = [
        Target(what=f"soak: memory, {kind}", seen=growth, limit=GROWTH, unit="x")
        for kind, growth in soaked.growth.items()
        if kind != "other"  # they come and go
    ]
    return [*left, *flat]


def _median(looks: list[Look], kind: str) -> float:
    return statistics.median(look.rss_mib[kind] for look in looks)


def _rss_mib(pid: int) -> dict[str, float]:
    sizes: dict[str, float] = {}
    for one in processes.tree(pid):
        with suppress(OSError):  # it has ended meanwhile
            pages = int(Path(f"/proc/{one}/statm").read_text().split()[1])
            kind = processes.kind(one)
            kind = (
                kind if kind not in sizes else "other"
            )  # the launcher's own comes before the shells, which are forks of it
            sizes[kind] = sizes.get(kind, 0.0) + pages * PAGE_KIB / 1024
    return sizes


def _mounts(pid: int) -> tuple[str, int] | None:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/mnt"), len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines())
    return None


def _descriptors(pid: int) -> int:
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0
