"""Functions that use what is metered, for the end-to-end tests."""

from __future__ import annotations

import time

import relight

app = relight.App("metered", tags={"team": "search"})


@app.function(tags={"tier": "gold"})
def think(tokens_in: int, tokens_out: int) -> None:
    """Say that so much was read and written."""
    relight.report_tokens(tokens_in, tokens_out)


@app.function(template=False)
def compute(seconds: float) -> float:
    """Use the CPU for so long, and no less; what was used."""
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass
    return time.process_time()


@app.function()
@relight.web_endpoint()
def chat(words: int) -> int:
    relight.report_tokens(tokens_out=words)
    return words


@app.function(gpu="L4:0.25")
def quarter() -> None:
    """Hold a share of a GPU."""
