"""All that is known of one call: its tries, how their workers ended, and the worker that it has or had."""

from __future__ import annotations

from dataclasses import replace

from relight.control.starts import start_for
from relight.protocol.api import CallDetail
from relight.protocol.calls import AttemptView, CallEvent, CallView
from relight.protocol.workers import WorkerInterval
from relight.store.store import Store


async def detail_of(store: Store, workspace: str, view: CallView) -> CallDetail:
    """A call as it stands, with what the store has of its tries and its worker."""
    attempts = await store.calls.attempts(workspace, view.id)
    intervals = await _intervals(store, workspace, view) if view.worker else ()
    worker = await store.workers.get(workspace, view.worker) if view.worker else None
    start = start_for(view, intervals, worker.start if worker is not None else None)
    tries = tuple([await _with_exit(store, workspace, view, attempt) for attempt in attempts])
    return CallDetail(call=view, attempts=tries, worker_intervals=tuple(intervals), start=start)


async def _with_exit(store: Store, workspace: str, view: CallView, attempt: AttemptView) -> AttemptView:
    """A try with how its worker ended: the call says so of its last, the worker itself of one that was lost."""
    if attempt.outcome == CallEvent.LEASE_LOST.value:
        worker = await store.workers.get(workspace, attempt.worker)
        return replace(attempt, exit=worker.exit if worker is not None else None)
    is_last = attempt.outcome == view.state.value and view.failure is not None
    return replace(attempt, exit=view.failure.exit) if is_last and view.failure is not None else attempt


async def _intervals(store: Store, workspace: str, view: CallView) -> tuple[WorkerInterval, ...]:
    since = view.started_at or view.submitted_at
    return await store.workers.intervals(workspace, view.worker, since=since, until=view.ended_at)
