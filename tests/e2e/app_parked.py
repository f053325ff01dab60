"""What the tests of workers ahead run for a while."""

from __future__ import annotations

import os

import relight

app = relight.App("brief")


@app.function(buffer_workers=1)
def who() -> str:
    """The worker that has the call."""
    return os.environ["RELIGHT_WORKER"]
