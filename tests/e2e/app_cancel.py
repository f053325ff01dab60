"""Functions that do not end by themselves, each in a way of its own."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator

import relight

app = relight.App("cancel")

ALL_SIGNALS = signal.valid_signals()


def say(text: str) -> None:
    """So that a test knows that the call is there."""
    print(text, flush=True)


@app.function(max_workers=2)
def spin() -> None:
    """Computes, in Python."""
    say("begun")
    for _ in itertools.count():
        pass


@app.function(max_workers=2)
def sleep(seconds: float = 3600.0) -> None:
    """Sleeps."""
    say("begun")
    time.sleep(seconds)


@app.function(max_workers=2)
def persist() -> None:
    """Goes on whatever goes wrong."""
    say("begun")
    while True:
        try:
            threading.Event().wait(0.01)
        except Exception:  # noqa: BLE001 - what it is for
            continue


@app.function(max_workers=2)
def clean_up() -> None:
    """Says that it is stopped, and takes a moment for that."""
    try:
        say("begun")
        threading.Event().wait()
    finally:
        say("cleaned up")


@app.function(max_workers=2)
def use_threads(count: int) -> None:
    """Computes in many threads at once, and waits for them."""
    threads = [threading.Thread(target=_compute, args=(10.0,), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    say("begun")
    for thread in threads:
        thread.join()


def _compute(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@app.function(max_workers=2)
async def wait() -> None:
    """Awaits."""
    say("begun")
    await asyncio.Event().wait()


@app.function(max_workers=2)
async def spin_on_loop() -> None:
    """Never lets its event loop go on."""
    say("begun")
    for _ in itertools.count():
        pass


@app.function(max_workers=2)
def count() -> Iterator[int]:
    """Makes items for ever."""
    say("begun")
    for n in itertools.count():
        yield n
        threading.Event().wait(0.01)


@app.function(max_workers=2)
async def count_on_loop() -> AsyncIterator[int]:
    """Makes items for ever, on an event loop."""
    say("begun")
    for n in itertools.count():
        yield n
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.01)


@app.function(max_workers=2, grace=1.0)
def ignore_signals() -> None:
    """Sleeps in C, deaf to every signal, and so do its child and its threads."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    say("begun")
    ctypes.CDLL(None).pause()


@app.function(max_workers=2, grace=1.0)
def hold_the_interpreter() -> None:
    """Computes in C, and lets no Python in: no handler of a signal runs either."""
    say("begun")
    sum(itertools.repeat(0, 10**15))


@app.function(max_workers=2, grace=1.0)
def take_all_that_is_raised() -> None:
    """Takes even what is not an `Exception`."""
    say("begun")
    while True:
        try:
            threading.Event().wait(0.01)
        except BaseException:  # noqa: BLE001 - what it is for
            continue


@app.function(max_workers=1)
def parent(count: int) -> None:
    """Waits for others."""
    say("begun")
    list(sleep.map([3600.0] * count))


@app.function(max_workers=2, grace=1.0)
def quick_or_deaf(n: int) -> int:
    """As a rule quick; asked for less than nothing, deaf to signals for an hour."""
    print(f"began {n}", flush=True)
    if n < 0:
        ignore_signals.local()
    return n * n
