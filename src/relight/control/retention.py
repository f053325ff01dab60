"""What is dropped when its time is over: ended calls with their results, web requests, what was kept of starts, the
lines of workers, blobs that nothing names.

A caller may be told that a blob is here, and name it a moment later: so a blob goes only when nobody has put it or asked
for it for a day.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import islice

from relight.blobs.store import BlobStore
from relight.clock import Clock
from relight.control.keys import KEY_SECONDS
from relight.store.store import Store

DAY_SECONDS = 86_400.0
FIRST_SWEEP_SECONDS = 300.0
SWEEP_SECONDS = 3600.0
_AT_ONCE = 1000
_BLOCKS_AT_ONCE = 20
_CALLS_AT_ONCE = 100  # they are dropped on the loop's thread
MOST_REQUESTS = 10_000_000
"""So many web requests are kept at most, some 300 MB: where more come, the oldest go before their time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How long what is kept, in days."""

    result_days: float = 7.0
    log_days: float = 30.0
    idle_blob_days: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What one sweep dropped, in numbers."""

    calls: int
    lines: int
    blobs: int
    starts: int = 0
    requests: int = 0


class Retention:
    """Drops what is older than it must be kept."""

    def __init__(self, store: Store, blobs: BlobStore, clock: Clock, keeping: Keeping) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._keeping = keeping

    async def run(self) -> None:
        """Sweep every hour, until cancelled."""
        await self._clock.sleep(FIRST_SWEEP_SECONDS)
        while True:
            await self.sweep()
            await self._clock.sleep(SWEEP_SECONDS)

    async def sweep(self) -> Dropped:
        """Drop what is too old now.  Calls go before the blobs that they alone name."""
        calls = await self._drop_calls()
        lines, starts, requests = await self._drop_lines(), await self._drop_starts(), await self._drop_requests()
        blobs = await self._drop_blobs()
        return Dropped(calls=calls, lines=lines, blobs=blobs, starts=starts, requests=requests)

    async def _drop_calls(self) -> int:
        before, dropped = self._days_ago(self._keeping.result_days), 0
        while gone := await self._store.calls.forget(before, _CALLS_AT_ONCE):
            dropped += gone
        while await self._store.keys.forget(self._clock.now() - KEY_SECONDS):
            pass
        return dropped

    async def _drop_starts(self) -> int:
        before, dropped = self._days_ago(self._keeping.result_days), 0
        while gone := await self._store.starts.forget(before, _CALLS_AT_ONCE):
            dropped += gone
        return dropped

    async def _drop_requests(self) -> int:
        """In whole blocks, each of which ended within a second or so."""
        before, dropped = self._days_ago(self._keeping.result_days), 0
        while gone := await self._store.requests.forget(before, _CALLS_AT_ONCE):
            dropped += gone
        left = await self._store.requests.count()
        while left > MOST_REQUESTS and (gone := await self._store.requests.forget(self._clock.now(), _BLOCKS_AT_ONCE)):
            left, dropped = left - gone, dropped + gone
        return dropped

    async def _drop_lines(self) -> int:
        """In whole blocks: a line may stay until the last of its block is too old."""
        before, dropped = self._days_ago(self._keeping.log_days), 0
        while gone := await self._store.logs.forget(before):
            dropped += gone
        return dropped

    async def _drop_blobs(self) -> int:
        before, dropped = self._days_ago(self._keeping.idle_blob_days), 0
        idle = iter(await asyncio.to_thread(lambda: list(self._blobs.idle_since(before))))
        while some := list(islice(idle, _AT_ONCE)):
            named = await self._store.calls.named_blobs(some)
            for digest in some:
                if digest not in named and self._blobs.is_idle(digest, before):
                    self._blobs.remove(digest)
                    dropped += 1
        return dropped

    def _days_ago(self, days: float) -> float:
        return self._clock.now() - days * DAY_SECONDS
