"""A module that looks for a GPU while it is imported, as many do."""

from __future__ import annotations

import torch

import relight

app = relight.App("cold-gpu-asks")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@app.function(gpu="any", scaledown_window=0)
def where(x: int) -> str:
    """Where it computes."""
    return str(torch.full((8,), x, device=DEVICE).device)
