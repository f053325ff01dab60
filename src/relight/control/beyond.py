"""Calls that wait in the store alone, because the scheduler has as many of their function in memory as it should.

    submit ─ room? ─▶ in memory and in the store ─▶ dispatched
               └ no ▶ in the store, counted by priority ─ what is in memory will not last ─▶ brought

A call whose parent waits for it stays in memory: it may have to end with that at any time.  So does one of a session, which
may have to wait for one worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from relight.clock import Clock
from relight.protocol.calls import CallRequest
from relight.scheduler.loop import Scheduler
from relight.scheduler.queue import WINDOW, FunctionKey, WaitingCall
from relight.scheduler.state import Function
from relight.store.rows import Unfinished
from relight.store.store import Store
from relight.store.waiting import AT_ONCE, Place

LATE_SECONDS = 1.0
"""How often those are looked for that have waited longer than they may."""


class Beyond:
    """The way of calls out of memory, and back.  `recall` makes of a row what the scheduler takes."""

    def __init__(self, store: Store, clock: Clock, recall: Callable[[Unfinished], Awaitable[WaitingCall]]) -> None:
        self._store = store
        self._clock = clock
        self._recall = recall
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    def takes(self, key: FunctionKey, request: CallRequest, coming: int) -> bool:
        """Whether a call of this request is to wait in the store alone, where `coming` more are on their way to memory."""
        function = self._scheduler.function(key)
        if function is None or (request.is_awaited and request.parent) or request.session:
            return False
        return function.queue.goes_beyond(request.priority, coming)

    async def bring(self, function: Function) -> None:
        """Bring the next calls of a function, as many as there is room for."""
        queue, spec = function.queue, function.spec
        limit, grew = WINDOW - queue.here, queue.grew
        if limit <= 0:  # others have come meanwhile
            queue.is_refilling = False
            return
        place = Place(spec.workspace, function.key.version, function.key.function, function.key.binding)
        try:
            rows = await self._store.waiting.bring(place, limit)
            calls = [await self._recall(row) for row in rows]
        finally:
            queue.is_refilling = False  # whatever happened: the sweep asks again
        self._scheduler.bring(function.key, calls, is_all=len(rows) < limit and queue.grew == grew)

    async def run(self) -> None:
        """Bring those that are late, so that they are ended, until cancelled."""
        while True:
            await self._clock.sleep(LATE_SECONDS)
            if not self._scheduler.beyond_of():
                continue
            while rows := await self._store.waiting.bring_late(self._clock.now()):
                await self._bring_late(rows)
                if len(rows) < AT_ONCE:
                    break

    async def _bring_late(self, rows: Sequence[Unfinished]) -> None:
        late: dict[FunctionKey, list[WaitingCall]] = {}
        for row in rows:
            call = await self._recall(row)
            late.setdefault(call.key, []).append(call)
        for key, calls in late.items():
            self._scheduler.bring(key, calls, is_all=False)

    async def take(self, workspace: str, version: str, function: str = "") -> tuple[str, ...]:
        """The ids of some of the calls of a version, or of one function of it, that are to end; empty: there are no more."""
        rows = await self._store.waiting.beyond(workspace, version, function)
        counts: dict[FunctionKey, Counter[int]] = {}
        for _, name, binding, priority in rows:
            counts.setdefault(FunctionKey(version, name, binding), Counter())[int(priority)] += 1
        for key, count in counts.items():
            self._scheduler.note_beyond(key, Counter({one: -n for one, n in count.items()}))
        return tuple(row[0] for row in rows)
