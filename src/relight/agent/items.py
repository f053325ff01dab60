"""The items that generators made here and whose readers have not taken them yet: told in order, and again on a new link.

An item may be needed after its call has ended, and been acknowledged: a server that is started anew has lost what its
readers had not asked for.  So those are kept too, but of a bounded number of calls and bytes, the latest.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from relight.protocol.calls import Token
from relight.protocol.link import CallItem

KEPT_ENDED = 64
"""Of so many calls that have ended their untaken items are kept."""

KEPT_BYTES = 64 * 1024 * 1024
"""And no more than so many bytes of them."""

Key = tuple[str, Token]


class UntakenItems:
    """By attempt: what is not known to be with its reader."""

    def __init__(self) -> None:
        self._items: dict[Key, deque[CallItem]] = {}
        self._ended: OrderedDict[Key, int] = OrderedDict()  # with their bytes
        self._untold: deque[CallItem] = deque()

    def add(self, item: CallItem) -> None:
        """One more was made."""
        self._items.setdefault((item.call, item.token), deque()).append(item)
        self._untold.append(item)

    def taken(self, key: Key, number: int) -> None:
        """Those up to `number` are with their reader."""
        items = self._items.get(key)
        while items and items[0].number <= number:
            items.popleft()
        if not items:
            self._drop(key)

    def ended(self, key: Key) -> None:
        """The end of an attempt is kept by the server."""
        items = self._items.get(key)
        if items is None:
            return
        self._ended[key] = sum(bytes_of(item) for item in items)
        while len(self._ended) > KEPT_ENDED or sum(self._ended.values()) > KEPT_BYTES:
            self._drop(next(iter(self._ended)))

    def rewind(self) -> None:
        """A new link: nothing that was told on the last one is known to be heard."""
        self._untold = deque(item for items in self._items.values() for item in items)

    @property
    def has_untold(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._untold)

    def take(self, most_bytes: int) -> tuple[CallItem, ...]:
        """What is to be told next, about so many bytes."""
        told: list[CallItem] = []
        size = 0
        while self._untold and size < most_bytes:
            item = self._untold.popleft()
            waiting = self._items.get((item.call, item.token))
            if waiting and waiting[0].number <= item.number:
                told.append(item)
                size += bytes_of(item)
        return tuple(told)

    def _drop(self, key: Key) -> None:
        self._items.pop(key, None)
        self._ended.pop(key, None)


def bytes_of(item: CallItem) -> int:
    """What an item takes of a message."""
    return len(item.payload.data or b"")
