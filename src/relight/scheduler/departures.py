"""The ends of workers: what their function learns of them, and what becomes of the calls that they had.

GONE, as its node says ─▶ a crash holds up the next starts; what it held for its start waits again
not there any more     ─▶ the same, without a word of why: its node lost it, or was lost
silent for a lease     ─▶ told to leave at once; its call is another's
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relight.clock import Clock
from relight.protocol.exits import NODE_LOST
from relight.protocol.link import WorkerChange
from relight.protocol.workers import WorkerState
from relight.scheduler.brake import Brake
from relight.scheduler.holds import Holds
from relight.scheduler.leases import Lease
from relight.scheduler.listener import Listener
from relight.scheduler.sizing import Sizing
from relight.scheduler.state import Function, Node, Worker
from relight.scheduler.waits import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Departures:
    """Sees to what is left behind.  No start is held up for longer than `longest_backoff_seconds`."""

    world: World
    clock: Clock
    listener: Listener
    holds: Holds
    sizing: Sizing
    longest_backoff_seconds: float

    def gone(self, function: Function, worker: Worker, change: WorkerChange) -> None:
        """A node says that a worker has ended."""
        now, before = self.clock.monotonic(), function.brake
        if not worker.is_leaving:
            function.note_crash(worker, change, now, self.longest_backoff_seconds)
        self.sizing.enter(worker, WorkerState.GONE, at=change.at, detail=change.detail)
        self._forget(worker)
        self.holds.give_back(self.holds.of(function, worker), now)
        if function.brake != before:
            self.set_brake(function, function.brake)
        is_failed_start = not (worker.is_leaving or worker.was_ready)
        if is_failed_start and function.has_given_up and function.brake.failure is not None:
            self.listener.cannot_start(function.queue.take_all(), function.brake.failure)

    def missing(self, worker: Worker) -> None:
        """A worker is not there any more, and nobody says why."""
        worker.exit = NODE_LOST
        self.sizing.enter(worker, WorkerState.GONE, detail="its node does not have it any more")
        self._forget(worker)

    def all_missing(self, node: Node) -> None:
        """A node has none of its workers any more."""
        for worker in list(node.workers.values()):
            self.missing(worker)

    def silent(self, leases: Sequence[Lease], why: str) -> None:
        """Their nodes have not spoken of these for too long."""
        for lease in leases:
            worker = self.world.workers.get(lease.worker)
            if worker is not None:
                worker.calls.discard(lease.call.id)
                self.sizing.let_go(worker, now=True)
        self.lose(leases, why)

    def lose(self, leases: Sequence[Lease], why: str) -> None:
        """Nobody has these calls any more: those that did not begin wait on, the others are the listener's."""
        lost = self.holds.give_back(leases, self.clock.monotonic())
        for lease in lost:
            if lease.call.key in self.world.functions:
                self.world.functions[lease.call.key].queue.leave(lease.call)
        if lost:
            self.listener.lost(lost, why)

    def set_brake(self, function: Function, brake: Brake) -> None:
        """From now on this holds up its starts; what comes after this server has to know of it."""
        function.brake = brake
        self.listener.brake_changed(function)

    def _forget(self, worker: Worker) -> None:
        self.sizing.leave_sessions(worker)
        self.world.workers.pop(worker.id, None)
        if worker.node in self.world.nodes:
            self.world.nodes[worker.node].workers.pop(worker.id, None)
        function = self.world.functions.get(worker.key)
        if function is not None:
            function.workers.pop(worker.id, None)
            function.metrics.forget(worker.id)
