"""numpy and pandas are imported, and a small table is summed."""

from __future__ import annotations

import numpy as np
import pandas as pd

import relight

app = relight.App("cold-frames")


def ask(x: int) -> int:
    """Give back what came, by way of a group in a table."""
    table = pd.DataFrame({"kind": ["a", "b", "a"], "value": np.array([x, 1, 0])})
    return int(table.groupby("kind")["value"].sum()["a"])


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
