"""An app whose calls take as long as they are told: what a trace is played on."""

from __future__ import annotations

import threading

import relight

app = relight.App("traffic")

WINDOW_SECONDS = 3.0


@app.function(scaledown_window=WINDOW_SECONDS, max_workers=8)
def take(seconds: float) -> float:
    """Return after so long."""
    threading.Event().wait(seconds)
    return seconds
