"""An app whose answer says which version gave it: `NUMBER` is written anew for each."""

from __future__ import annotations

import threading
import time

import relight

NUMBER = 0
FAILS = False
app = relight.App("numbered")

if FAILS and relight.is_remote():
    raise ImportError("no module named mended")


@app.function(scaledown_window=60)
def hold(seconds: float) -> list[float]:
    """Which version this is, and from when to when it ran."""
    began = time.time()
    threading.Event().wait(seconds)
    return [NUMBER, began, time.time()]


@app.function(scaledown_window=1)
def number() -> int:
    """Which version this is."""
    return NUMBER
