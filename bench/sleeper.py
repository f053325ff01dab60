"""What `scaling.py` calls: a function that sleeps, so that two cores run fifty of them."""

from __future__ import annotations

import time

import relight

app = relight.App("bench-scaling")


@app.function(max_workers=50)
def nap(seconds: float) -> float:
    """Sleeps; when it began."""
    began = time.time()
    time.sleep(seconds)
    return began
