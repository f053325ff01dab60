"""The queue of a function as its operator sees it: what waits and for what, an end to it, and what came to nothing."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from relight.clock import now_ms
from relight.control.calls import Calls
from relight.control.catalog import Catalog, Version
from relight.control.tunings import Name, Tunings
from relight.protocol.api import Submit
from relight.protocol.ids import new_id
from relight.protocol.manifest import Json
from relight.protocol.scaleviews import DeadView, QueueView
from relight.scheduler.loop import Scheduler
from relight.store.store import Store
from relight.store.waiting import AT_ONCE

_LOOKED_AT = 1000
"""Of so many waiting calls it is told what they wait for."""


class Queues:
    """The queues of every workspace."""

    def __init__(self, store: Store, catalog: Catalog, calls: Calls, tunings: Tunings) -> None:
        self._store = store
        self._catalog = catalog
        self._calls = calls
        self._tunings = tunings
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    async def show(self, name: Name) -> QueueView:
        """What waits of a function, and for what.  Raises NotFound."""
        version = await self._find(name)
        functions = self._scheduler.functions_of(version.id, name[3])
        priorities: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        for function in functions:
            priorities.update(str(call.priority) for call in function.queue)
            priorities.update({str(one): count for one, count in function.queue.beyond.items()})
            for call in islice(function.queue, _LOOKED_AT):
                reasons[self._scheduler.why_waiting(call.id, call.key).partition(":")[0]] += 1
        _, dead = await self._store.waiting.dead(name, 0)
        return QueueView(
            waiting=sum(len(function.queue) + len(function.held) for function in functions),
            running=sum(
                len(one.calls) for function in functions for one in function.workers.values() if not one.is_starting
            ),
            is_paused=any(function.queue.is_paused for function in functions),
            in_memory=sum(function.queue.here + len(function.held) for function in functions),
            priorities=dict[str, Json](priorities.items()),
            reasons=dict[str, Json](reasons.items()),
            dead=dead,
        )

    async def pause(self, name: Name, *, is_paused: bool) -> QueueView:
        """Let no call of a function begin, until it is resumed; those that run go on.  Raises NotFound."""
        await self._tunings.pause(name, is_paused=is_paused)
        return await self.show(name)

    async def purge(self, name: Name) -> int:
        """End all calls of a function that wait; how many that were.  Raises NotFound."""
        return await self._calls.purge(name[0], await self._find(name), name[3])

    async def dead(self, name: Name, limit: int) -> DeadView:
        """Its calls that came to nothing and were not made once more, the oldest first.  Raises NotFound."""
        await self._find(name)
        calls, count = await self._store.waiting.dead(name, limit)
        return DeadView(calls=calls, dead=count)

    async def rerun(self, name: Name, limit: int) -> tuple[str, ...]:
        """Make up to `limit` of them once more, to the function as it is deployed now; the ids of the new calls.

        Each is made once, whoever else asks at the same time.  Raises NotFound.
        """
        await self._find(name)
        made: list[str] = []
        while len(made) < limit:
            views, _ = await self._store.waiting.dead(name, min(AT_ONCE, limit - len(made)))
            again = [call for view in views if (call := await self._again(name[0], view.id))]
            made += again
            if not again:
                break
        return tuple(made)

    async def _again(self, workspace: str, call: str) -> str:
        """The id of the call that is made of a dead one; "" when somebody else made it, or it is kept no longer."""
        rerun = new_id("call", now_ms())
        request = await self._store.calls.request(workspace, call, rerun)
        if request is None or not await self._store.waiting.note_rerun(workspace, call, rerun):
            return ""
        await self._calls.submit(workspace, Submit(calls=(request,), is_quiet=True))
        return rerun

    async def _find(self, name: Name) -> Version:
        workspace, app, environment, function = name
        version = (await self._catalog.route(workspace, app, environment)).stable
        version.function(function)
        return version
