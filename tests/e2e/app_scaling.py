"""What the tests of scaling and of queues run."""

from __future__ import annotations

import threading
import time

import relight

app = relight.App("scaled")


@app.function(max_workers=50, scaledown_window=5)
def nap(seconds: float = 0.1) -> float:
    """When it began."""
    began = time.time()
    threading.Event().wait(seconds)
    return began


@app.function(max_waiting=5, max_workers=1)
def narrow(number: int) -> int:
    """Nothing much."""
    return number


@app.function(max_workers=8)
def span(name: str, seconds: float = 0.02) -> tuple[str, float, float]:
    """From when to when it ran."""
    began = time.time()
    threading.Event().wait(seconds)
    return name, began, time.time()


@app.function(rate_limit="5/s", max_workers=4)
def paced() -> float:
    """When it began."""
    return time.time()


@app.function(target_metrics={"tokens": 10.0}, max_workers=3)
def hungry(tokens: int) -> int:
    """Says how much there is to do."""
    hungry.report_metrics(tokens=tokens)
    return tokens


@app.function()
def fragile(is_whole: bool = False) -> bool:
    """Fails unless it is told not to."""
    if not is_whole:
        raise ValueError("broken")
    return is_whole
