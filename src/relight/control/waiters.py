"""Who waits for which call, and the ends that were seen last: a result reaches its waiter without a read.

An end is published only after it is kept, so what a waiter sees can never be taken back.
"""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from relight.protocol.calls import CallView

Look = Callable[[Sequence[str]], Awaitable[None]]
"""Looks calls up in the store, and recalls those that have ended."""

KEPT_GROUPS = 256
"""How many groups are read from memory; the others are read from the store."""

_KEPT_BYTES = 32 * 1024 * 1024
"""Ends that are answered from memory; those before them are read from the store."""

_VIEW_BYTES = 2048
"""What a view takes beside its value: measured, with its texts and its place."""


def _weight(view: CallView) -> int:
    data = view.result.data if view.result is not None else None
    return _VIEW_BYTES + len(data or b"")


class GroupFeed:
    """The ends of one group in their order, from `floor` on: earlier ones are in the store only.

    `floor` None: this server has seen no end yet, and cannot know how many there were before it started.
    """

    def __init__(self, floor: int | None) -> None:
        self.floor = sys.maxsize if floor is None else floor
        self.changes = 0
        self._views: deque[CallView] = deque()
        self._changed = asyncio.Event()

    def add(self, view: CallView) -> None:
        """One more has ended."""
        if self.floor == sys.maxsize:
            self.floor = view.sequence - 1
        self._views.append(view)
        self.wake()

    def after(self, sequence: int, limit: int) -> tuple[CallView, ...]:
        """The ends past `sequence`; those before it are forgotten, for their reader has them."""
        while self._views and self._views[0].sequence <= sequence:
            self._views.popleft()
        self.floor = max(self.floor, sequence)
        return tuple(self._views[at] for at in range(min(limit, len(self._views))))

    def wake(self) -> None:
        """Let its readers look again."""
        self.changes += 1
        self._changed.set()

    async def wait(self, changes: int) -> None:
        """Return when something has ended since there were so many `changes`: before a reader looked, say."""
        while self.changes == changes:
            self._changed.clear()
            await self._changed.wait()


class Waiters:
    """Futures by call, feeds by group."""

    def __init__(self) -> None:
        self._futures: dict[str, list[asyncio.Future[CallView | None]]] = {}
        self._groups: OrderedDict[str, GroupFeed] = OrderedDict()
        self._watches: dict[str, set[asyncio.Event]] = {}
        self._recent: OrderedDict[str, CallView] = OrderedDict()
        self._recent_bytes = 0
        self._last_sequence: int | None = None

    def publish(self, view: CallView) -> None:
        """A call has ended, and its end is kept."""
        self._last_sequence = max(self._last_sequence or 0, view.sequence)
        self.recall(view)
        feed = self._groups.get(view.group) if view.group else None
        if feed is not None:
            feed.add(view)

    def recent(self, call_id: str) -> CallView | None:
        """The end of a call, if it was seen lately."""
        return self._recent.get(call_id)

    async def wait_all(self, ids: Iterable[str], seconds: float, look: Look) -> None:
        """Return when all have ended, or after `seconds`."""
        await self._wait(ids, seconds, look, asyncio.ALL_COMPLETED)

    async def wait_any(self, ids: Iterable[str], seconds: float, look: Look) -> None:
        """Return when one has ended, or after `seconds`."""
        await self._wait(ids, seconds, look, asyncio.FIRST_COMPLETED)

    def recall(self, view: CallView) -> None:
        """A call had ended before anybody here asked for it."""
        self._remember(view)
        for future in self._futures.pop(view.id, ()):
            if not future.done():
                future.set_result(view)
        self.stir((view.id,))

    @contextmanager
    def watching(self, call_id: str) -> Iterator[asyncio.Event]:
        """An event that is set each time that something happens to a call."""
        changed = asyncio.Event()
        self._watches.setdefault(call_id, set()).add(changed)
        try:
            yield changed
        finally:
            self._watches[call_id].discard(changed)
            if not self._watches[call_id]:
                del self._watches[call_id]

    def stir(self, ids: Iterable[str]) -> None:
        """Something has happened to these calls."""
        for call_id in ids if self._watches else ():
            for changed in self._watches.get(call_id, ()):
                changed.set()

    def group(self, name: str) -> GroupFeed:
        """The feed of a group, from now on.  The one that nobody asked for longest gives way; the store has its ends."""
        feed = self._groups.get(name)
        if feed is None:
            feed = self._groups[name] = GroupFeed(self._last_sequence)
        self._groups.move_to_end(name)
        if len(self._groups) > KEPT_GROUPS:
            _, oldest = self._groups.popitem(last=False)
            oldest.wake()
        return feed

    async def _wait(self, ids: Iterable[str], seconds: float, look: Look, until: str) -> None:
        """Wait on futures, and only then look into the store: an end is seen by one or the other, never by neither."""
        futures: dict[str, asyncio.Future[CallView | None]] = {}
        for call_id in ids:
            if call_id in self._recent:
                if until == asyncio.FIRST_COMPLETED:
                    return
                continue
            future: asyncio.Future[CallView | None] = asyncio.get_running_loop().create_future()
            futures[call_id] = future
            self._futures.setdefault(call_id, []).append(future)
        try:
            if futures and seconds > 0:
                await look(tuple(futures))
                if len(futures) == 1:
                    await _wait_one(next(iter(futures.values())), seconds)
                else:
                    await asyncio.wait(futures.values(), timeout=seconds, return_when=until)
        finally:
            self._drop(futures)

    def _drop(self, futures: dict[str, asyncio.Future[CallView | None]]) -> None:
        for call_id, future in futures.items():
            waiting = self._futures.get(call_id)
            if waiting is not None and future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self._futures[call_id]

    def _remember(self, view: CallView) -> None:
        if view.id in self._recent:
            return
        self._recent[view.id] = view
        self._recent_bytes += _weight(view)
        while self._recent_bytes > _KEPT_BYTES:
            _, oldest = self._recent.popitem(last=False)
            self._recent_bytes -= _weight(oldest)


async def _wait_one(future: asyncio.Future[CallView | None], seconds: float) -> None:
    """As `asyncio.wait`, for the most usual case at a tenth of its cost."""
    timer = asyncio.get_running_loop().call_later(seconds, _give_up, future)
    try:
        await future
    finally:
        timer.cancel()


def _give_up(future: asyncio.Future[CallView | None]) -> None:
    if not future.done():
        future.set_result(None)
