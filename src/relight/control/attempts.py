"""Attempts that end: judged, kept, and then told; what is to be tried again waits anew.

a node tells it, or is lost ─▶ what it means (`control.ends`) ─▶ kept, if its claim is the newest ─▶ told, acknowledged
                                                             └─▶ tried again, and what it waited for goes
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial

from relight.clock import Clock
from relight.control.catalog import Catalog
from relight.control.ends import SUCCESS, Ending, Verdict, judge
from relight.control.streams import Streams
from relight.protocol.calls import CallEvent, CallView, Token
from relight.protocol.errors import Failure
from relight.protocol.exits import NODE_LOST
from relight.protocol.link import CallEnd
from relight.scheduler.leases import Lease
from relight.scheduler.loop import Scheduler
from relight.scheduler.queue import WaitingCall
from relight.store.calls import KeptEnds
from relight.store.rows import Claim, End
from relight.store.store import Store

_log = logging.getLogger("relight.control")

KEEP_AGAIN_SECONDS = 1.0
"""After how long an end that could not be kept is tried again."""

Judged = list[tuple[Lease, CallEnd, End]]
"""Leases that are over, what the node said of each, and what is kept of it."""

_AGAIN = (CallEvent.LEASE_LOST, CallEvent.RETRIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """What an end leads to: calls that run `again`, children nobody waits for, a view that is told, work of its own."""

    again: Callable[[Sequence[WaitingCall]], None]
    cancel_children: Callable[[str], None]
    publish: Callable[[CallView], None]
    run: Callable[[Coroutine[None, None, None]], None]


class Attempts:
    """The ends of attempts, as nodes tell them."""

    def __init__(self, store: Store, catalog: Catalog, clock: Clock, streams: Streams, after: After) -> None:
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._streams = streams
        self._after = after
        self._ending: set[tuple[str, Token]] = set()
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    def ended(self, node: str, ends: Sequence[CallEnd]) -> None:
        """Attempts ended on a node.  Each is acknowledged once it is kept, or at once when it means nothing."""
        judged: defaultdict[str, Judged] = defaultdict(Judged)
        for end in ends:
            if (end.call, end.token) in self._ending:
                continue  # told again while the first is being kept
            has_run = end.outcome is CallEvent.SUCCEEDED or end.seconds > 0  # else it tells nothing of that worker
            lease = self._scheduler.release(end.call, end.token, end.seconds if has_run else None, end.cpu_us)
            if lease is None:
                self._scheduler.acknowledge(node, end.call, end.token)
                continue
            self._ending.add((end.call, end.token))
            judged[lease.call.workspace].append((lease, end, self._judge(lease, end)))
        for workspace, rows in judged.items():
            self._keep_ends(node, workspace, rows)
        self._scheduler.refill({lease.call.key for rows in judged.values() for lease, _, _ in rows})

    def lost(self, leases: Sequence[Lease], why: str) -> None:
        """The scheduler took leases back: their node or their worker is gone."""
        judged: defaultdict[str, Judged] = defaultdict(Judged)
        for lease in leases:
            failure = Failure(code="worker_lost", message=why, exit=NODE_LOST)
            end = CallEnd(
                call=lease.call.id,
                token=lease.token,
                outcome=CallEvent.LEASE_LOST,
                worker=lease.worker,
                failure=failure,
            )
            judged[lease.call.workspace].append((lease, end, self._judge(lease, end)))
        for workspace, rows in judged.items():
            self._keep_ends("", workspace, rows)

    def _judge(self, lease: Lease, end: CallEnd) -> End:
        verdict = SUCCESS if end.outcome is CallEvent.SUCCEEDED else self._verdict(lease, end)
        now = self._clock.now()
        return End(
            claim=claim_of(lease, self._clock),
            event=verdict.event,
            result=end.result if verdict.event is CallEvent.SUCCEEDED else None,
            failure=verdict.failure,
            at=now,
            not_before=now + verdict.delay_seconds,
            is_charged=end.is_charged,
            items=end.items or self._streams.made(end.call),
            used_us=end.used_us,
            tokens_in=end.tokens_in,
            tokens_out=end.tokens_out,
        )

    def _verdict(self, lease: Lease, end: CallEnd) -> Verdict:
        key = lease.call.key
        function = self._catalog.known(lease.call.workspace, key.version).bind(key.function, key.binding).function
        ending = Ending(
            event=end.outcome,
            attempt=lease.attempt if end.is_charged else lease.attempt - 1,
            failure=end.failure,
            is_cancelled=lease.call.is_cancelled,
            is_charged=end.is_charged,
            delivered=self._streams.delivered(end.call),
        )
        return judge(ending, function.retries)

    def _keep_ends(self, node: str, workspace: str, rows: Judged) -> None:
        self._write_ends(node, workspace, rows)
        for lease, _, row in rows:
            if row.event is not CallEvent.SUCCEEDED:
                self._after.cancel_children(lease.call.id)
        again = [self._again(lease, row) for lease, _, row in rows if row.event in _AGAIN]
        if again:
            self._streams.restart([lease for lease, _, row in rows if row.event in _AGAIN])
            self._after.again(again)

    def _write_ends(self, node: str, workspace: str, rows: Judged) -> None:
        self._store.calls.end(workspace, [row for _, _, row in rows], partial(self._on_kept, node, rows))

    async def _keep_later(self, node: str, rows: Judged) -> None:
        """The disk is full, say: until these ends are kept nobody is told of them, and their node holds them too."""
        await self._clock.sleep(KEEP_AGAIN_SECONDS)
        for row in rows:
            self._write_ends(node, row[0].call.workspace, [row])

    def _again(self, lease: Lease, row: End) -> WaitingCall:
        delay = max(0.0, row.not_before - self._clock.now())
        attempts = lease.attempt if row.is_charged else lease.attempt - 1
        return replace(
            lease.call,
            attempts=attempts,
            not_before=self._clock.monotonic() + delay,
            expires_at=None,
            is_again=True,
            token=lease.token,
        )

    def _on_kept(self, node: str, rows: Judged, kept: KeptEnds) -> None:
        error = kept.exception()
        if error is not None:
            _log.error("ends of calls not kept", extra={"calls": len(rows), "why": str(error)})
            self._after.run(self._keep_later(node, rows))
            return
        for view in kept.result():  # whoever waits for it first: nobody waits for the acknowledgement
            if view is not None and view.state.is_final:
                self._after.publish(view)
        for lease, end, _ in rows:
            self._ending.discard((end.call, end.token))
            if node:
                self._scheduler.acknowledge(lease.node, end.call, end.token)


def claim_of(lease: Lease, clock: Clock) -> Claim:
    """A lease as it is kept: by whom and since when its call is run."""
    held_seconds = clock.monotonic() - lease.granted_at
    return Claim(
        call=lease.call.id,
        token=lease.token,
        attempt=lease.attempt,
        worker=lease.worker,
        node=lease.node,
        at=clock.now() - held_seconds,
    )
