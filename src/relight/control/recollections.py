"""What a server would forget, and may well be a little late with: counts and histories, kept every few seconds as far as they
have changed.

No call waits for this, and none makes a write: what changed a thousand times meanwhile is one row.  A server that is killed
forgets the last KEEP_SECONDS of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from relight.clock import Clock
from relight.store.recollections import Recollection
from relight.store.store import Store

KEEP_SECONDS = 5.0
"""How often what has changed is kept."""

FORGET_DAYS = 30.0
"""What has not changed for so long is dropped when a server begins."""


class Remembers(Protocol):
    """Something that is kept so: texts by workspace and name."""

    def changes(self) -> Mapping[tuple[str, str], str]:
        """What has changed since this was last asked."""

    def restore(self, workspace: str, name: str, text: str) -> None:
        """What the server before this one had."""


class Recollections:
    """Keeps what each of `kinds` remembers, under the name of its kind."""

    def __init__(self, store: Store, clock: Clock, kinds: Mapping[str, Remembers]) -> None:
        self._store = store
        self._clock = clock
        self._kinds = kinds

    async def load(self) -> None:
        """Give back what the server before this one kept."""
        await self._store.recollections.forget(self._clock.now() - FORGET_DAYS * 86_400)
        for row in await self._store.recollections.all():
            if row.kind in self._kinds:
                self._kinds[row.kind].restore(row.workspace, row.name, row.text)

    async def run(self) -> None:
        """Keep it every few seconds, and once more when cancelled."""
        try:
            while True:
                await self._clock.sleep(KEEP_SECONDS)
                self.keep()
        finally:
            self.keep()

    def keep(self) -> None:
        """Write what has changed."""
        now = self._clock.now()
        rows = [
            Recollection(workspace=workspace, kind=kind, name=name, text=text, at=now)
            for kind, remembers in self._kinds.items()
            for (workspace, name), text in remembers.changes().items()
        ]
        if rows:
            self._store.recollections.put(rows)
