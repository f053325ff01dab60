"""What the node's workers used, told until it is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from relight.protocol.usage import UsageRecord

Key = tuple[str, int]
"""What names a record: the worker, and its number."""

MOST_AT_ONCE = 500
"""So many records go into one report."""


class UnkeptUsage:
    """Records, in the order in which they were sealed: each is told, again on a new link, and forgotten once it is kept."""

    def __init__(self) -> None:
        self._records: dict[Key, UsageRecord] = {}
        self._untold: deque[Key] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether all is kept."""
        return not self._records

    def add(self, record: UsageRecord) -> None:
        """One more to tell."""
        key = (record.worker, record.n)
        self._records[key] = record
        self._untold.append(key)

    def take(self) -> tuple[UsageRecord, ...]:
        """Those that are to be told now."""
        keys = [self._untold.popleft() for _ in range(min(len(self._untold), MOST_AT_ONCE))]
        return tuple(self._records[key] for key in keys if key in self._records)

    def kept(self, keys: Iterable[Key]) -> None:
        """The server has these."""
        for key in keys:
            self._records.pop(key, None)

    def rewind(self) -> None:
        """A new link: what was told on the last one may not have been heard."""
        self._untold = deque(self._records)
