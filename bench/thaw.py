"""What it takes to fork a template and to make the fork unlike its siblings, without sandbox, agent or server.

    python bench/thaw.py                                  # nothing, numpy, torch, where they are installed
    python bench/thaw.py 'import pandas' --cpu 1 --forks 200

Each template is a process of its own.  A fork is timed from before `os.fork` to the first line of the child, `thaw` in the
child, both with the page faults that a fork's first lines cost.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import struct
import subprocess
import sys
import time

from relight.agent.resources import memory_of
from relight.runtime.freezing import freeze, prepare
from relight.runtime.thawing import thaw

TEMPLATES = {
    "": "pass",
    "numpy": "import numpy.random",
    "sklearn": "import sklearn.linear_model",
    "torch": "import torch",
}
_TIMES = struct.Struct("dd")


def measure(imports: str, cpu: float | None, forks: int) -> str:
    """A line of the table: this process becomes the template."""
    preset = prepare(cpu)
    began = time.perf_counter()
    exec(imports, {"__name__": "template"})
    import_seconds = time.perf_counter() - began
    frozen = freeze(preset)
    if frozen.unsafe:
        return f"{imports:32}cannot be forked: {frozen.unsafe}"
    memory, times = memory_of(os.getpid()), []
    for _ in range(forks):
        reader, writer = os.pipe()
        began = time.perf_counter()
        if os.fork() == 0:
            forked = time.perf_counter()
            os.environ["RELIGHT_WORKER"] = "worker"  # what a worker has done by then, and what pages that touched
            ready = time.perf_counter()
            thaw(frozen, cpu)
            os.write(writer, _TIMES.pack(forked - began, time.perf_counter() - ready))
            os._exit(0)
        times.append(_TIMES.unpack(os.read(reader, _TIMES.size)))
        os.close(reader)
        os.close(writer)
        os.wait()
    fork, thawed = (sorted(column) for column in zip(*times, strict=True))
    middle, tail = forks // 2, forks * 9 // 10
    return (
        f"{imports:32}{import_seconds * 1e3:8.0f} {frozen.seconds * 1e3:8.0f} {memory >> 20:8} "
        f"{fork[middle] * 1e3:8.2f} {fork[tail] * 1e3:8.2f} {thawed[middle] * 1e6:8.0f} {thawed[tail] * 1e6:8.0f}"
    )


def main() -> None:
    """Measure each template in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("imports", nargs="*", default=[], help="what a template executes")
    parser.add_argument("--cpu", type=float, help="the CPUs of a worker (default: all)")
    parser.add_argument("--forks", type=int, default=100)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(measure(options.imports[0], options.cpu, options.forks))
        return
    installed = [imports for name, imports in TEMPLATES.items() if not name or importlib.util.find_spec(name)]
    print(
        f"{'template':32}{'import':>8} {'freeze':>8} {'MiB':>8} {'fork p50':>8} {'p90 ms':>8} {'thaw p50':>8} {'p90 us':>8}"
    )
    for imports in options.imports or installed:
        width = ["--cpu", str(options.cpu)] if options.cpu is not None else []
        command = [sys.executable, __file__, imports, "--one", "--forks", str(options.forks), *width]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
