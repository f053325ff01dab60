"""The app whose lines are counted: each names its call, the try of it, and its own number."""

from __future__ import annotations

import os
import sys
import threading
import uuid

import relight

app = relight.App("writes")
crowd = relight.App("crowd")


@app.function(max_workers=4)
def write(name: str, count: int, seconds: float) -> int:
    """Write `count` numbered lines within about so many seconds."""
    return _write(name, count, seconds)


@crowd.function(min_workers=50, max_workers=50, cpu=0.01, memory=64)
def write_at_once(name: str, count: int, seconds: float) -> int:
    """The same, by fifty workers that are there already."""
    return _write(name, count, seconds)


def _write(name: str, count: int, seconds: float) -> int:
    run, rounds = uuid.uuid4().hex[:8], 20
    for number in range(count):
        print(f"{name} {run} {number}")
        if (number + 1) % (count // rounds) == 0:
            threading.Event().wait(seconds / rounds)
    return count


@app.function(max_workers=4)
def leave(how: str) -> None:
    """End the process in the middle of a line."""
    for number in range(1000):
        print(f"{how} {number}")
    sys.stdout.write("last words")
    if how == "exit":
        sys.stdout.flush()
        os._exit(3)
    os.kill(os.getpid(), 9)
