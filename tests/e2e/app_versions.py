"""An app whose answer says which version gave it: `NUMBER` is written anew for each."""

from __future__ import annotations

import relight

NUMBER = 0
FAILS = False
app = relight.App("numbered")

if FAILS and relight.is_remote():
    raise ImportError("no module named mended")


@app.function(scaledown_window=1)
def number() -> int:
    """Which version this is."""
    return NUMBER
