"""What the tests of several nodes call."""

from __future__ import annotations

import threading

import relight

app = relight.App("nodes")


@app.function(scaledown_window=0)
def ready() -> int:
    """One."""
    return 1


@app.function(template=False, cpu=0.5)
def hold() -> None:
    """Stay until cancelled."""
    threading.Event().wait()
