"""Functions that do not end by themselves: what `bench/cancel.py` cancels."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import relight

app = relight.App("stubborn")
LONG = 3600.0
GRACE_SECONDS = 1.0


@app.function(max_workers=1)
def spin() -> None:
    """Computes in Python."""
    for _ in itertools.count():
        pass


@app.function(max_workers=1)
def sleep(seconds: float = LONG) -> None:
    """Sleeps."""
    time.sleep(seconds)


@app.function(max_workers=1)
def persist() -> None:
    """Goes on whatever goes wrong."""
    while True:
        try:
            time.sleep(0.001)
        except Exception:  # noqa: BLE001, PERF203 - what it is for
            continue


@app.function(max_workers=1)
def hold_threads() -> None:
    """Has a hundred threads that wait, four that compute, and waits for them."""
    is_over = threading.Event()
    waiting = [threading.Thread(target=is_over.wait, args=(LONG,), daemon=True) for _ in range(100)]
    busy = [threading.Thread(target=_compute, args=(is_over,), daemon=True) for _ in range(4)]
    try:
        for thread in (*waiting, *busy):
            thread.start()
        busy[0].join()
    finally:
        is_over.set()


def _compute(is_over: threading.Event) -> None:
    while not is_over.is_set():
        pass


@app.function(max_workers=1)
async def wait() -> None:
    """Awaits."""
    await asyncio.sleep(LONG)


@app.function(max_workers=1)
async def spin_on_loop() -> None:
    """Computes, and never lets its event loop go on."""
    for _ in itertools.count():
        pass


@app.function(max_workers=1)
def count() -> Iterator[int]:
    """Makes items for ever."""
    for n in itertools.count():
        yield n
        time.sleep(0.001)


@app.function(max_workers=1, grace=GRACE_SECONDS)
def deaf() -> None:
    """Sleeps in C, deaf to every signal, beside a child of its own."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({LONG})"])
    ctypes.CDLL(None).sleep(int(LONG))


@app.function(max_workers=1, grace=GRACE_SECONDS)
def hold_interpreter() -> None:
    """Computes in C, and lets no Python in."""
    sum(itertools.repeat(0, 10**15))


@app.function(max_workers=1)
def parent(count: int) -> None:
    """Waits for calls of another function."""
    list(sleep.map([LONG] * count))
