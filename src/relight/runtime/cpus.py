"""How many CPUs there are, as a worker's Python says: as many as it was given, and not all of the machine's.

Pools are as large as `os.cpu_count()` says.  What is held to one of 64 cores is slower with 64 processes than with one,
and runs out of memory sooner.  Which cores they are is the kernel's affair from moment to moment, so no process is tied
to some; only what Python is told is changed.  C libraries have variables of their own (`freezing.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from math import ceil

from relight.protocol.inside import inside

_VARIABLE = "PYTHON_CPU_COUNT"
"""What Python 3.13 and newer go by: for the processes that a worker starts."""

_AFFINITY: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
_COUNT = os.cpu_count
_TIMES = os.times  # kept from here on, as users' tests put others in their place
_OWN_NS = time.process_time_ns


def count_cpus(cpu: float | None) -> int:
    """The threads that fit a request for `cpu`: all that this process may use where there is none."""
    if cpu is not None:
        return max(1, ceil(cpu))
    return len(_AFFINITY(0)) if _AFFINITY is not None else _COUNT() or 1


def show_cpus(cpu: float | None) -> None:
    """From here on there are as many as fit a request for `cpu`; before any import of the user's, or in a fork."""
    before, inside.cpus = inside.cpus, 0 if cpu is None else count_cpus(cpu)
    if before == inside.cpus:
        return
    if os.environ.get(_VARIABLE, str(before)) == str(before):  # not the user's own
        if inside.cpus:
            os.environ[_VARIABLE] = str(inside.cpus)
        else:
            os.environ.pop(_VARIABLE, None)
    os.cpu_count = _cpu_count
    if hasattr(os, "process_cpu_count"):
        os.process_cpu_count = _cpu_count
    if _AFFINITY is not None:
        os.sched_getaffinity = _affinity


def used_us() -> int:
    """The CPU time that this process has taken, and those it started and waited for, in microseconds."""
    times = _TIMES()
    return _OWN_NS() // 1000 + int(1e6 * (times.children_user + times.children_system))


def _cpu_count() -> int | None:
    """The number of CPUs that this worker may use."""
    count = _COUNT()
    return min(inside.cpus, count) if inside.cpus and count else count


def _affinity(pid: int, /) -> set[int]:
    """The CPUs that a process may use: of this one, as many as the worker was given."""
    assert _AFFINITY is not None, "it is only told where the kernel tells it"
    allowed = _AFFINITY(pid)
    return set(sorted(allowed)[: inside.cpus]) if inside.cpus and pid in (0, os.getpid()) else allowed
