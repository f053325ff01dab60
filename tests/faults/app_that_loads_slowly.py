"""An app whose module takes long to load where calls run."""

from __future__ import annotations

from threading import Event

import relight

app = relight.App("loads_slowly")

if relight.is_remote():
    Event().wait(1.0)


@app.function(max_workers=8)
def double(n: int) -> int:
    """Twice `n`."""
    return 2 * n
