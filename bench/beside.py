"""The app of `neighbours.py`: one who answers, and those who take all there is."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import relight

app = relight.App("beside")
MIB = 1 << 20


@app.function()
def answer(x: int) -> int:
    """The neighbour."""
    return x


@app.function(timeout=120)
def compute(seconds: float) -> None:
    """As many processes as there are CPUs, twice, none of which ever waits."""
    until = time.monotonic() + seconds
    for _ in range(2 * (os.cpu_count() or 1) - 1):
        if os.fork() == 0:
            break
    while time.monotonic() < until:
        pass


@app.function(timeout=120, memory=256)
def fork(seconds: float) -> None:
    """Processes, again and again, as many as it gets."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(OSError):
            if os.fork() == 0:
                time.sleep(0.2)
                os._exit(0)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


@app.function(timeout=120, memory=256)
def allocate(seconds: float) -> None:
    """Memory up to its limit, taken and given back."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        held = [b"x" * MIB for _ in range(180)]
        held.clear()


@app.function(timeout=120, ephemeral_disk=256)
def fill(seconds: float) -> None:
    """Files until there is no space left, and again."""
    until, path = time.monotonic() + seconds, Path("/tmp/filler")
    while time.monotonic() < until:
        with suppress(OSError), path.open("wb", buffering=0) as file:
            while time.monotonic() < until:
                file.write(bytes(MIB))
        path.unlink()


@app.function(timeout=120)
def write_lines(seconds: float) -> None:
    """Lines that nobody reads."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sys.stdout.write("a line of a flood\n" * 100)


HOGS = {"compute": compute, "fork": fork, "allocate": allocate, "fill": fill, "write_lines": write_lines}
