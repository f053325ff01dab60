"""torch is imported and a file of weights mapped, before the fork; a call multiplies with a part of one layer.

The variables `BENCH_APP` and `BENCH_WEIGHTS` say under which name it is deployed, and where the file is.
"""

from __future__ import annotations

import json
import mmap
import os
import warnings
from pathlib import Path

import torch

import relight

VARIABLES = {name: os.environ[name] for name in ("BENCH_APP", "BENCH_WEIGHTS")}
app = relight.App(VARIABLES["BENCH_APP"])
ROWS = 64


class Weights:
    """Every layer of a safetensors file, in the file's own pages."""

    @relight.enter(snap=True)
    def map(self) -> None:
        """Map the file, and touch each page once, as whoever has used the weights before."""
        with Path(VARIABLES["BENCH_WEIGHTS"]).open("rb") as file:
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        sum(view[:: mmap.PAGESIZE])
        begin = 8 + int.from_bytes(view[:8], "little")
        header = json.loads(view[8:begin])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of memory that cannot be written: this is not to be
            self.layers = [
                torch.frombuffer(view, dtype=torch.float32, count=shape[0] * shape[1], offset=begin + offsets[0]).view(
                    shape
                )
                for shape, offsets in ((one["shape"], one["data_offsets"]) for one in header.values())
            ]

    @relight.method()
    def answer(self, x: int) -> int:
        """Give back what came, if the weights are what they should be."""
        layer = self.layers[x % len(self.layers)][:ROWS]
        with torch.inference_mode():
            return x if float(torch.mv(layer, torch.ones(layer.shape[1])).min()) > 0 else -1


@app.cls(scaledown_window=0, env=VARIABLES)
class Model(Weights):
    """Forked from a template that has mapped them."""


@app.cls(scaledown_window=0, env=VARIABLES, template=False)
class Fresh(Weights):
    """Maps them in a process of its own."""
