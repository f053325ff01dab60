"""Nodes: what agents say is passed to whom it concerns, and orders find their way back.

A report is taken in its own order of importance: workers' changes, then their output, then the items and the ends of
calls, so that whoever sees a result can also read what was printed on the way to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relight.clock import Clock
from relight.control.calls import Calls
from relight.control.logs import Logs
from relight.control.streams import Streams
from relight.protocol import PROTOCOL
from relight.protocol.errors import Failure, InvalidRequest
from relight.protocol.link import Hello, LogLine, Orders, Reports, Welcome
from relight.protocol.views import LogRecord, NodeView
from relight.protocol.workers import WorkerView
from relight.scheduler.leases import Lease
from relight.scheduler.loop import Scheduler
from relight.scheduler.queue import WaitingCall
from relight.scheduler.state import Node, Worker
from relight.store.rows import WorkerRow
from relight.store.store import Store

SendOrders = Callable[[Orders], None]


class Nodes:
    """The machines that are, or were, linked to this server."""

    def __init__(self, store: Store, calls: Calls, streams: Streams, logs: Logs, clock: Clock) -> None:
        self._store = store
        self._calls = calls
        self._streams = streams
        self._logs = logs
        self._clock = clock
        self._links: dict[str, SendOrders] = {}
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    # -- from the links

    def connect(self, hello: Hello, send: SendOrders) -> Welcome:
        """A node's link is up.  Raises InvalidRequest when it speaks another protocol."""
        if hello.protocol != PROTOCOL:
            raise InvalidRequest(
                f"cannot take node {hello.node!r}: it speaks protocol {hello.protocol}, this server {PROTOCOL}; "
                "install the same version of relight on both"
            )
        self._links[hello.node] = send
        unknown = self._scheduler.connect(hello)
        self._streams.connected(hello.node)
        return Welcome(epoch=self._scheduler.epoch, protocol=PROTOCOL, unknown_workers=unknown)

    def report(self, node: str, reports: Reports) -> None:
        """A node says what happened."""
        records = self._records(reports.logs)
        for change in reports.workers:
            self._scheduler.worker_changed(node, change)
        for workspace in records:
            self._logs.keep(workspace, records[workspace])
        if reports.held is not None:
            self._scheduler.heard(node, reports.held)
        if reports.items:
            self._streams.told(node, reports.items)
        if reports.ends:
            self._calls.ended(node, reports.ends)

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

    # -- what is shown

    def workers(self, workspace: str) -> tuple[WorkerView, ...]:
        """The workers of a workspace, oldest first."""
        mine = [worker for worker in self._scheduler.workers() if worker.spec.workspace == workspace]
        return tuple(worker.view() for worker in sorted(mine, key=lambda worker: worker.id))

    def nodes(self) -> tuple[NodeView, ...]:
        """Every node."""
        return tuple(_view(node) for node in self._scheduler.nodes())

    # -- what the scheduler tells (`scheduler.loop.Listener`)

    def worker_entered(self, worker: Worker, detail: str) -> None:
        """A worker entered a state: its interval begins."""
        row = WorkerRow(view=worker.view(), at=worker.since_unix, detail=detail)
        self._store.workers.record(worker.spec.workspace, [row])

    def claimed(self, leases: Sequence[Lease]) -> None:
        """Calls were given to workers."""
        self._calls.claimed(leases)
        self._streams.claimed(leases)

    def lost(self, leases: Sequence[Lease], why: str) -> None:
        """Calls lost their worker."""
        self._calls.lost(leases, why)

    def expired(self, calls: Sequence[WaitingCall]) -> None:
        """Calls waited too long."""
        self._calls.expired(calls)

    def cannot_start(self, calls: Sequence[WaitingCall], failure: Failure) -> None:
        """Calls wait for workers that do not start."""
        self._calls.cannot_start(calls, failure)

    def payload_missing(self, leases: Sequence[Lease]) -> None:
        """Calls need their payload from the store."""
        self._calls.payload_missing(leases)

    # -- inside

    def _records(self, lines: Sequence[LogLine]) -> dict[str, list[LogRecord]]:
        workers = {worker.id: worker for worker in self._scheduler.workers()} if lines else {}
        records: dict[str, list[LogRecord]] = {}
        for line in lines:
            worker = workers.get(line.worker)
            if worker is not None:
                records.setdefault(worker.spec.workspace, []).append(_record(worker, line))
        return records


def _record(worker: Worker, line: LogLine) -> LogRecord:
    return LogRecord(
        at=line.at,
        app=worker.spec.app,
        environment=worker.spec.environment,
        function=worker.spec.function.name,
        worker=worker.id,
        call=line.call,
        source=line.source,
        text=line.text,
    )


def _view(node: Node) -> NodeView:
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
    )
