"""What a worker with half a CPU finds, as a fork and as a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import relight

app = relight.App("cpus")


def found() -> dict[str, object]:
    """What pools go by."""
    child = "import os; print(os.cpu_count() if 'PYTHON_CPU_COUNT' in os.environ else 0)"
    with ProcessPoolExecutor() as pool:
        processes = pool._max_workers  # type: ignore[attr-defined]
    return {
        "count": os.cpu_count(),
        "affinity": len(os.sched_getaffinity(0)),
        "multiprocessing": multiprocessing.cpu_count(),
        "pool": processes,
        "told on": subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout.strip() != "0",
    }


@app.function(cpu=0.5)
def forked() -> dict[str, object]:
    """In a fork."""
    return found()


@app.function(cpu=0.5, template=False)
def alone() -> dict[str, object]:
    """In a process of its own."""
    return found()


@app.cls(cpu=0.2, template=False)
class Eager:
    """Works hard before it is ready, and afterwards."""

    @relight.enter()
    def start(self) -> None:
        """Before."""
        self.before = work()

    @relight.method()
    def both(self) -> tuple[float, float]:
        """What share of a CPU it had, before and now."""
        return self.before, work()


def work() -> float:
    """The share of a CPU that this process gets, over some periods of its quota."""
    began, used = time.perf_counter(), time.process_time()
    while time.process_time() - used < 0.15:
        pass
    return (time.process_time() - used) / (time.perf_counter() - began)
