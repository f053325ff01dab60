"""Nodes: what agents say is passed to whom it concerns, and orders find their way back.

A report is taken in its own order of importance: workers' changes, then their output, then the items and the ends of
calls, so that whoever sees a result can also read what was printed on the way to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from relight.clock import Clock
from relight.control.brakes import Brakes
from relight.control.calls import Calls
from relight.control.intake import Arrived, Intake
from relight.control.logs import Logs
from relight.control.shadows import PREFIX as SHADOW
from relight.control.shadows import Shadows, of_shadow
from relight.control.starts import Starts
from relight.control.streams import Streams
from relight.control.templates import Templates
from relight.control.usage import Usage
from relight.control.web import PREFIX as WEB
from relight.control.web import Web, of_web
from relight.control.writers import Writers
from relight.protocol import PROTOCOL
from relight.protocol.calls import CallEvent
from relight.protocol.errors import Failure, Forbidden, InvalidRequest
from relight.protocol.fitness import is_fit
from relight.protocol.link import CallEnd, Hello, Orders, Reports, Welcome
from relight.protocol.views import NodeView, Principal, Scope
from relight.protocol.workers import WorkerState, WorkerView
from relight.scheduler.leases import Lease
from relight.scheduler.loop import Scheduler
from relight.scheduler.queue import FunctionKey, WaitingCall
from relight.scheduler.state import Function, Node, Worker
from relight.store.logs import Batch
from relight.store.rows import WorkerRow
from relight.store.store import Store

SendOrders = Callable[[Orders], None]

_UNKEPT = (WEB, SHADOW)


class Nodes:
    """The machines that are, or were, linked to this server."""

    def __init__(
        self,
        store: Store,
        calls: Calls,
        streams: Streams,
        logs: Logs,
        templates: Templates,
        usage: Usage,
        web: Web,
        shadows: Shadows,
        clock: Clock,
    ) -> None:
        self._web = web
        self._shadows = shadows
        self._store = store
        self._calls = calls
        self._streams = streams
        self._logs = logs
        self._templates = templates
        self._usage = usage
        self._clock = clock
        self._links: dict[str, SendOrders] = {}
        self._clocks: dict[str, float] = {}  # how far each node's was ahead of ours when it came
        self._starts = Starts(store)
        self._brakes = Brakes(store, clock)
        self._intakes: dict[str, tuple[str, Intake]] = {}  # of each node, with its incarnation
        self._scheduler: Scheduler
        self._writers: Writers
        self._on_left: Callable[[str], None] = lambda _: None

    def tell_left(self, on_left: Callable[[str], None]) -> None:
        """Call `on_left` with each worker that is gone, once what it said last is kept."""
        self._on_left = on_left

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler
        self._writers = Writers(scheduler.worker)

    async def recover(self, workspaces: tuple[str, ...]) -> None:
        """Reckon with the workers of before this server, until their nodes say which of them are there."""
        for workspace in workspaces:
            for view in await self._store.workers.list(workspace):
                key = FunctionKey(view.version, view.function, view.binding)
                if not self._scheduler.knows(key):
                    await self._calls.heirs.recover(workspace, view)
                self._scheduler.expect(view.id, view.node, key)

    # -- from the links

    def connect(self, hello: Hello, send: SendOrders) -> Welcome:
        """A node's link is up.  Raises InvalidRequest when it speaks another protocol."""
        if hello.protocol != PROTOCOL:
            raise InvalidRequest(
                f"cannot take node {hello.node!r}: it speaks protocol {hello.protocol}, this server {PROTOCOL}; "
                "install the same version of relight on both"
            )
        self._links[hello.node] = send
        self._clocks[hello.node] = hello.now - self._clock.now() if hello.now else 0.0
        self._meet(hello)
        unknown = self._scheduler.connect(hello)
        self._templates.told(hello.node, ())
        self._streams.connected(hello.node)
        return Welcome(epoch=self._scheduler.epoch, protocol=PROTOCOL, unknown_workers=unknown)

    def report(self, node: str, reports: Reports) -> None:
        """A node says what happened."""
        if reports.logs:
            self._take_lines(node, reports)
        if reports.usage:
            self._usage.take(node, reports.usage)
        ends = self._take_back(node, reports.ends)
        for change in reports.workers:
            self._writers.note(change.worker)
            worker = self._scheduler.worker(change.worker)
            self._scheduler.worker_changed(node, change)
            if worker is not None and worker.node == node:
                self._starts.note(worker, change)
        if reports.templates:
            self._templates.told(node, reports.templates)
        if reports.held is not None:
            self._scheduler.heard(node, reports.held)
        if reports.gpus:
            for known in self._scheduler.nodes():
                if known.id == node:
                    known.note_gpus(reports.gpus)
        if reports.items:
            self._streams.told(node, reports.items)
        if ends:
            self._take_ends(node, ends)

    def disconnect(self, node: str, send: SendOrders) -> None:
        """A node's link is gone; unless another has taken its place already."""
        if self._links.get(node) == send:
            del self._links[node]
            self._scheduler.disconnect(node)

    def died(self, node: str, why: str) -> None:
        """A node's agent is known to be dead."""
        self._links.pop(node, None)
        self._scheduler.forget_node(node, why)

    def send(self, node: str, orders: Orders) -> None:
        """Give a node its orders; one that is away will say what it has when it comes back."""
        link = self._links.get(node)
        if link is not None:
            link(orders)

    def principal(self, node: str, worker: str) -> Principal:
        """Who asks when a worker does, by what its node says of it.  Raises Forbidden when that node has no such worker."""
        known = self._scheduler.worker(worker)
        if known is None or known.node != node:
            raise Forbidden(f"cannot answer worker {worker[:60]!r}: node {node!r} was not asked to start it")
        return Principal(
            workspace=known.spec.workspace,
            scope=Scope.CALL,
            environment=known.spec.environment,
            worker=known.id,
        )

    # -- what is shown

    def workers(self, workspace: str) -> tuple[WorkerView, ...]:
        """The workers of a workspace, oldest first."""
        mine = [worker for worker in self._scheduler.workers() if worker.spec.workspace == workspace]
        return tuple(worker.view() for worker in sorted(mine, key=lambda worker: worker.id))

    async def past_workers(self, workspace: str) -> tuple[WorkerView, ...]:
        """The newest 1,000 workers of a workspace, those that are gone too, oldest first."""
        return await self._store.workers.list(workspace, include_gone=True)

    def now(self) -> float:
        """What the wall clock shows here, in seconds since 1970."""
        return self._clock.now()

    def nodes(self) -> tuple[NodeView, ...]:
        """Every node."""
        return tuple(_view(node, self._clocks.get(node.id, 0.0)) for node in self._scheduler.nodes())

    # -- what the scheduler tells (`scheduler.loop.Listener`)

    def worker_entered(self, worker: Worker, detail: str) -> None:
        """A worker entered a state: its interval begins."""
        self._usage.entered(worker)
        self._web.worker_entered(worker)
        if worker.state in (WorkerState.BUSY, WorkerState.IDLE):
            workspace = worker.spec.workspace
            self._store.workers.pass_through(workspace, worker.id, worker.state, worker.since_unix)
            return
        row = WorkerRow(view=worker.view(), at=worker.since_unix, detail=detail)
        self._store.workers.record(worker.spec.workspace, [row])
        if worker.state is WorkerState.GONE:
            self._left(worker)

    def granted(self, leases: Sequence[Lease]) -> None:
        """Calls are on their way to workers."""
        leases, sessions, _ = _apart(leases)
        self._web.granted(sessions)
        self._calls.granted(leases)

    def claimed(self, leases: Sequence[Lease]) -> None:
        """Calls were given to workers."""
        leases, sessions, copies = _apart(leases)
        self._web.granted(sessions)
        self._calls.claimed(leases)
        self._streams.claimed(leases)
        for lease in (*leases, *sessions, *copies):
            worker = self._scheduler.worker(lease.worker) if lease.parked_seconds is not None else None
            if worker is not None and lease.parked_seconds is not None:
                self._starts.note_parked(worker, lease.parked_seconds, self._clock.now())

    def lost(self, leases: Sequence[Lease], why: str) -> None:
        """Calls lost their worker."""
        leases, sessions, copies = _apart(leases)
        self._web.lost(sessions)
        self._shadows.lost(copies)
        self._calls.attempts.lost(leases, why)

    def expired(self, calls: Sequence[WaitingCall], why: str) -> None:
        """Calls waited too long."""
        self._shadows.drop([call for call in calls if of_shadow(call.id)])
        self._calls.expired([call for call in calls if not of_shadow(call.id)], why)

    def cannot_start(self, calls: Sequence[WaitingCall], failure: Failure) -> None:
        """Calls wait for workers that do not start."""
        self._web.cannot_start([call for call in calls if of_web(call.id)], failure)
        self._shadows.cannot_start([call for call in calls if of_shadow(call.id)], failure)
        self._calls.cannot_start([call for call in calls if not _is_kept_by_nobody(call.id)], failure)

    def brake_changed(self, function: Function) -> None:
        """Its workers have crashed, or one is well again."""
        self._brakes.keep(function)

    def beyond_wanted(self, function: Function) -> None:
        """More calls should come from the store."""
        self._calls.beyond_wanted(function)

    def inherited(self, function: Function, calls: Sequence[WaitingCall]) -> None:
        """Calls are for the version that replaces theirs."""
        self._web.inherited([call.id for call in calls if of_web(call.id)], function.heir)
        self._shadows.drop([call for call in calls if of_shadow(call.id)])
        self._calls.heirs.inherit(function, [call for call in calls if not _is_kept_by_nobody(call.id)])

    def payload_missing(self, leases: Sequence[Lease]) -> None:
        """Calls need their payload from the store."""
        self._calls.payload_missing(leases)

    # -- inside

    def _left(self, worker: Worker) -> None:
        known = self._intakes.get(worker.node)
        if known is None:
            self._on_left(worker.id)
        else:
            known[1].when_all_kept(partial(self._on_left, worker.id))

    def _take_lines(self, node: str, reports: Reports) -> None:
        """Lines are acknowledged when they are kept; until then their node tells them again on each new link."""
        known = self._intakes.get(node)
        if known is None:
            return  # no Hello, no lines
        incarnation, intake = known
        batch = Batch(
            sender=f"{node}/{incarnation}",
            number=reports.log_batch,
            written=self._writers.written(reports.logs),
            at=self._clock.now(),
        )
        intake.take(Arrived(batch=batch, calls=frozenset(group.call for group in reports.logs if group.call)))

    def _take_back(self, node: str, ends: Sequence[CallEnd]) -> Sequence[CallEnd]:
        """Calls that were with a worker that was being started come back; the ends that are those of an attempt.

        Before the changes of workers: after them they would be calls that had begun.
        """
        for end in ends:
            if end.outcome is CallEvent.LEASE_LOST and not end.is_charged:
                return [one for one in ends if not self._is_given_back(node, one)]
        return ends

    def _is_given_back(self, node: str, end: CallEnd) -> bool:
        is_unbegun = end.outcome is CallEvent.LEASE_LOST and not end.is_charged
        if not is_unbegun or not self._scheduler.take_back(end.call, end.token):
            return False
        self._scheduler.acknowledge(node, end.call, end.token)
        return True

    def _take_ends(self, node: str, ends: Sequence[CallEnd]) -> None:
        """An end is kept, and seen, after the lines of its call.  Those of sessions and copies are not kept."""
        unkept = [end for end in ends if _is_kept_by_nobody(end.call)]
        if unkept:
            freed = {(self._web if of_web(end.call) else self._shadows).ended(node, end) for end in unkept}
            self._scheduler.refill([key for key in freed if key is not None])
            ends = [end for end in ends if not _is_kept_by_nobody(end.call)]
        known = self._intakes.get(node)
        if known is None or not known[1].holds_any(end.call for end in ends):
            self._calls.attempts.ended(node, ends)
            return
        late = [end for end in ends if known[1].holds_any((end.call,))]
        known[1].when_kept([end.call for end in late], partial(self._calls.attempts.ended, node, late))
        if len(late) < len(ends):
            self._calls.attempts.ended(node, [end for end in ends if end not in late])

    def _meet(self, hello: Hello) -> None:
        """The lines of an incarnation have their own numbers."""
        self._writers.learn(hello.workers)
        known = self._intakes.get(hello.node)
        if known is None or known[0] != hello.incarnation:
            acknowledge = partial(self._acknowledge_lines, hello.node, hello.incarnation)
            self._intakes[hello.node] = (hello.incarnation, self._logs.intake(acknowledge))

    def _acknowledge_lines(self, node: str, incarnation: str, batch: int) -> None:
        if self._intakes[node][0] == incarnation:
            self.send(node, Orders(logs_kept=batch))


