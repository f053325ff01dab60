"""Plain functions of the user's, run in threads beside the loop; one whose caller has gone is stopped by an exception."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from relight.runtime.interrupts import CallInterrupted
from relight.runtime.native import raise_in_thread

T = TypeVar("T")


async def run_in(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """What `work` returns.  When this is cancelled, CallInterrupted is raised in it, and it has ended when this returns."""
    begun: list[int] = []
    ended = threading.Lock()

    def run() -> T:
        begun.append(threading.get_ident())
        try:
            return work()
        finally:
            with ended:
                begun.clear()

    context = contextvars.copy_context()
    running = asyncio.get_running_loop().run_in_executor(threads, context.run, run)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        running.cancel()
        with ended:
            if begun:
                raise_in_thread(begun[0], CallInterrupted)
        await asyncio.wait((running,))
        if not running.cancelled():
            running.exception()  # seen
        raise
