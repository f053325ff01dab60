"""What waits of a version that another replaces at once: it is the other's, as it was asked for, under the same id.

    version A is replaced by B ─▶ A's workers end what they have        ─▶ all gone ─▶ B's workers start
                                  what waits of A is B's from then on ─────────────────────▲

What a running call of A waits for stays A's, as A could not end without it.  What B has no function for is ended.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace

from relight.control.catalog import Catalog, Version, check_method, key_of
from relight.protocol.calls import CallEvent, CallRequest, CallView
from relight.protocol.errors import Failure, InvalidRequest, NotFound
from relight.protocol.workers import WorkerView
from relight.scheduler.loop import Scheduler
from relight.scheduler.queue import FunctionKey, Standing, WaitingCall
from relight.scheduler.state import Function
from relight.store.store import Store
from relight.store.waiting import AT_ONCE, Place

EndRows = Callable[[str, Sequence[str], CallEvent, Failure], Coroutine[None, None, Sequence[CallView]]]
"""Ends calls of a workspace that wait, by their ids."""


class Heirs:
    """The way of calls from a version to the one that replaces it."""

    def __init__(
        self, store: Store, catalog: Catalog, schedule: Callable[[Sequence[WaitingCall]], None], end_rows: EndRows
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._schedule = schedule
        self._end_rows = end_rows
        self._tasks: set[asyncio.Task[None]] = set()
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    async def recover(self, workspace: str, view: WorkerView) -> None:
        """A worker was there before this server: if its version was replaced, that which came after waits for it to be gone."""
        try:
            version = await self._catalog.version(workspace, view.version, view.app, view.environment)
            bound = version.bind(view.function, view.binding)
        except (NotFound, InvalidRequest):
            return
        heir = self._catalog.heir_of(version)
        if heir:
            spec = version.worker_spec(bound)
            self._scheduler.add_function(key_of(version, bound), spec, is_superseded=True, heir=heir)

    def parents_version(self, request: CallRequest) -> Version | None:
        """The version that a call is of because one waits for it that runs in a version being replaced; None for no such."""
        lease = self._scheduler.lease(request.parent) if request.is_awaited and request.parent else None
        function = self._scheduler.function(lease.call.key) if lease is not None else None
        if function is None or not function.heir:
            return None
        spec = function.spec
        if (spec.app, spec.environment) != (request.app, request.environment):
            return None
        version = self._catalog.known(spec.workspace, spec.version)
        return version if version.manifest.function(request.function) is not None else None

    def inherit(self, function: Function, calls: Sequence[WaitingCall]) -> None:
        """These calls of a function, and what of it waits in the store alone, are its heir's from now on."""
        workspace = function.spec.workspace
        heir = self._catalog.known(workspace, function.heir)
        moved: list[WaitingCall] = []
        left: dict[str, list[str]] = {}
        for call in calls:
            key, why = _key_in(heir, call.key, call.method)
            if key is None:
                left.setdefault(why, []).append(call.id)
            else:
                moved.append(replace(call, key=key, standing=Standing.NOWHERE, last_worker=""))
        if moved:
            self._store.calls.move(workspace, [call.id for call in moved], heir.id)
            self._schedule(moved)
        for why, ids in left.items():
            self._run(self._end(workspace, ids, _failure(function, why)))
        if function.queue.beyond and not function.queue.is_refilling:
            function.queue.is_refilling = True
            self._run(self._inherit_beyond(function, heir))

    async def _inherit_beyond(self, function: Function, heir: Version) -> None:
        """Some at a time: one long write would keep every other waiting."""
        place = Place(function.spec.workspace, function.key.version, function.key.function, function.key.binding)
        key, why = _key_in(heir, function.key, None)
        try:
            while True:
                rows = await self._store.waiting.move(place, heir.id)
                counts = Counter(priority for _, priority in rows)
                self._scheduler.note_beyond(function.key, Counter({one: -count for one, count in counts.items()}))
                if key is None:
                    await self._end(place.workspace, [call for call, _ in rows], _failure(function, why))
                else:
                    self._make_known(heir, key)
                    self._scheduler.note_beyond(key, counts)
                if len(rows) < AT_ONCE:
                    function.queue.came(Counter(), is_all=True)
                    return
        finally:
            function.queue.is_refilling = False

    def _make_known(self, heir: Version, key: FunctionKey) -> None:
        if not self._scheduler.knows(key):
            self._scheduler.add_function(key, heir.worker_spec(heir.bind(key.function, key.binding)))

    async def _end(self, workspace: str, ids: Sequence[str], failure: Failure) -> None:
        await self._end_rows(workspace, ids, CallEvent.FAILED, failure)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="control.heirs")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _key_in(heir: Version, key: FunctionKey, method: str | None) -> tuple[FunctionKey | None, str]:
    """What a call of `key` is a call of in the version after it (any method: None); else why it is of nothing."""
    try:
        if method is not None:
            check_method(heir.function(key.function), method)
        return key_of(heir, heir.bind(key.function, key.binding)), ""
    except (NotFound, InvalidRequest) as error:
        return None, str(error)


def _failure(function: Function, why: str) -> Failure:
    message = (
        f"cannot start the call: version {function.key.version}, which it was for, was replaced by {function.heir}, "
        f"which cannot take it ({why}); call what there is"
    )
    return Failure(code="not_found", message=message)
