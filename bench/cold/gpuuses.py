"""A module that uses a GPU while it is imported, as many do."""

from __future__ import annotations

import torch

import relight

app = relight.App("cold-gpu-uses")
LAYER = torch.nn.Linear(8, 8).cuda()


@app.function(gpu="any", scaledown_window=0)
def where(x: int) -> str:
    """Where it computes."""
    return str(LAYER(torch.full((8,), float(x), device="cuda")).device)
