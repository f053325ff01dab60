"""The app that the fault suite calls: each start tells of itself, in the lines that the server keeps."""

from __future__ import annotations

import threading
import time

import relight

app = relight.App("under_fire")


@app.function(max_workers=4)
def double(n: int, seconds: float = 0.0) -> int:
    """Twice `n`, after a while."""
    print(f"started {time.time()}")
    threading.Event().wait(seconds)
    return 2 * n
