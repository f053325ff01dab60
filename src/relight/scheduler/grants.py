"""Which waiting call goes to which worker: those of a session to its own, all others to who is to have the next."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from relight.scheduler.holds import Holds
from relight.scheduler.leases import Lease, Leases
from relight.scheduler.queue import WaitingCall
from relight.scheduler.state import Function, Worker


@dataclass(slots=True)
class Granted:
    """What one look at a function's queue came to: leases, and calls whose session is gone."""

    leases: list[Lease] = field(default_factory=list)
    lost: list[WaitingCall] = field(default_factory=list)


class Grants:
    """Gives calls to workers that are up."""

    def __init__(self, leases: Leases, holds: Holds) -> None:
        self._leases = leases
        self._holds = holds

    def admit(self, function: Function, call: WaitingCall, now: float) -> bool:
        """Let a call wait for any worker, or for the one that has its session; False where that is gone."""
        worker, is_there = function.bound_to(call)
        if worker and not is_there:
            function.sessions.lose(call.session)
            return False
        function.queue.push(call, now)
        if worker:
            function.queue.pin(call, worker)
        return True

    def give(self, function: Function, now: float) -> Granted:
        """Leases for calls that wait, each with the worker that is to have it."""
        granted = Granted()
        depth, target = function.depth(), function.spec.function.target_width
        takers = [(one.preference(target), one) for one in function.workers.values() if one.takes(depth, now)]
        heapq.heapify(takers)
        for _ in range(self._holds.ask_back(function, len(takers), now) if function.held else 0):
            heapq.heappop(takers)  # it is for one that comes back
        if function.queue.has_pinned and takers:
            takers = self._give_pinned(function, [one for _, one in takers], granted, now)
        while takers and (call := function.queue.pop(now)) is not None:
            worker = self._choose(function, call, takers, granted) if call.session else takers[0][1]
            if worker is None:
                continue
            granted.leases.append(self._lease(function, worker, call, now))
            if worker is not takers[0][1]:  # it is somewhere in the heap
                takers = [(one.preference(target), one) for _, one in takers if one.takes(depth, now)]
                heapq.heapify(takers)
            elif worker.takes(depth, now):
                heapq.heapreplace(takers, (worker.preference(target), worker))
            else:
                heapq.heappop(takers)
        return granted

    def _give_pinned(
        self, function: Function, workers: list[Worker], granted: Granted, now: float
    ) -> list[tuple[tuple[int, int, bool, str], Worker]]:
        depth, target = function.depth(), function.spec.function.target_width
        for worker in workers:
            while worker.takes(depth, now) and (call := function.queue.pop_pinned(worker.id, now)) is not None:
                granted.leases.append(self._lease(function, worker, call, now))
        takers = [(one.preference(target), one) for one in workers if one.takes(depth, now)]
        heapq.heapify(takers)
        return takers

    def _choose(
        self,
        function: Function,
        call: WaitingCall,
        takers: list[tuple[tuple[int, int, bool, str], Worker]],
        granted: Granted,
    ) -> Worker | None:
        """The worker that has the call's session, or any where it is soft, or begins; None for a call that waits, or is lost."""
        known = function.sessions.worker_of(call)
        own = next((one for _, one in takers if one.id == known), None)
        if own is not None or not (known and call.is_strict):
            return own or takers[0][1]
        if function.bound_to(call)[1]:
            function.queue.pin(call, known)
        else:
            function.sessions.lose(call.session)
            function.queue.leave(call)
            granted.lost.append(call)
        return None

    def _lease(self, function: Function, worker: Worker, call: WaitingCall, now: float) -> Lease:
        if not worker.calls:
            worker.moved_at = now
        worker.calls.add(call.id)
        lease = self._leases.grant(call, worker.id, worker.node, now)
        function.sessions.serve(call, worker.id)
        if worker.is_parked:
            lease.parked_seconds = max(0.0, now - call.due_at)
            worker.is_parked = False
        return lease
