"""Which running calls wait for which others: their workers lend their CPU meanwhile, and circles among them are broken.

A wait lasts as long as the request that says so.  One that is asked again and again counts as one: between two requests
it lingers.  A circle must stand for a while before its calls end: what a call does beside waiting is not seen from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from relight.protocol.errors import Failure
from relight.protocol.manifest import Resources
from relight.scheduler.deadlock import Line, Picture, Runner, Stuck, Wait, find_deadlocks
from relight.scheduler.leases import Leases
from relight.scheduler.placement import Place, place
from relight.scheduler.queue import FunctionKey
from relight.scheduler.state import Function, Node, Worker

LINGER_SECONDS = 1.0
"""How long a wait that ran out of its request's time counts on, until it is asked again."""

STAND_SECONDS = 2.0
"""How long a circle must stand before it is broken."""

LOOK_SECONDS = 0.5
"""How often circles are looked for, while anything waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the scheduler knows, as it changes."""

    functions: Mapping[FunctionKey, Function]
    workers: dict[str, Worker]
    nodes: Mapping[str, Node]
    leases: Leases


@dataclass(slots=True, eq=False)
class _Asked:
    """A wait, since when; `until` is set while it lingers."""

    wait: Wait
    since: float
    until: float | None = None


class Waits:
    """Every wait of a running call."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked: dict[str, list[_Asked]] = {}
        self._looked_at = 0.0
        self._found: dict[str, tuple[float, Failure]] = {}

    def begin(self, call: str, wait: Wait, now: float) -> bool:
        """A running call waits; whether its worker lends its CPU from now.  Nothing happens when it does not run."""
        worker = self._worker_of(call)
        if worker is None:
            return False
        asked = [one for one in self._asked.get(call, ()) if one.until is None]
        since = min((one.since for one in self._asked.get(call, ())), default=now)
        self._asked[call] = [*asked, _Asked(wait, since)]
        was_lending = worker.is_lending
        worker.waiting.add(call)
        return worker.is_lending and not was_lending

    def end(self, call: str, wait: Wait, now: float, *, is_over: bool) -> None:
        """A request to wait has been answered; `is_over`: it will not be asked again at once."""
        asked = self._asked.get(call, [])
        mine = next((one for one in asked if one.wait is wait), None)
        if mine is None:
            return
        if is_over:
            asked.remove(mine)
            self._settle(call)
        else:
            mine.until = now + LINGER_SECONDS

    def reason(self, call: str) -> str:
        """Why a call that is in a circle does not start; empty when it is in none."""
        found = self._found.get(call)
        return f"deadlock: {found[1].message}" if found is not None else ""

    def why_no_worker(self, function: Function, now: float) -> str:
        """Why a call of this function has none yet, `code: sentence`."""
        if function.brake.is_on(now):
            return function.brake.why(now)
        starting = [worker for worker in function.workers.values() if worker.is_starting]
        if starting:
            return f"starting:{starting[0].state.value}: a worker is on its way"
        if function.no_place is not None:
            return function.no_place.reason
        if not any(node.is_connected for node in self._world.nodes.values()):
            return "no_node: no node is connected; start one with `relight up`"
        limit = function.scaling.max_workers
        if limit is not None and len(function.workers) >= limit:
            return f"at_max_workers: all {limit} workers are busy; raise max_workers= to run more at once"
        return "no_worker: it is next in line for a worker"

    def look(self, now: float) -> Sequence[tuple[str, FunctionKey, Failure]]:
        """Drop waits that are over; the calls that are to end because a circle of which they are part has stood."""
        for call in list(self._asked):
            kept = [one for one in self._asked[call] if one.until is None or one.until > now]
            self._asked[call] = kept
            self._settle(call)
        if not self._asked:
            self._found.clear()
            return ()
        if now - self._looked_at < LOOK_SECONDS:
            return ()
        self._looked_at = now
        found = [(call, key, one.failure) for one in self._circles(now) for call, key in one.calls]
        self._found = {call: (self._found.get(call, (now, failure))[0], failure) for call, _, failure in found}
        return [one for one in found if now - self._found[one[0]][0] >= STAND_SECONDS]

    # -- inside

    def _worker_of(self, call: str) -> Worker | None:
        lease = self._world.leases.get(call)
        return self._world.workers.get(lease.worker) if lease is not None else None

    def _settle(self, call: str) -> None:
        """Forget a call that waits for nothing any more, or does not run."""
        worker = self._worker_of(call)
        if self._asked[call] and worker is not None:
            return
        del self._asked[call]
        for one in self._world.workers.values() if worker is None else (worker,):
            one.waiting.discard(call)

    def _circles(self, now: float) -> tuple[Stuck, ...]:
        lines = [_line(one, now) for one in self._world.functions.values() if len(one.queue)]
        rooms = _Rooms(self._world)
        picture = Picture(
            runners=sorted(self._runners(), key=lambda one: self._since(one.call)),
            lines=[rooms.open_if_outside(line) for line in lines],
            fits=rooms.fits,
            leavers=[one.id for one in self._world.workers.values() if self._may_leave(one)],
        )
        return find_deadlocks(picture)

    def _runners(self) -> Iterator[Runner]:
        for lease in self._world.leases:
            waits = tuple(one.wait for one in self._asked.get(lease.call.id, ()))
            yield Runner(call=lease.call.id, key=lease.call.key, worker=lease.worker, waits=waits)

    def _since(self, call: str) -> float:
        return max((one.since for one in self._asked.get(call, ())), default=0.0)

    def _may_leave(self, worker: Worker) -> bool:
        if worker.calls:
            return False
        function = self._world.functions.get(worker.key)
        return worker.is_leaving or function is None or len(function.staying()) > function.floor()


def _line(function: Function, now: float) -> Line:
    scaling = function.scaling
    workers = function.workers.values()
    has_room = any(not one.calls or (one.width > 1 and one.takes(function.depth(), now)) for one in workers)
    will_change = function.is_stopped or function.brake.is_on(now) or has_room
    return Line(
        key=function.key,
        calls=function.queue.due(now),
        workers=[one.id for one in workers],
        max_workers=scaling.max_workers,
        is_open=will_change,
        may_grow=scaling.max_workers is None or len(workers) < scaling.max_workers,
    )


class _Rooms:
    """Whether there would be room, had some workers left."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._nodes = [node for node in world.nodes.values() if node.is_connected]
        self._may_come = len(self._nodes) < len(world.nodes) or not self._nodes
        self._everybody = frozenset(world.workers)
        self._known: dict[tuple[Resources, frozenset[str]], bool] = {}  # many functions ask for the same

    def fits(self, key: FunctionKey, gone: frozenset[str]) -> bool:
        asked = self._world.functions[key].resources
        if (asked, gone) not in self._known:
            rooms = [replace(node.room(gone=gone), starting=0) for node in self._nodes]
            self._known[asked, gone] = isinstance(place(asked, rooms), Place)
        return self._known[asked, gone]

    def open_if_outside(self, line: Line) -> Line:
        """A node that is away may bring room, and what not even empty nodes have no call's end will bring."""
        if line.is_open or not line.may_grow:
            return line
        is_outside = self._may_come or not self.fits(line.key, self._everybody)
        return replace(line, is_open=is_outside)
