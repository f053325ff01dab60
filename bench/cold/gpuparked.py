"""Workers that wait for their first call, on shares of a GPU: with a context, and without."""

from __future__ import annotations

from gpuwork import multiply

import relight

app = relight.App("cold-gpu-parked")


@app.cls(gpu="any:0.2", buffer_workers=1, scaledown_window=0)
class WithContext:
    """Has used the GPU before its first call."""

    @relight.enter()
    def use(self) -> None:
        """What a first use costs: the context, and the kernels that are loaded then."""
        multiply(0)

    @relight.method()
    def answer(self, x: int) -> int:
        """Give back what came."""
        return multiply(x)


@app.cls(gpu="any:0.2", buffer_workers=1, scaledown_window=0)
class Without:
    """Has torch, and nothing of the GPU."""

    @relight.method()
    def answer(self, x: int) -> int:
        """Give back what came."""
        return multiply(x)