def _apart(leases: Sequence[Lease]) -> tuple[Sequence[Lease], Sequence[Lease], Sequence[Lease]]:
    """The leases of calls, those of sessions, and those of copies."""
    if not any(_is_kept_by_nobody(lease.call.id) for lease in leases):
        return leases, (), ()
    calls = [one for one in leases if not _is_kept_by_nobody(one.call.id)]
    sessions = [one for one in leases if of_web(one.call.id)]
    return calls, sessions, [one for one in leases if of_shadow(one.call.id)]


def _is_kept_by_nobody(call: str) -> bool:
    """Whether what the scheduler calls a call is a session, or a copy."""
    return call.startswith(_UNKEPT)


def _view(node: Node, clock_ahead_seconds: float) -> NodeView:
    room = node.room()
    return NodeView(
        id=node.id,
        is_connected=node.is_connected,
        isolation=node.hello.isolation,
        cpu=room.cpu,
        free_cpu=room.free_cpu,
        memory_mib=room.memory_mib,
        free_memory_mib=room.free_memory_mib,
        gpus=room.gpus,
        free_gpus=tuple(gpu.id for gpu in room.free_gpus),
        workers=len(node.workers),
        gpu_use=node.gpu_use,
        is_fit=is_fit(node.hello.checks),
        checks=node.hello.checks,
        clock_ahead_seconds=clock_ahead_seconds,
    )
