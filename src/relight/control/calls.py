"""Calls: taken in, waited for, shown, cancelled, ended.

A call may be dispatched while its record commits; nobody hears that it was taken, or how it ended, before the record is
in.  The scheduler tells this room what it found out (`scheduler.loop.Listener`), the nodes' reports bring the ends
(`control.attempts`).
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import compress

from relight.clock import Clock
from relight.control.attempts import After, Attempts, claim_of
from relight.control.beyond import Beyond
from relight.control.bindings import Bound
from relight.control.catalog import Catalog, Version, check_method, key_of
from relight.control.detail import detail_of
from relight.control.ends import CANCELLED, PURGED, STOPPED
from relight.control.families import Awaited, Families
from relight.control.heirs import Heirs
from relight.control.keys import Keys
from relight.control.newness import Newness
from relight.control.requests import Taken, check_request, patience, recovered_call, waiting_call
from relight.control.shadows import Shadows
from relight.control.streams import Streams
from relight.control.waiters import Waiters
from relight.protocol.api import MAX_WAIT_SECONDS, Await, CallDetail, CallViews, Cancel, Items, ReadItems, Submit
from relight.protocol.calls import CallEvent, CallKey, CallRequest, CallState, CallView
from relight.protocol.errors import Conflict, Failure, NotFound
from relight.protocol.ids import is_id
from relight.protocol.views import CallPlace, CallQuery
from relight.scheduler.leases import Claimed, Lease
from relight.scheduler.loop import Scheduler
from relight.scheduler.queue import FunctionKey, WaitingCall
from relight.scheduler.state import Function
from relight.store.rows import Claim, EndQueued, NewCall, Unfinished
from relight.store.store import Store

LOOK_SECONDS = 1.0
"""How often who follows a call hears of what is told to nobody: the reason for which it waits, say."""

GROUP_PAGE = 1000
"""How many ends of a group one answer holds at most."""

Claims = list[Claim]

TREE_CALLS = 10_000
TREE_DEPTH = 200
"""How much of a tree is shown; what reads JSON seldom goes much deeper."""


class Calls:
    """Every call of every workspace."""

    def __init__(self, store: Store, catalog: Catalog, clock: Clock, streams: Streams, shadows: Shadows) -> None:
        self._shadows = shadows
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._streams = streams
        self._waiters = Waiters()
        self._families = Families()
        self._keys = Keys(store, clock)
        self._newness = Newness(since_ms=int(clock.now() * 1000))
        self._reads: set[asyncio.Task[None]] = set()
        after = After(again=self._schedule, cancel_children=self._cancel_children, publish=self._publish, run=self._run)
        self.attempts = Attempts(store, catalog, clock, streams, after)
        self.beyond = Beyond(store, clock, self._recall_row)
        self.heirs = Heirs(store, catalog, self._schedule, self._end_rows)
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler, which was built with this as its listener."""
        self._scheduler = scheduler
        self.attempts.use(scheduler)
        self.beyond.use(scheduler)
        self.heirs.use(scheduler)

    # -- what callers ask

    async def submit(self, workspace: str, submit: Submit, *, worker: str = "") -> CallViews:
        """Keep calls and start them; then wait up to `wait_seconds` for all of them to end.  `worker` asks, if one does.

        Raises NotFound or InvalidRequest before anything is kept, Conflict when an id was used before.
        """
        asked = self._families.adopt(self._scheduler, worker, submit.calls)
        if submit.is_again:
            there = await self._store.calls.existing(workspace, [request.id for request in asked])
            asked = tuple(request for request in asked if request.id not in there)
        already = await self._take(workspace, asked, submit)
        if already and not submit.is_again:
            raise Conflict(f"cannot submit call {min(already)}: the id was used before; make a new one for each call")
        if submit.is_quiet:
            return CallViews(calls=())
        ids = [request.id for request in submit.calls]
        seconds = min(submit.wait_seconds, MAX_WAIT_SECONDS)
        look = partial(self._recall, workspace) if submit.is_again else _all_are_new
        if not worker:
            await self._waiters.wait_all(ids, seconds, look)
            return CallViews(calls=await self._views(workspace, ids))
        awaited = Awaited(worker=worker, seconds=submit.wait_seconds, calls=ids, needs_all=True)
        with self._families.asking(self._scheduler, awaited) as asking:
            await self._waiters.wait_all(ids, seconds, look)
            views = await self._views(workspace, ids)
            asking.is_over = all(view.state.is_final for view in views)
        return CallViews(calls=views)

    async def submit_once(
        self,
        workspace: str,
        request: CallRequest,
        key: CallKey | None,
        *,
        wait_seconds: float = 0.0,
        worker: str = "",
    ) -> CallView:
        """Keep a call and start it, unless its key stands for another: then that one.  Raises KeyReused beside the rest.

        One without a key is waited for, `wait_seconds` at most.
        """
        if key is None:
            submit = Submit(calls=(request,), wait_seconds=wait_seconds)
            return (await self.submit(workspace, submit, worker=worker)).calls[0]
        (asked,) = self._families.adopt(self._scheduler, worker, (request,))
        taken = await self._admit(workspace, asked, Counter(), returns=False)
        self._check_space([taken.key])
        named = await self._keys.keep(workspace, key, taken.row)
        if named.is_new and taken.call is None:
            self._note_beyond([taken], 1)
        elif named.is_new and taken.call is not None:
            self._newness.take(workspace, taken.call.id)
            self._schedule([taken.call])
        if named.is_new:
            self._shadows.copy(workspace, (asked,))
        return await self._find(workspace, named.call)

    async def named(self, workspace: str, key: CallKey) -> CallView | None:
        """The call that a key stands for; None when that is none, or it is not kept any more.  Raises KeyReused."""
        call_id = await self._keys.named(workspace, key)
        view = None if call_id is None else await self._store.calls.get(workspace, call_id)
        return None if view is None else self._explained(view)

    async def follow(self, workspace: str, call_id: str) -> AsyncIterator[CallView]:
        """A call as it stands now, and each time that it stands otherwise; its end is the last.  Raises NotFound."""
        told: tuple[object, ...] = ()
        with self._waiters.watching(call_id) as changed:
            while True:
                changed.clear()
                view = await self._find(workspace, call_id)
                stands = (view.state, view.worker, view.attempts, view.pending_reason.partition(": ")[0])
                if stands != told:
                    told = stands
                    yield view
                if view.state.is_final:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await changed.wait()

    async def wait(self, workspace: str, query: Await, *, worker: str = "") -> CallViews:
        """Wait for one of `ids`, or for more of `group` than its end number `after`; then say where they stand."""
        awaited = Awaited(
            worker=worker, seconds=query.wait_seconds, calls=query.ids, group=query.group, caller=query.caller
        )
        with self._families.asking(self._scheduler, awaited) as asking:
            answer = await self._wait(workspace, query, min(query.wait_seconds, MAX_WAIT_SECONDS))
            asking.is_over = any(view.state.is_final for view in answer.calls)
        return answer

    async def _wait(self, workspace: str, query: Await, seconds: float) -> CallViews:
        if query.group:
            return await self._wait_group(workspace, query, seconds)
        await self._waiters.wait_any(query.ids, seconds, partial(self._recall, workspace))
        return CallViews(calls=await self._views(workspace, query.ids))

    async def items(self, workspace: str, query: ReadItems, *, worker: str = "") -> Items:
        """The items of a generator after number `taken`; waits for one.  Raises NotFound, Conflict."""
        awaited = Awaited(worker=worker, seconds=query.wait_seconds, calls=(query.call,))
        with self._families.asking(self._scheduler, awaited) as asking:
            answer = await self._streams.read(workspace, query, partial(self._find, workspace))
            asking.is_over = bool(answer.items) or answer.call.state.is_final
        return answer

    async def tree(self, workspace: str, call_id: str) -> tuple[CallView, ...]:
        """A call and those that came of it, oldest first: the nearest TREE_CALLS down to TREE_DEPTH.  Raises NotFound."""
        views = await self._store.calls.tree(workspace, call_id, limit=TREE_CALLS, depth=TREE_DEPTH)
        return tuple(map(self._explained, views)) if views else (await self._find(workspace, call_id),)

    async def show(self, workspace: str, call_id: str) -> CallDetail:
        """All that is known of a call.  Raises NotFound."""
        return await detail_of(self._store, workspace, await self._find(workspace, call_id))

    async def list(self, workspace: str, query: CallQuery) -> tuple[CallView, ...]:
        """Calls, newest first."""
        return tuple(self._explained(view) for view in await self._store.calls.list(workspace, query))

    async def cancel(self, workspace: str, call_id: str) -> CallView:
        """Cancel a call: at once when it waits; a running one is told, and ends when it obeys or is killed."""
        view = await self._find(workspace, call_id)
        if view.state.is_final:
            return view
        key = FunctionKey(view.version, view.function, view.binding)
        found = self._scheduler.cancel(call_id, key)
        if isinstance(found, WaitingCall):
            await self._end_queued([found], CallEvent.CANCELLED, CANCELLED)
        elif found is None:
            await self._end_beyond(workspace, {call_id: key})
        return await self._find(workspace, call_id)

    async def unfinished(self, workspace: str, named: Cancel) -> tuple[CallPlace, ...]:
        """Those of the calls named, and of their group, that wait or run; the others need no cancelling."""
        return await self._store.calls.unfinished_of(workspace, named.ids, named.group)

    async def cancel_all(self, workspace: str, calls: Sequence[CallPlace]) -> int:
        """Cancel calls, as `cancel` does; how many had not ended by then."""
        keys = {call.id: FunctionKey(call.version, call.function, call.binding) for call in calls}
        found = {call_id: self._scheduler.cancel(call_id, key) for call_id, key in keys.items()}
        waiting = [one for one in found.values() if isinstance(one, WaitingCall)]
        failure = CANCELLED
        await self._end_queued(waiting, CallEvent.CANCELLED, failure)
        others = await self._end_beyond(workspace, {one: keys[one] for one, held in found.items() if held is None})
        return others + sum(one is not None for one in found.values())

    async def _end_beyond(self, workspace: str, keys: Mapping[str, FunctionKey]) -> int:
        """Cancel calls that the scheduler does not have, if they wait in the store alone; how many do.

        One that is brought at this moment may be in memory by the time that it has ended: it leaves that too.
        """
        ended = await self._end_rows(workspace, list(keys), CallEvent.CANCELLED, CANCELLED) if keys else ()
        for view in ended:
            key = FunctionKey(
                view.version, view.function, view.binding
            )  # another's by now, where its version was replaced
            if self._scheduler.cancel(view.id, key) is None:
                self._scheduler.lose_beyond(key)
        return len(ended)

    async def cancel_version(self, version: str) -> int:
        """Cancel all that waits or runs of a version; how many that is."""
        unfinished = [one for one in self._scheduler.unfinished(version) if is_id(one[0], "call")]
        found = [self._scheduler.cancel(call_id, key) for call_id, key in unfinished]
        waiting = [one for one in found if isinstance(one, WaitingCall)]
        await self._end_queued(waiting, CallEvent.CANCELLED, STOPPED)
        beyond = 0
        if self._scheduler.beyond_of(version):
            workspace = self._catalog.workspace_of(version)
            while ids := await self.beyond.take(workspace, version):
                beyond += len(await self._end_rows(workspace, ids, CallEvent.CANCELLED, STOPPED))
        return beyond + sum(one is not None for one in found)

    async def purge(self, workspace: str, version: Version, name: str) -> int:
        """End all calls of a function that wait; how many that were.  Those that run go on."""
        purged = 0
        for function in self._scheduler.functions_of(version.id, name):
            calls = [call for call in function.queue if is_id(call.id, "call")]
            found = [self._scheduler.cancel(call.id, call.key) for call in calls]
            mine = [one for one in found if isinstance(one, WaitingCall)]
            await self._end_queued(mine, CallEvent.CANCELLED, PURGED)
            purged += len(mine)
        while ids := await self.beyond.take(workspace, version.id, name):
            purged += len(await self._end_rows(workspace, ids, CallEvent.CANCELLED, PURGED))
        return purged

    # -- taking calls in

    async def _take(self, workspace: str, requests: Sequence[CallRequest], submit: Submit) -> AbstractSet[str]:
        """Keep and start calls; the ids that were used before, which stay as they were."""
        if not requests:
            return frozenset()
        is_awaited = submit.wait_seconds > 0
        coming: Counter[FunctionKey] = Counter()
        taken = [
            await self._admit(workspace, request, coming, returns=is_awaited or submit.needs_results)
            for request in requests
        ]
        self._check_space(one.key for one in taken)
        beyond = {one.row.request.id: one for one in taken if one.call is None}
        waiting = [one.call for one in taken if one.call is not None]
        committed = self._store.calls.submit(workspace, [one.row for one in taken], is_awaited=is_awaited)
        is_new = [self._newness.take(workspace, call.id) for call in waiting]
        self._schedule(list(compress(waiting, is_new)))
        self._note_beyond(beyond.values(), 1)
        self._shadows.copy(workspace, requests)
        already = await asyncio.shield(committed)  # who asked may hang up, and the call is kept all the same
        self._note_beyond([beyond[one] for one in beyond.keys() & already], -1)
        later = [call for call, new in zip(waiting, is_new, strict=True) if not new and call.id not in already]
        if later:
            self._schedule(later)
        return already

    async def _admit(
        self, workspace: str, request: CallRequest, coming: Counter[FunctionKey], *, returns: bool
    ) -> Taken:
        """A call as it is kept and as it waits, beside those that are `coming` to memory.  Raises when it cannot be."""
        route = await self._catalog.route(workspace, request.app, request.environment)
        parents = self.heirs.parents_version(request) or self._shadows.parents_version(request, route)
        version = parents or route.of(request.session or request.id)
        bound = self._check(version, request, returns=returns)
        kept = request if request.binding == bound.text else replace(request, binding=bound.text)
        key, now, limit = key_of(version, bound), self._clock.now(), patience(request, bound)
        is_beyond = self.beyond.takes(key, request, coming[key])
        row = NewCall(
            request=kept,
            version=version.id,
            at=now,
            expires_at=None if limit is None else now + limit,
            is_beyond=is_beyond,
        )
        if is_beyond:
            return Taken(key=key, row=row)
        coming[key] += 1
        call = waiting_call(request, version, bound, self._clock, behind=self._scheduler.waiting(key))
        if call.is_strict and not self._scheduler.knows_session(call.key, call.session):
            call.last_worker = await self._store.calls.session_worker(workspace, kept)
        return Taken(key=key, row=row, call=call)

    def _note_beyond(self, calls: Iterable[Taken], more: int) -> None:
        counts: defaultdict[FunctionKey, Counter[int]] = defaultdict(Counter)
        for one in calls:
            counts[one.key][one.row.request.priority] += more
        for key, count in counts.items():
            self._scheduler.note_beyond(key, count)

    def _check_space(self, keys: Iterable[FunctionKey]) -> None:
        """Raise LimitExceeded, before anything is kept, where more would wait than may."""
        for key, count in Counter(keys).items():
            self._scheduler.check_space(key, count)

    def _check(self, version: Version, request: CallRequest, *, returns: bool) -> Bound:
        check_request(request)
        check_method(version.function(request.function), request.method, returns=returns)
        bound = version.bind(request.function, request.binding)
        key = key_of(version, bound)
        if not self._scheduler.knows(key):
            self._scheduler.check_room(key)
            self._add_function(version, bound)
        return bound

    def _add_function(self, version: Version, bound: Bound) -> None:
        is_superseded, heir = not self._catalog.is_current(version), self._catalog.heir_of(version)
        spec = self._catalog.worker_spec(version, bound)
        self._scheduler.add_function(key_of(version, bound), spec, is_superseded=is_superseded, heir=heir)

    def _schedule(self, calls: Sequence[WaitingCall]) -> None:
        """Hand calls to the scheduler, which may have forgotten a binding while nothing of it waited."""
        for call in calls:
            if not self._scheduler.knows(call.key):
                version = self._catalog.known(call.workspace, call.key.version)
                self._add_function(version, version.bind(call.key.function, call.key.binding))
            self._families.add(call)
        self._scheduler.submit(calls)

    async def _recall_row(self, row: Unfinished) -> WaitingCall:
        """A call that waited in the store alone, as the scheduler takes it."""
        version = await self._catalog.version(row.workspace, row.version, row.app, row.environment)
        bound = version.bind(row.function, row.binding)
        if not self._scheduler.knows(key_of(version, bound)):
            self._add_function(version, bound)
        call = recovered_call(row, version, bound, self._clock)
        call.token = row.token
        self._families.add(call)
        return call

    async def recover(self) -> int:
        """Take over the calls that a server before this one left; how many there are."""
        unfinished = await self._store.calls.unfinished()
        waiting = []
        for row in unfinished:
            version = await self._catalog.version(row.workspace, row.version, row.app, row.environment)
            bound = version.bind(row.function, row.binding)
            self._add_function(version, bound)
            call = recovered_call(row, version, bound, self._clock)
            self._families.add(call)
            if row.state is CallState.RUNNING and row.token is not None:
                call.attempts = row.attempts
                claim = Claimed(token=row.token, worker=row.worker, node=row.node, attempt=row.attempts + 1)
                self._scheduler.restore(call, claim)
            else:
                call.token = row.token
                waiting.append(call)
        self._scheduler.submit(waiting)
        beyond = await self._recover_beyond()
        for parent in self._families.parents():
            if self._scheduler.lease(parent) is None:
                await self._cancel_orphans(parent)
        return len(unfinished) + beyond

    async def _recover_beyond(self) -> int:
        lines = await self._store.waiting.lines()
        for line in lines:
            version = await self._catalog.version(line.workspace, line.version, line.app, line.environment)
            bound = version.bind(line.function, line.binding)
            self._add_function(version, bound)
            self._scheduler.note_beyond(key_of(version, bound), Counter(dict(line.counts)))
        return sum(count for line in lines for _, count in line.counts)

    async def _cancel_orphans(self, parent: str) -> None:
        """A call that had made others has ended: unless it succeeded, those it waited for go too.

        One that waits may be with a worker whose claim was not kept; if it is run anew, they go then (`granted`).
        """
        for workspace in {child.workspace for child in self._families.awaited_of(parent)}:
            view = await self._store.calls.get(workspace, parent)
            if view is not None and view.state not in (CallState.SUCCEEDED, CallState.QUEUED):
                self._cancel_children(parent)

    def _cancel_children(self, parent: str) -> None:
        children = [child for child in self._families.awaited_of(parent) if not child.is_cancelled]
        found = [self._scheduler.cancel(child.id, child.key) for child in children]
        waiting = [one for one in found if isinstance(one, WaitingCall)]
        if waiting:
            why = (
                f"cannot finish the call: the call that waited for it, {parent}, has ended; spawn what shall outlive it"
            )
            self._run(self._end_queued(waiting, CallEvent.CANCELLED, Failure(code="cancelled", message=why)))

    def _publish(self, view: CallView) -> None:
        """A call has ended, and that is kept: whoever waits for it hears so."""
        self._families.remove(view.id)
        self._waiters.publish(view)
        self._streams.ended(view)
        self._shadows.call_ended(view)

    # -- what the scheduler tells

    def granted(self, leases: Sequence[Lease]) -> None:
        """Calls are on their way to workers: what attempts before these waited for goes, and what these make stays."""
        for lease in leases:
            if self._families.has(lease.call.id) and lease.token.epoch == self._scheduler.epoch:
                self._cancel_children(lease.call.id)

    def claimed(self, leases: Sequence[Lease]) -> None:
        """Calls run."""
        claims: defaultdict[str, Claims] = defaultdict(Claims)
        for lease in leases:
            claims[lease.call.workspace].append(claim_of(lease, self._clock))
        for workspace, rows in claims.items():
            self._store.calls.claim(workspace, rows)
        self._waiters.stir(lease.call.id for lease in leases)

    def expired(self, calls: Sequence[WaitingCall], why: str) -> None:
        """Calls waited longer than `queue_timeout`."""
        message = (
            f"cannot start the call: it waited longer than its queue_timeout, last for {why}; raise queue_timeout="
        )
        failure = Failure(code="expired", message=message)
        self._run(self._end_queued(calls, CallEvent.EXPIRED, failure))

    def cannot_start(self, calls: Sequence[WaitingCall], failure: Failure) -> None:
        """Workers for these calls failed to start again and again."""
        self._run(self._end_queued(calls, CallEvent.FAILED, failure))

    def beyond_wanted(self, function: Function) -> None:
        """What waits of a function in memory will not last."""
        self._run(self.beyond.bring(function))

    def payload_missing(self, leases: Sequence[Lease]) -> None:
        """Calls whose payload was not kept in memory are about to run."""
        self._run(self._deliver(leases))

    async def _deliver(self, leases: Sequence[Lease]) -> None:
        for workspace in {lease.call.workspace for lease in leases}:
            mine = [lease for lease in leases if lease.call.workspace == workspace]
            payloads = await self._store.calls.payload(workspace, [lease.call.id for lease in mine])
            for lease in mine:
                self._scheduler.deliver(lease, payloads[lease.call.id])
                self._streams.sent(lease)

    async def _end_queued(self, calls: Sequence[WaitingCall], event: CallEvent, failure: Failure) -> None:
        by_workspace: defaultdict[str, list[str]] = defaultdict(list)
        for call in calls:
            by_workspace[call.workspace].append(call.id)
        for workspace, ids in by_workspace.items():
            await self._end_rows(workspace, ids, event, failure)

    async def _end_rows(
        self, workspace: str, ids: Sequence[str], event: CallEvent, failure: Failure
    ) -> Sequence[CallView]:
        """End those of these calls that wait; they, as they are then."""
        now = self._clock.now()
        rows = [EndQueued(call=one, event=event, failure=failure, at=now) for one in ids]
        ended = [view for view in await self._store.calls.end_queued(workspace, rows) if view is not None]
        for view in ended:
            self._publish(view)
        return ended

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="control.calls")
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)

    # -- how they stand

    async def _wait_group(self, workspace: str, query: Await, seconds: float) -> CallViews:
        end = self._clock.monotonic() + seconds
        while True:
            feed = self._waiters.group(query.group)
            changes = feed.changes
            if query.after >= feed.floor:
                views = feed.after(query.after, GROUP_PAGE)
            else:
                views = tuple(await self._store.calls.group_ended(workspace, query.group, query.after, GROUP_PAGE))
            left = end - self._clock.monotonic()
            if views or left <= 0:
                return CallViews(
                    calls=views, group_reason="" if views else await self._why_group(workspace, query.group)
                )
            try:
                async with asyncio.timeout(left):
                    await feed.wait(changes)
            except TimeoutError:
                continue

    async def _why_group(self, workspace: str, group: str) -> str:
        oldest = await self._store.calls.group_oldest(workspace, group)
        return self._explained(oldest).pending_reason if oldest is not None else ""

    async def _views(self, workspace: str, ids: Sequence[str]) -> tuple[CallView, ...]:
        """Each call as it stands; those that ended lately without a read."""
        recent = {call_id: view for call_id in ids if (view := self._waiters.recent(call_id)) is not None}
        missing = [call_id for call_id in ids if call_id not in recent]
        stored = await self._store.calls.existing(workspace, missing) if missing else {}
        lost = [call_id for call_id in missing if call_id not in stored]
        if lost:
            raise NotFound(
                f"cannot find call {lost[0]!r}: it is not kept here, or no longer; check the id and the server"
            )
        return tuple(recent[one] if one in recent else self._explained(stored[one]) for one in ids)

    async def _recall(self, workspace: str, ids: Sequence[str]) -> None:
        for view in (await self._store.calls.existing(workspace, ids)).values():
            if view.state.is_final:
                self._waiters.recall(view)

    async def _find(self, workspace: str, call_id: str) -> CallView:
        return (await self._views(workspace, [call_id]))[0]

    def _explained(self, view: CallView) -> CallView:
        """A call as it is now: with the reason for which it waits, or with its worker though the claim is not kept yet."""
        if view.state is not CallState.QUEUED:
            return view
        lease = self._scheduler.lease(view.id)
        if lease is not None and not lease.is_held:
            return replace(
                view, state=CallState.RUNNING, worker=lease.worker, started_at=claim_of(lease, self._clock).at
            )
        reason = self._scheduler.why_waiting(view.id, FunctionKey(view.version, view.function, view.binding))
        return replace(view, pending_reason=reason or "no_worker: it is about to start")


async def _all_are_new(ids: Sequence[str]) -> None:
    """Calls that were submitted a moment ago cannot have ended before."""
