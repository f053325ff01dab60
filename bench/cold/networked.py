"""The same function twice: what a network of its own costs a start."""

from __future__ import annotations

import relight

app = relight.App("cold-networked")


@app.function(scaledown_window=0, network="none")
def none(x: int) -> int:
    """Give back what came, without a network."""
    return x


@app.function(scaledown_window=0, network="egress")
def egress(x: int) -> int:
    """Give back what came, with a way out."""
    return x
