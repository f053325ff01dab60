"""What the tests of dying templates call."""

from __future__ import annotations

import threading

import relight

app = relight.App("dying")


@app.function(scaledown_window=0)
def add(a: int, b: int) -> int:
    """The sum, by a worker that goes at once."""
    return a + b


@app.function(max_workers=2, scaledown_window=0)
def hold(seconds: float) -> float:
    """Say that it has begun, and take a while."""
    print("begun", flush=True)
    threading.Event().wait(seconds)
    return seconds
