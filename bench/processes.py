"""What processes cost, as the kernel counts it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        with suppress(OSError):  # it has ended meanwhile
            threads = list(Path(f"/proc/{one}/task").iterdir())
            found += [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return found


def cpu_used(pid: int) -> dict[int, int]:
    """Nanoseconds of CPU that a process and each below it have used so far.

    The scheduler's own count: what `/proc/PID/stat` says comes in steps of 10 ms.
    """
    return {one: _nanoseconds(one) for one in tree(pid)}


def cpu_seconds(before: dict[int, int], after: dict[int, int]) -> float:
    """CPU used between two looks.  What a process that ended in between had used after the first is not counted."""
    return sum(max(0, used - before.get(pid, 0)) for pid, used in after.items()) / 1e9


def pss_mib(pid: int) -> dict[str, float]:
    """Memory of a process and all below it, shared pages counted by their share, by what the processes are."""
    sizes: dict[str, float] = {}
    for one in tree(pid):
        with suppress(OSError):  # it has ended meanwhile
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            kib = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            sizes[f"{kind(one)} {one}"] = kib / 1024
    return sizes


def own_mib(pid: int) -> float:
    """Memory that no other process has mapped too, in MiB; 0 for one that has ended."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024
    return 0.0


def cpu_by_kind(pid: int) -> dict[int, tuple[str, float, float]]:
    """Of a process and each below it: its kind, its own CPU seconds, and those of the children it has seen end."""
    used = {}
    for one in tree(pid):
        with suppress(OSError, IndexError):  # it has ended meanwhile
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            reaped = (int(fields[13]) + int(fields[14])) / _TICKS
            used[one] = (kind(one), _nanoseconds(one) / 1e9, reaped)
    return used


def cpu_between(
    before: dict[int, tuple[str, float, float]], after: dict[int, tuple[str, float, float]]
) -> dict[str, float]:
    """CPU seconds used between two looks, by what used it; `below` a kind are its children that have ended."""
    seconds: dict[str, float] = {}
    for pid in before.keys() & after.keys():
        name, own, reaped = after[pid]
        seconds[name] = seconds.get(name, 0.0) + own - before[pid][1]
        seconds[f"below {name}"] = seconds.get(f"below {name}", 0.0) + reaped - before[pid][2]
    return {name: used for name, used in seconds.items() if used > 0}


def _nanoseconds(pid: int) -> int:
    with suppress(OSError):  # it has ended meanwhile
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
    return 0


def kind(pid: int) -> str:
    """What a process of relight's is: `server`, `agent`, `launcher` (and the shells it made), `template` or `other`."""
    command = Path(f"/proc/{pid}/cmdline").read_text()
    kinds = {
        "relight.agent": "agent",
        "relight.sandbox": "launcher",
        "relight\0up\0": "server",
        "relight.runtime.template": "template",
        "relight.runtime.base": "base",
    }
    return next((kind for part, kind in kinds.items() if part in command), "other")
