"""torch is imported, and a small network is asked."""

from __future__ import annotations

import torch

import relight

app = relight.App("cold-tensors")
SIDE = 128  # small enough that torch keeps to one thread: a start is measured, not who else computes


def ask(x: int) -> int:
    """Give back what came, by way of a network's layer."""
    with torch.inference_mode():
        layer = torch.nn.functional.linear(torch.ones(1, SIDE), torch.ones(SIDE, SIDE))
        return int(torch.relu(layer).sum().item()) - SIDE * SIDE + x


@app.function(scaledown_window=0)
def answer(x: int) -> int:
    """Give back what came."""
    return ask(x)


@app.function(scaledown_window=0, template=False)
def imported(x: int) -> int:
    """Give back what came, from a fork of the base of its image."""
    return ask(x)


@app.function(scaledown_window=0, template=False, env={"PYTHONUTF8": "1"})
def fresh(x: int) -> int:
    """Give back what came, from a process of its own."""
    return ask(x)


@app.cls(scaledown_window=0)
class Apart:
    """Each `number` gets a worker of its own, from the same template."""

    number: int = relight.parameter()

    @relight.method()
    def answer(self, x: int) -> int:
        """Give back what came."""
        return ask(x)


@app.cls(scaledown_window=600)
class Kept:
    """As `Apart`, and its workers stay."""

    number: int = relight.parameter()

    @relight.method()
    def answer(self, x: int) -> int:
        """Give back what came."""
        return ask(x)
