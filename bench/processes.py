"""What processes cost, as the kernel counts it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        with suppress(OSError):  # it has ended meanwhile
            threads = list(Path(f"/proc/{one}/task").iterdir())
            found += [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return found


def cpu_seconds(pid: int) -> float:
    """CPU used so far by a process and all below it that live.

    The scheduler's own count, in nanoseconds: what `/proc/PID/stat` says comes in steps of 10 ms.
    """
    return sum(_nanoseconds(one) for one in tree(pid)) / 1e9


def pss_mib(pid: int) -> dict[str, float]:
    """Memory of a process and all below it, shared pages counted by their share, by what the processes are."""
    sizes: dict[str, float] = {}
    for one in tree(pid):
        with suppress(OSError):  # it has ended meanwhile
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            kib = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            sizes[f"{_kind(one)} {one}"] = kib / 1024
    return sizes


def _nanoseconds(pid: int) -> int:
    with suppress(OSError):  # it has ended meanwhile
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
    return 0


def _kind(pid: int) -> str:
    command = Path(f"/proc/{pid}/cmdline").read_text()
    kinds = {"relight.agent": "agent", "relight.sandbox": "launcher", "relight\0up\0": "server"}
    return next((kind for part, kind in kinds.items() if part in command), "other")
