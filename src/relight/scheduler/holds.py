"""Calls that go along with the order to start their worker.

    waits in its queue ─held▶ with a worker that starts ─ready▶ runs
             ▲                          │
             └──────── given back ──────┘   (the start failed, or another worker was free before it was over)

A held call has not begun.  Its claim is not kept, its attempt is not counted, and whoever asks hears that it waits for a
start.  Whether it may begin is for its node to say, so it is asked back rather than taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relight.protocol.workers import STATES
from relight.scheduler.leases import Lease
from relight.scheduler.orders import OrderBook
from relight.scheduler.state import STALL_SECONDS, Function, Worker
from relight.scheduler.waits import World


class Holds:
    """Every call that is held; `Function.held` has those of a function, the one held longest first."""

    def __init__(self, world: World, orders: OrderBook) -> None:
        self._world = world
        self._orders = orders

    def take_along(self, function: Function, worker: Worker, now: float) -> Lease | None:
        """The call that a worker is started with; None when none waits, or does better to wait for one that is up."""
        call = function.queue.pop(now) if may_hold(function) else None
        if call is None:
            return None
        if function.bound_to(call)[0]:  # it is for another worker, or for none any more
            function.queue.put_back(call)
            return None
        function.sessions.serve(call, worker.id)
        worker.calls.add(call.id)
        lease = self._world.leases.grant(call, worker.id, worker.node, now)
        self.keep(function, lease)
        return lease

    def keep(self, function: Function, lease: Lease) -> None:
        """A lease is with a worker that is being started."""
        lease.is_held = True
        function.held[lease.call.id] = lease

    def of(self, function: Function, worker: Worker) -> list[Lease]:
        """What a worker holds."""
        return [function.held[call] for call in worker.calls if call in function.held]

    def begin(self, function: Function, worker: Worker, began: float) -> list[Lease]:
        """A worker is ready, and runs what it held from that time on: which is that?"""
        leases = self.of(function, worker)
        for lease in leases:
            del function.held[lease.call.id]
            lease.is_held = lease.is_asked_back = False
            lease.granted_at = worker.moved_at = max(lease.granted_at, began)
        return leases

    def ask_back(self, function: Function, takers: int, now: float) -> int:
        """Ask back what some of so many workers with room should have instead; how many of them are to wait for that."""
        self._ask_back(to_ask_back(function, takers, now))
        return min(takers, sum(lease.is_asked_back for lease in function.held.values()))

    def ask_back_late(self, function: Function, now: float) -> None:
        """Ask back what has waited longer than it may, to end it."""
        held = function.held.values()
        self._ask_back([one for one in held if one.call.expires_at is not None and one.call.expires_at <= now])

    def _ask_back(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            if not lease.is_asked_back and self._world.nodes[lease.node].is_connected:
                lease.is_asked_back = True
                self._orders.ask_back(lease.node, lease.call.id, lease.token)

    def disconnected(self, node: str) -> None:
        """A node is away: what was asked back of it may not have been heard."""
        for function in self._world.functions.values():
            for lease in function.held.values():
                lease.is_asked_back = lease.is_asked_back and lease.node != node

    def give_back(self, leases: Sequence[Lease], now: float) -> list[Lease]:
        """Nobody has these calls any more: those that did not begin wait again, before all others.  The rest of them.

        One that was cancelled waits for nothing: it is among the rest.
        """
        rest: list[Lease] = []
        for lease in reversed(leases):
            if not lease.is_held or lease.call.is_cancelled:
                rest.append(lease)
                continue
            call, function = lease.call, self._world.functions[lease.call.key]
            function.held.pop(call.id, None)
            self._world.leases.release(call.id, lease.token)
            if lease.worker in self._world.workers:
                self._world.workers[lease.worker].calls.discard(call.id)
            call.token, call.is_again = lease.token, True
            function.queue.leave(call)
            function.queue.push(call, now)
        return rest[::-1]


def may_hold(function: Function) -> bool:
    """Whether a call does well to wait for a worker that is being started: where calls are short, one that is up is sooner."""
    return function.depth() == 1 or not any(STATES[one.state].takes_calls for one in function.workers.values())


def to_ask_back(function: Function, takers: int, now: float) -> Sequence[Lease]:
    """The held calls that one of so many workers with room should have instead, those held longest first.

    What waits in the queue is there at once, so it is given to them before what would have to come back first; unless
    that has been held for so long that its start is a slow one: it waited before they did.
    """
    asked = [lease for lease in function.held.values() if not lease.is_asked_back]
    takers -= len(function.held) - len(asked)
    if takers <= 0 or not asked:
        return ()
    late = sum(now - lease.granted_at >= STALL_SECONDS for lease in asked)
    return asked[: max(min(late, takers), takers - function.queue.ready(now), 0)]
