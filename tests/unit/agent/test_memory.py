"""Workers that take too much are ended where the kernel does not do it, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from relight.agent.memory import MemoryWatch
from relight.clock import SystemClock
from relight.protocol.link import WorkerSpec
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Resources

IMAGE = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
FUNCTION = FunctionSpec(name="f", module="m", qualname="f", image=IMAGE)
SPEC = WorkerSpec(
    workspace="w", app="a", environment="main", version="v", function=FUNCTION,
    code=CodeBundle(digest="d", size=1, folder="/app"),
)  # fmt: skip


@dataclass
class Fake:
    pid: int
    spec: WorkerSpec
    ends: list[tuple[str, str]] = field(default_factory=list)

    def evict(self, why: str, words: str) -> None:
        self.ends.append((why, words))


@dataclass
class Node:
    workers: list[Fake]

    def weighed(self) -> Iterable[Fake]:
        return self.workers


def worker(pid: int, memory_mib: int | None) -> Fake:
    return Fake(pid, replace(SPEC, function=replace(FUNCTION, resources=Resources(memory_mib=memory_mib))))


def process(proc: Path, pid: int, *, space: str, resident_mib: int, own_mib: int) -> None:
    """A process as the kernel shows it: so much is mapped and there, so much of it its own."""
    folder = proc / str(pid)
    (folder / "ns").mkdir(parents=True)
    (folder / "ns" / "pid").symlink_to(f"pid:[{space}]")
    (folder / "statm").write_text(f"9 {(resident_mib << 20) // os.sysconf('SC_PAGE_SIZE')} 0 0 0 0 0\n")
    (folder / "smaps_rollup").write_text(f"Pss_Anon: {own_mib << 10} kB\nPss_Shmem: 0 kB\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "self" / "ns").mkdir(parents=True)
    (tmp_path / "self" / "ns" / "pid").symlink_to("pid:[1]")
    return tmp_path


def looked(proc: Path, *workers: Fake) -> list[list[str]]:
    MemoryWatch(Node(list(workers)), SystemClock(), proc).look()
    return [[why for why, _ in one.ends] for one in workers]


def test_one_that_took_too_much_with_its_children_is_ended_and_its_neighbour_is_not(proc: Path) -> None:
    process(proc, 10, space="2", resident_mib=60, own_mib=50)
    process(proc, 11, space="2", resident_mib=60, own_mib=50)
    process(proc, 20, space="3", resident_mib=60, own_mib=50)
    hog = worker(10, 64)

    assert looked(proc, hog, worker(20, 64)) == [["out_of_memory"], []]
    assert hog.ends[0][1] == "it took 100 MiB of memory, and may take 64"


def test_a_fork_is_not_charged_for_what_it_shares(proc: Path) -> None:
    process(proc, 10, space="2", resident_mib=500, own_mib=20)

    assert looked(proc, worker(10, 64)) == [[]]


def test_without_a_limit_or_a_process_nothing_is_ended(proc: Path) -> None:
    process(proc, 10, space="2", resident_mib=500, own_mib=500)

    assert looked(proc, worker(10, None), worker(0, 64), worker(99, 64)) == [[], [], []]


def test_plain_processes_are_told_apart_by_their_sessions() -> None:
    program = "x = bytearray(b'x' * (40 << 20)); print(flush=True); input()"
    hog, other = (
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        for code in (program, "print(flush=True); input()")
    )
    try:
        for one in (hog, other):
            assert one.stdout is not None
            one.stdout.readline()

        assert looked(Path("/proc"), worker(hog.pid, 32), worker(other.pid, 32)) == [["out_of_memory"], []]
    finally:
        for one in (hog, other):
            one.communicate()
