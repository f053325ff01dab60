"""Functions for the end-to-end tests of callers with an event loop."""

from __future__ import annotations

import asyncio
import threading

import relight

app = relight.App("loops")


@app.function()
def square(x: int) -> int:
    return x * x


@app.function()
def wait(name: str) -> None:
    """Runs until somebody stops it."""
    print(f"waits as {name}", flush=True)
    threading.Event().wait()


@app.function()
def double(data: bytes) -> bytes:
    return data * 2


@app.function()
async def inside(n: int) -> tuple[int, int, int]:
    """Calls from a worker: on its loop, as a map, and from a thread beside it."""
    together = sum(await asyncio.gather(*(square.remote.aio(x) for x in range(n))))
    mapped = sum([x async for x in square.map.aio(range(n))])
    return together, mapped, await asyncio.to_thread(square.remote, n)
