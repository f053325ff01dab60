"""Nothing is imported and nothing is done: what a start itself costs."""

from __future__ import annotations

import relight

app = relight.App("cold-bare")


@app.function(scaledown_window=0)
def answer(x: int) -> int:
    """Give back what came."""
    return x


@app.function(scaledown_window=0, template=False)
def imported(x: int) -> int:
    """Give back what came, from a fork of the base of its image."""
    return x


@app.function(scaledown_window=0, template=False, env={"PYTHONUTF8": "1"})
def fresh(x: int) -> int:
    """Give back what came, from a process of its own."""
    return x


@app.cls(scaledown_window=0)
class Apart:
    """Each `number` gets a worker of its own, from the same template."""

    number: int = relight.parameter()

    @relight.method()
    def answer(self, x: int) -> int:
        """Give back what came."""
        return x


@app.cls(scaledown_window=600)
class Kept:
    """As `Apart`, and its workers stay."""

    number: int = relight.parameter()

    @relight.method()
    def answer(self, x: int) -> int:
        """Give back what came."""
        return x
