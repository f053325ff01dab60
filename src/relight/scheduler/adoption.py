"""What a node has when it comes, or comes back: workers that go on, and calls whose claims are older than this scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relight.protocol.calls import Token
from relight.protocol.link import HeldWorker, WorkerSpec
from relight.protocol.workers import WorkerState
from relight.scheduler.holds import Holds
from relight.scheduler.leases import Claimed, Lease
from relight.scheduler.orders import OrderBook
from relight.scheduler.queue import FunctionKey
from relight.scheduler.state import Function, Node, Worker
from relight.scheduler.waits import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """Takes over what is there.  `add` makes a binding of a function known, `begin` has a worker begin what it held."""

    world: World
    orders: OrderBook
    holds: Holds
    add: Callable[[Function, FunctionKey, WorkerSpec], Function]
    begin: Callable[[Function, Worker, float], None]
    claimed: Callable[[Sequence[Lease]], None]

    def adopt(self, node: Node, held: HeldWorker, now: float) -> bool:
        """Take over a worker that a node has, and its calls; False when nobody here knows how to use it."""
        key = FunctionKey(held.spec.version, held.spec.function.name, held.spec.binding)
        function = self.world.functions.get(key) or self._binding(key, held.spec)
        if function is None or function.is_stopped:
            return False
        worker = node.workers.get(held.worker) or Worker(
            id=held.worker,
            node=node.id,
            key=key,
            spec=held.spec,
            state=held.state,
            since=now,
            asked_at=now,
            since_unix=held.since,
            isolation=held.isolation,
            sandbox=held.sandbox,
            start=held.start,
            appetite=function.appetite,
        )
        worker.state, worker.credit, worker.moved_at = held.state, held.credit, now
        worker.is_parked, worker.was_ready = held.state is WorkerState.READY, not worker.is_starting
        worker.calls = {
            call
            for call, token, attempt in held.calls
            if self._adopt_call(function, worker, (call, token, attempt), now)
        }
        node.workers[worker.id] = self.world.workers[worker.id] = function.workers[worker.id] = worker
        if not worker.is_starting:
            self.begin(function, worker, now)  # it was ready while its node was away
        if worker.is_leaving and held.state is not WorkerState.DRAINING:
            self.orders.stop(node.id, worker.id, now=False)  # while its node was away nobody heard it
        return True

    def _binding(self, key: FunctionKey, spec: WorkerSpec) -> Function | None:
        """A binding that nobody here knows yet; None when nobody wants it."""
        deployed = self.world.functions.get(key._replace(binding=""))
        return None if deployed is None or deployed.is_stopped else self.add(deployed, key, spec)

    def _adopt_call(self, function: Function, worker: Worker, claim: tuple[str, Token, int], now: float) -> bool:
        """Take over a claim from before this scheduler began; False when the call is no longer that worker's.

        One under a newer token than is known was granted when the end of that before it was not kept yet.
        """
        call_id, token, attempt = claim
        lease = self.world.leases.get(call_id)
        if lease is not None and lease.token == token:
            lease.renewed_at = now
            if lease.call.is_cancelled:
                self.orders.cancel(worker.node, call_id, token)  # while its node was away nobody heard it
            return True
        call = lease.call if lease is not None else function.queue.get(call_id)
        newest = lease.token if lease is not None else call.token if call is not None else None
        if call is None or (newest is not None and token <= newest):
            self.orders.cancel(worker.node, call_id, token)
            return False
        if lease is not None and lease.worker in self.world.workers:
            self.world.workers[lease.worker].calls.discard(call_id)
            self.orders.cancel(lease.node, call_id, lease.token)  # two servers gave it to one worker each
        function.queue.remove(call_id)
        function.held.pop(call_id, None)
        known = Claimed(token=token, worker=worker.id, node=worker.node, attempt=attempt)
        adopted = self.world.leases.adopt(call, known, now)
        if lease is None:
            function.queue.hold(call)
        function.sessions.serve(call, worker.id)
        if worker.is_starting:
            self.holds.keep(function, adopted)
        else:
            self.claimed([adopted])
        return True
