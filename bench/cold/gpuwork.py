"""torch is imported, and a GPU multiplies two matrices."""

from __future__ import annotations

import os
import signal
import time

import torch

import relight

app = relight.App("cold-gpu")
SIDE = 1024


def multiply(x: int) -> int:
    """Give back what came, by way of a product on the GPU."""
    ones = torch.ones(SIDE, SIDE, device="cuda")
    return int((ones @ ones)[0, 0].item()) - SIDE + x


@app.function(gpu="any", scaledown_window=0)
def answer(x: int) -> int:
    """Give back what came."""
    return multiply(x)


@app.function(gpu="any", scaledown_window=0, template=False)
def imported(x: int) -> int:
    """Give back what came, from a fork of the base of its image."""
    return multiply(x)


@app.function(gpu="any", scaledown_window=0, template=False, env={"PYTHONUTF8": "1"})
def fresh(x: int) -> int:
    """Give back what came, from a process of its own."""
    return multiply(x)


@app.function(gpu="any", scaledown_window=0)
def steps() -> dict[str, float]:
    """How long each step of a first use takes, in milliseconds."""
    times = [time.perf_counter()]
    for step in (
        torch.cuda.is_available,
        lambda: torch.ones(SIDE, SIDE, device="cuda"),
        lambda: multiply(0),
        lambda: multiply(0),
    ):
        step()
        torch.cuda.synchronize()
        times.append(time.perf_counter())
    names = ("a context", "memory", "the first product", "the second")
    return {name: (after - before) * 1000 for name, before, after in zip(names, times, times[1:], strict=False)}


@app.function(gpu="any", scaledown_window=0)
def free_mib() -> int:
    """What is free of the GPU, as this worker finds it."""
    free, _ = torch.cuda.mem_get_info()
    return int(free) >> 20


@app.function(gpu="any", scaledown_window=0)
def die(share: float) -> None:
    """Take a part of the GPU's memory, and be killed."""
    _, total = torch.cuda.mem_get_info()
    held = torch.empty(int(total * share), dtype=torch.uint8, device="cuda")
    held.fill_(1)
    torch.cuda.synchronize()
    os.kill(os.getpid(), signal.SIGKILL)


@app.function(gpu="any:0.25", scaledown_window=0)
def take(share: float, seconds: float) -> str:
    """Take a part of the GPU's memory, be it more than one's own, and keep it."""
    _, total = torch.cuda.mem_get_info()
    held = torch.empty(int(total * share), dtype=torch.uint8, device="cuda")
    held.fill_(1)
    torch.cuda.synchronize()
    time.sleep(seconds)
    return "kept"


@app.cls(gpu="any:0.5", scaledown_window=0)
class Half:
    """Each `number` gets a worker of its own, on half a GPU."""

    number: int = relight.parameter()

    @relight.method()
    def work(self, seconds: float) -> tuple[str, int, float, float]:
        """Multiply for so long: which GPU, which process, from when to when, in seconds since 1970."""
        began = time.time()
        while time.time() < began + seconds:
            multiply(0)
        return os.environ["CUDA_VISIBLE_DEVICES"], os.getpid(), began, time.time()
