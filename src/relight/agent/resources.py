"""What this machine has: cores, memory, and GPUs; a share of them where a control group or affinity says so."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from relight.protocol.errors import InvalidRequest
from relight.protocol.link import GpuFact
from relight.protocol.manifest import parse_gpu

_MIB = 1024 * 1024
_KIB = 1024


def cores() -> float:
    """The cores that this process may use."""
    return float(len(os.sched_getaffinity(0)))


def memory_mib(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The memory of this machine, or of the control group that holds it (a container's)."""
    meminfo = (proc / "meminfo").read_text()
    total = next(int(line.split()[1]) for line in meminfo.splitlines() if line.startswith("MemTotal:")) * _KIB
    limits = [_read_limit(groups / name) for name in ("memory.max", "memory/memory.limit_in_bytes")]
    return min([total, *(limit for limit in limits if limit is not None)]) // _MIB


def memory_of(pid: int, proc: Path = Path("/proc")) -> int:
    """The bytes that a process adds to the memory of this machine: its anonymous pages, and its share of those it shares.

    0 for one that is gone, or that this one may not look into.
    """
    try:
        lines = (proc / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    sizes = {words[0]: int(words[1]) for words in map(str.split, lines) if words[-1] == "kB"}
    return (sizes.get("Pss_Anon:", 0) + sizes.get("Pss_Shmem:", 0)) * _KIB


def declared_gpus(texts: Iterable[str]) -> tuple[GpuFact, ...]:
    """GPUs declared by hand, `A100:4` or several with commas: simulated, and numbered in order."""
    kinds: list[str] = []
    for text in (part for texts_ in texts for part in texts_.split(",") if part.strip()):
        request = parse_gpu(text)
        if request.kind == "ANY":
            raise InvalidRequest(f"cannot declare {text!r}: a GPU that is there has a kind; write for example A100:4")
        kinds += [request.kind] * request.count
    return tuple(
        GpuFact(id=f"simulated-{number}-{kind}", kind=kind, is_simulated=True) for number, kind in enumerate(kinds)
    )


def _read_limit(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
