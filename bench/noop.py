"""The app of the measurement, with every option at its default."""

from __future__ import annotations

import relight

app = relight.App("bench")


@app.function()
def noop(x: int) -> int:
    """Give back what came."""
    return x
