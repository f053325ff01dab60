"""When the room that a worker took may be given to another: not when it has ended, but when nothing of it is left.

A process that is dead may hold memory for a while, until the kernel lets go of it: one that waits for a device cannot be
killed.  What it holds of a GPU, the driver is asked before the next start there (`gpu.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from relight.agent.starter import Sandbox

LATE_SECONDS = 0.05
"""A worker whose room is clear by then is gone; one whose room is not is said to be on its way out."""

_log = logging.getLogger("relight.agent")


class Slots:
    """Knows when a worker's room is clear."""

    def __init__(self) -> None:
        self._closed = asyncio.Event()

    async def wait_clear(self, sandbox: Sandbox, when_late: Callable[[], None]) -> None:
        """Return once nothing is left of a worker whose sandbox has ended; `when_late` is called if that takes a while."""
        clearing = asyncio.ensure_future(sandbox.wait_empty())
        closing = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait((clearing,), timeout=LATE_SECONDS)
            if not clearing.done():
                _log.warning("worker ended, and its room is not clear yet", extra={"sandbox": sandbox.id})
                when_late()
                await asyncio.wait((clearing, closing), return_when=asyncio.FIRST_COMPLETED)
            if clearing.done():
                clearing.result()
        finally:
            clearing.cancel()
            closing.cancel()

    def close(self) -> None:
        """Wait for no room any more: nobody is to have it."""
        self._closed.set()
