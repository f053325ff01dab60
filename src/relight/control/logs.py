"""Logs: kept as they come, read back in order, followed live."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from relight.clock import Clock
from relight.control.intake import Intake
from relight.protocol.errors import Unavailable
from relight.protocol.views import LogQuery, LogRecord
from relight.store.store import Store

INDEX_AGAIN_SECONDS = 10.0
"""After how long an index that could not be made is tried again."""

_log = logging.getLogger("relight.control")


class Logs:
    """Every line that workers wrote."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._followers: set[asyncio.Event] = set()
        self._has_new = asyncio.Event()

    def intake(self, acknowledge: Callable[[int], None]) -> Intake:
        """The way in for the lines of one agent's process; whoever follows sees them once they are kept."""

        def on_kept(number: int) -> None:
            acknowledge(number)
            self.wake()

        return Intake(self._store.logs, self._clock, on_kept)

    async def read(self, workspace: str, query: LogQuery) -> tuple[LogRecord, ...]:
        """Lines, oldest first."""
        return (await self._store.logs.read(workspace, query)).records

    async def follow(
        self, workspace: str, query: LogQuery, until: asyncio.Event | None = None
    ) -> AsyncIterator[LogRecord]:
        """What `query` asks for, then lines as they come; without end, or to the last one kept when `until` was set."""
        changed = asyncio.Event()
        self._followers.add(changed)
        try:
            while True:
                changed.clear()
                is_over = until is not None and until.is_set()
                page = await self._store.logs.read(workspace, query)
                for record in page.records:
                    yield record
                query = replace(query, after=page.upto, tail=0)
                if not page.records and is_over:
                    return
                if not page.records:
                    await changed.wait()
        finally:
            self._followers.discard(changed)

    def wake(self) -> None:
        """Let whoever follows look again."""
        self._has_new.set()
        for changed in self._followers:
            changed.set()

    async def run(self) -> None:
        """Make the index of what has been kept, until cancelled."""
        while True:
            self._has_new.clear()
            try:
                has_made = await self._store.logs.index_next()
            except Unavailable as error:
                _log.error("log not indexed", extra={"why": str(error)})
                await self._clock.sleep(INDEX_AGAIN_SECONDS)
                continue
            if not has_made:
                await self._has_new.wait()
