"""Logs: kept as they come, read back in order, followed live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from relight.protocol.views import LogQuery, LogRecord
from relight.store.store import Store


class Logs:
    """Every line that workers wrote."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._followers: dict[str, set[asyncio.Event]] = {}

    def keep(self, workspace: str, records: Sequence[LogRecord]) -> None:
        """Keep lines; whoever follows sees them once they are in."""
        kept = self._store.logs.append(workspace, records)
        kept.add_done_callback(lambda _: self.wake(workspace))

    async def read(self, workspace: str, query: LogQuery) -> tuple[LogRecord, ...]:
        """Lines, oldest first."""
        return tuple(await self._store.logs.read(workspace, query))

    async def follow(
        self, workspace: str, query: LogQuery, until: asyncio.Event | None = None
    ) -> AsyncIterator[LogRecord]:
        """Lines as they come, from `query.after` on; without end, or to the last one kept when `until` was set."""
        changed = asyncio.Event()
        followers = self._followers.setdefault(workspace, set())
        followers.add(changed)
        try:
            while True:
                changed.clear()
                is_over = until is not None and until.is_set()
                records = await self.read(workspace, query)
                for record in records:
                    yield record
                if records:
                    query = replace(query, after=records[-1].id)
                elif is_over:
                    return
                else:
                    await changed.wait()
        finally:
            followers.discard(changed)

    def wake(self, workspace: str) -> None:
        """Let whoever follows look again."""
        for changed in self._followers.get(workspace, ()):
            changed.set()
