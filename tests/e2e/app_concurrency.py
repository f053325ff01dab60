"""Functions of which one worker has several calls at once."""

from __future__ import annotations

import asyncio
import os
import threading

import relight

app = relight.App("crowd")


@app.function(max_workers=1)
@relight.concurrent(max_inputs=8)
async def meet(count: int) -> int:
    """Return once `count` calls are here together: this process's pid."""
    state = vars(meet).setdefault("state", {"here": 0, "all": asyncio.Event()})
    state["here"] += 1
    print(f"here is {relight.current_call()}")
    if state["here"] == count:
        state["all"].set()
    await state["all"].wait()
    return os.getpid()


@app.function(max_workers=1, timeout=60, grace=1)
@relight.concurrent(max_inputs=4)
def stay(how: str) -> str:
    """Stay as one is told to: in Python's code, which can be stopped, or in C's, which cannot."""
    print(how, flush=True)
    if how == "stubborn":
        threading.Event().wait()
    while how == "obedient":
        threading.Event().wait(0.01)
    if how == "brief":
        threading.Event().wait(1.0)
    return how


@app.function(max_workers=1)
@relight.concurrent(max_inputs=4)
async def count(to: int):  # type: ignore[no-untyped-def]
    """Count."""
    for number in range(to):
        yield number


@app.function()
@relight.concurrent(max_inputs=4, target_inputs=2)
async def spread() -> str:
    """Take a while."""
    await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=1)
    return os.environ["RELIGHT_WORKER"]


@app.function(max_workers=1)
@relight.batched(max_batch_size=32, wait_ms=100)
def square(numbers: list[int]) -> list[dict[str, int]]:
    """Squares, with how many there were in the batch and which batch it was."""
    vars(square)["batches"] = vars(square).get("batches", 0) + 1
    return [
        ValueError(f"no {number}") if number < 0 else {"square": number * number, "batch": vars(square)["batches"]}  # type: ignore[misc]
        for number in numbers
    ]


@app.cls(max_workers=1)
@relight.concurrent(max_inputs=4)
class Model:
    """A class of whose object several calls are at once."""

    @relight.enter()
    async def load(self) -> None:
        """Made on the loop that the calls run on."""
        self.lock = asyncio.Lock()
        self.loop = asyncio.get_running_loop()

    @relight.method()
    async def infer(self, x: int) -> bool:
        """Whether it runs where it was loaded."""
        async with self.lock:
            return asyncio.get_running_loop() is self.loop


@app.function(max_workers=3, min_workers=3)
def sit(*, ends: bool = False) -> str:
    """Where it runs; or the end of that."""
    if ends:
        os._exit(1)
    threading.Event().wait(0.02)
    return os.environ["RELIGHT_WORKER"]
