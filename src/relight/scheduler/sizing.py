"""As many workers as the autoscaler says: starts them where there is room, and lets the idle ones go.

A worker that has a call is never let go here.  Where there are more than there may be (the ceiling was lowered, a node came
back with what it had), those that are free leave at once, and the others when they have ended what they run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from relight.clock import Clock
from relight.protocol.ids import new_id
from relight.protocol.link import StartWorker
from relight.protocol.manifest import Resources
from relight.protocol.workers import WorkerState
from relight.scheduler.holds import Holds
from relight.scheduler.leases import Lease
from relight.scheduler.listener import Listener
from relight.scheduler.orders import OrderBook
from relight.scheduler.placement import NoPlace, Place, Quota, over_quota, place
from relight.scheduler.queue import FunctionKey, WaitingCall
from relight.scheduler.sessions import session_lost
from relight.scheduler.state import Function, Worker
from relight.scheduler.succession import Successions
from relight.scheduler.waits import World
from relight.scheduler.yielding import give_way


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """Acts on decisions.  `send` gives leases their way to workers that are being started."""

    world: World
    clock: Clock
    orders: OrderBook
    listener: Listener
    holds: Holds
    successions: Successions
    quota: Quota
    send: Callable[[Sequence[Lease]], None]

    def scale(self, function: Function) -> float | None:
        """Start what is missing; after how many seconds to look again though nothing happens, None for never."""
        now = self.clock.monotonic()
        if function.is_stopped or function.brake.is_on(now):
            return None
        decision = function.autoscaler.decide(function.observe(now, self.clock.now()))
        function.no_place = None
        for _ in range(function.missing(decision.workers)):
            is_buffer = function.counted() >= decision.needed  # it takes what is free and nobody waits for, and no more
            if is_buffer and any(one.lacks_room for one in self.world.functions.values() if one is not function):
                break
            where = self._place(function)
            if isinstance(where, NoPlace):
                if not is_buffer:
                    function.no_place = where
                    self._make_room(function, where)
                break
            self._start(function, where)
        return decision.again_seconds

    def stop_idle(self, function: Function, now: float) -> None:
        """Let those go that have been idle for long enough, as far as there are more than there should be."""
        free = [one for one in function.workers.values() if one.is_free and one.state is not WorkerState.BUSY]
        window = function.scaling.scaledown_window_seconds
        idle = [one for one in free if now - one.since >= window]
        if not idle:
            return
        idle.sort(key=lambda one: (one.is_parked, one.since))  # a buffer is of workers that were never used
        most = function.autoscaler.may_leave(function.observe(now, self.clock.now()), len(idle))
        for worker in idle[:most]:
            function.autoscaler.left(now)
            self.let_go(worker, now=False)

    def trim(self, function: Function) -> None:
        """Let free workers go, however short they have been idle, while there are more than there may be."""
        ceiling = function.scaling.max_workers
        if ceiling is None or len(function.workers) <= ceiling:
            return
        free = sorted((one for one in function.workers.values() if one.is_free), key=lambda one: one.since)
        for worker in free[: max(0, len(function.staying()) - ceiling)]:
            self.let_go(worker, now=False)

    def let_go(self, worker: Worker, *, now: bool) -> None:
        """Have a worker leave when it has ended what it has, or `now`."""
        if not worker.is_leaving or now:
            worker.is_leaving = True
            self.leave_sessions(worker)
            self.orders.stop(worker.node, worker.id, now=now)

    def hand_over(self, function: Function) -> bool:
        """What waits is for the version after it, but for what its own running calls wait for; whether nothing else is left.

        Then its workers leave, each when it has ended what it has.
        """
        calls = [call for call in function.queue if not self._is_for_its_own(call)]
        calls = [call for call in calls if function.queue.remove(call.id)]
        if calls or function.queue.beyond:
            self.listener.inherited(function, calls)
        if function.queue.here or any(self._is_for_its_own(lease.call) for lease in function.held.values()):
            return False
        for worker in list(function.workers.values()):
            self.let_go(worker, now=False)
        return True

    def leave_sessions(self, worker: Worker) -> None:
        """What waits for this worker alone waits in vain."""
        function = self.world.functions.get(worker.key)
        self.lose_sessions(function.lose_pinned(worker.id) if function is not None else ())

    def lose_sessions(self, calls: Sequence[WaitingCall]) -> None:
        """The workers that alone might have run these calls are gone."""
        for call in calls:
            self.listener.cannot_start([call], session_lost(call))

    def enter(self, worker: Worker, state: WorkerState, *, at: float | None = None, detail: str = "") -> None:
        """A worker entered a state, at seconds since 1970 where that is told."""
        worker.state = state
        worker.since = self.clock.monotonic()
        worker.since_unix = max(worker.since_unix, self.clock.now() if at is None else at)
        self.listener.worker_entered(worker, detail)

    def fitting(self, resources: Resources) -> tuple[tuple[str, ...], str]:
        """The nodes that could take such a worker, were they empty; and why, where there is none."""
        rooms = [node.empty_room() for node in self.world.nodes.values() if node.is_connected]
        nodes = tuple(room.node for room in rooms if isinstance(place(resources, [room]), Place))
        found = place(resources, rooms)
        return nodes, found.reason if isinstance(found, NoPlace) else ""

    # -- inside

    def _is_for_its_own(self, call: WaitingCall) -> bool:
        """Whether a call that runs in the same version waits for this one."""
        parent = self.world.leases.get(call.parent) if call.is_awaited and call.parent else None
        return parent is not None and parent.call.key.version == call.key.version

    def _place(self, function: Function) -> Place | NoPlace:
        asked, spreads = function.spec.function.resources, function.scaling.spreads
        before = self.successions.why(function.spec)
        if before is not None:
            return before
        if self.quota != Quota():
            mine = [one for one in self.world.workers.values() if one.spec.workspace == function.spec.workspace]
            refusal = over_quota(asked, [one.spec.function.resources for one in mine], self.quota)
            if refusal is not None:
                return refusal
        like: FunctionKey | None = function.key if spreads else None
        nodes = [node for node in self.world.nodes.values() if node.is_connected]
        return place(
            function.resources, [node.room(template=function.template, like=like) for node in nodes], spreads=spreads
        )

    def _start(self, function: Function, where: Place) -> None:
        has_gpu = bool(where.gpus or where.gpu_share)
        spec = replace(function.spec, gpus=where.gpus, gpu_share=where.gpu_share) if has_gpu else function.spec
        worker = Worker(
            id=new_id("worker", int(self.clock.now() * 1000)),
            node=where.node,
            key=function.key,
            spec=spec,
            state=WorkerState.REQUESTED,
            since=self.clock.monotonic(),
            since_unix=self.clock.now(),
            asked_at=self.clock.monotonic(),
            appetite=function.appetite,
        )
        function.workers[worker.id] = self.world.workers[worker.id] = worker
        self.world.nodes[where.node].workers[worker.id] = worker
        self.listener.worker_entered(worker, "")
        self.enter(worker, WorkerState.PLACING)
        self.orders.start(where.node, StartWorker(worker=worker.id, spec=spec))
        lease = self.holds.take_along(function, worker, self.clock.monotonic())
        if lease is not None:
            self.listener.granted([lease])
            self.send([lease])

    def _make_room(self, function: Function, refusal: NoPlace) -> None:
        """Let idle workers of other functions go, if the one that is wanted would fit then."""
        if refusal.reason.startswith("starting"):
            return  # as many start at once as may: that is no matter of who is there
        if not refusal.is_for_now or any(worker.is_leaving for worker in self.world.workers.values()):
            return
        if refusal.reason.startswith("quota"):
            return self._make_quota(function)
        for worker in give_way(function, tuple(self.world.nodes.values()), self.world.functions):
            self.let_go(worker, now=False)

    def _make_quota(self, function: Function) -> None:
        """The workspace may have no more: the worker of it that has been idle longest, and that no floor keeps, goes."""
        others = [one for one in self.world.functions.values() if one is not function]
        mine = [one for one in others if one.spec.workspace == function.spec.workspace]
        spare = [
            worker
            for one in mine
            if len(one.staying()) > one.floor()
            for worker in one.workers.values()
            if worker.is_free
        ]
        for worker in sorted(spare, key=lambda one: one.since)[:1]:
            self.let_go(worker, now=False)
