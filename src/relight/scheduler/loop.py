"""The scheduler: reacts to what happens, and sweeps for what did not.

A call that is submitted, a worker that becomes ready and a call that ends are acted on at once, in the same turn of the
event loop; the sweep only looks for silence: leases that ran out, calls that waited too long, workers idle too long.
One central queue for each function; a worker is given a call only when it has credit for it.

    submit, end, ready ─▶ pump ─▶ grants      which call goes to which worker ─▶ sending
                               └▶ sizing      as many workers as `autoscale` says, where `placement` finds room
    a worker ends, or its node ─▶ departures  its calls wait again ─▶ pump
    a node comes ─▶ adoption                  what it still has;  preparations: templates that it is to make
    asked ─▶ census                           what there is, and why a call waits

What is here is the order in which these happen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from relight.clock import Clock
from relight.protocol.calls import Token
from relight.protocol.errors import LimitExceeded
from relight.protocol.link import GrantItems, Hello, WorkerChange, WorkerSpec
from relight.protocol.manifest import Resources
from relight.protocol.payload import Payload
from relight.protocol.templates import TemplateOutcome
from relight.protocol.workers import WorkerState
from relight.scheduler.adoption import Adoption
from relight.scheduler.alarms import Alarms
from relight.scheduler.blocks import Blocks
from relight.scheduler.brake import LONGEST_SECONDS, Brake
from relight.scheduler.census import Census
from relight.scheduler.deadlock import Wait
from relight.scheduler.departures import Departures
from relight.scheduler.grants import Grants
from relight.scheduler.holds import Holds
from relight.scheduler.leases import Claimed, Lease, Leases
from relight.scheduler.listener import Listener
from relight.scheduler.orders import OrderBook
from relight.scheduler.placement import Quota
from relight.scheduler.preparations import Preparations
from relight.scheduler.queue import FunctionKey, WaitingCall
from relight.scheduler.sending import Sending
from relight.scheduler.sizing import Sizing
from relight.scheduler.space import check_space
from relight.scheduler.state import Function, Node, Tuner, Worker, as_deployed
from relight.scheduler.succession import Successions
from relight.scheduler.waits import Waits, World

MAX_BINDINGS = 1000
"""So many values of parameters and options may be in use at once; each has workers of its own."""

SHORTEST_SECONDS = 0.002
"""So long at least between two looks at what was to be looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The scheduler's durations, in seconds."""

    lease_seconds: float
    sweep_seconds: float
    longest_backoff_seconds: float = LONGEST_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is asked beside what was deployed: how much a workspace may use, how many calls may wait in all (None: no
    bound), and what was said of functions since."""

    quota: Quota = field(default_factory=Quota)
    max_waiting: int | None = None
    tuner: Tuner = as_deployed


class Scheduler(Census):
    """Decides which worker runs which call, and how many workers there are."""

    def __init__(
        self,
        epoch: int,
        timing: Timing,
        clock: Clock,
        orders: OrderBook,
        listener: Listener,
        policy: Policy | None = None,
    ) -> None:
        self._timing = timing
        self._policy = policy or Policy()
        self._orders = orders
        self._listener = listener
        self._leases = Leases(epoch, timing.lease_seconds)
        self._functions: dict[FunctionKey, Function] = {}
        self._workers: dict[str, Worker] = {}
        self._nodes: dict[str, Node] = {}
        self._brakes: dict[FunctionKey, Brake] = {}  # of functions that nobody has asked for yet
        world = World(functions=self._functions, workers=self._workers, nodes=self._nodes, leases=self._leases)
        super().__init__(world, Waits(world), Blocks(), clock)
        self._preparations = Preparations(self._nodes, orders)
        self._sending = Sending(self._leases, orders, listener)
        self._holds = Holds(world, orders)
        self._grants = Grants(self._leases, self._holds)
        self._sizing = Sizing(
            world=world,
            clock=clock,
            orders=orders,
            listener=listener,
            holds=self._holds,
            successions=Successions(world),
            quota=self._policy.quota,
            send=self._sending.send,
        )
        self._departures = Departures(
            world=world,
            clock=clock,
            listener=listener,
            holds=self._holds,
            sizing=self._sizing,
            longest_backoff_seconds=timing.longest_backoff_seconds,
        )
        self._adoption = Adoption(
            world=world,
            orders=orders,
            holds=self._holds,
            add=self._add_binding,
            begin=self._begin_held,
            claimed=listener.claimed,
        )
        self._alarms = Alarms()
        self._total = 0
        self._enter, self._let_go = self._sizing.enter, self._sizing.let_go
        self.epoch = epoch

    # -- functions

    def add_function(self, key: FunctionKey, spec: WorkerSpec, *, is_superseded: bool = False, heir: str = "") -> None:
        """Make a function known; nothing happens when it is already.  A superseded one keeps no worker for its own sake."""
        if key not in self._functions:
            brake = self._brakes.pop(key, Brake())
            function = Function(key=key, spec=spec, is_superseded=is_superseded, heir=heir, brake=brake)
            self._functions[key] = function
            self._tune(function)
            self._scale(function)

    def _add_binding(self, deployed: Function, key: FunctionKey, spec: WorkerSpec) -> Function:
        """What the scheduler before this one knew of a binding, from a worker that it has."""
        function = Function(key=key, spec=replace(spec, gpus=(), gpu_share=1.0), is_superseded=deployed.is_superseded)
        self._functions[key], function.heir = function, deployed.heir
        self._tune(function)
        return function

    def retune(self) -> None:
        """What is asked of functions has changed since they were deployed."""
        for function in list(self._functions.values()):
            if self._tune(function):
                self._pump(function)

    def _tune(self, function: Function) -> bool:
        tuning = self._policy.tuner(function.spec)
        if function.tuning == tuning:
            return False
        function.tune(tuning)
        function.look_at_clock(self._clock.now())
        return True

    def restore_brakes(self, brakes: Mapping[FunctionKey, Brake]) -> None:
        """Hold up what the scheduler before this one held up; before any function is added."""
        self._brakes = dict(brakes)

    def prepare(self, specs: Iterable[WorkerSpec]) -> None:
        """Have every node make templates of these workers, before a call needs one."""
        self._preparations.prepare(specs)

    def templates_changed(self, node_id: str, outcomes: Iterable[TemplateOutcome]) -> None:
        """A node says what became of its templates."""
        self._preparations.changed(node_id, outcomes)

    def check_room(self, key: FunctionKey) -> None:
        """Raise LimitExceeded when so many bindings are in use that no other can be taken."""
        if key.binding and sum(bool(one.binding) for one in self._functions) >= MAX_BINDINGS:
            raise LimitExceeded(
                f"cannot call {key.function}: {MAX_BINDINGS:,} different values of parameters or options are in use; "
                "wait until some of them have no calls and workers left, or pass what differs as an argument"
            )

    def report(self, key: FunctionKey, worker: str, values: dict[str, float]) -> None:
        """A worker of a function says how much there is of something; "" for whoever is none."""
        function = self._functions.get(key)
        if function is not None:
            function.metrics.report(worker, values, self._clock.monotonic())
            self._pump(function)

    def check_space(self, key: FunctionKey, more: int) -> None:
        """Raise LimitExceeded when so many more calls of a function would be more than may wait."""
        check_space(self._functions[key], more, self._total, self._policy.max_waiting)

    def stop_version(self, version: str, *, now: bool) -> list[WaitingCall]:
        """Start nothing of a version any more, and let its workers leave; the calls that waited for them."""
        waiting = []
        for function in self._functions.values():
            if function.key.version == version:
                function.is_stopped = True
                waiting += function.queue.take_all()
                for worker in list(function.workers.values()):
                    self._let_go(worker, now=now)
        self._preparations.forget(version)
        for node in self._nodes.values():
            self._orders.forget(node.id, version)
        return waiting

    def supersede_version(self, version: str) -> None:
        """Another version has taken its place: finish what waits, keep no worker for its own sake."""
        self._preparations.forget(version)
        for function in self._functions.values():
            if function.key.version == version:
                function.is_superseded = True
                for worker in [one for one in function.workers.values() if one.is_parked and one.is_free]:
                    self._let_go(worker, now=False)

    def replace_version(self, version: str, heir: str) -> None:
        """Another version has taken its place, and begins when its workers have ended what they have: what waits is for that."""
        self.supersede_version(version)
        for function in [one for key, one in self._functions.items() if key.version == version]:
            function.heir = heir
            self._pump(function)

    def serve_version(self, version: str, *, is_alone: bool = False) -> None:
        """A name leads to it (again): what it keeps for its own sake is kept; `is_alone`: no worker of another is beside it."""
        if is_alone:
            self._sizing.successions.begin(version)
        for function in list(self._functions.values()):
            if function.key.version == version and function.is_superseded:
                function.is_superseded, function.heir = False, ""
                self._scale(function)

    def fitting(self, resources: Resources) -> tuple[tuple[str, ...], str]:
        """The nodes that could take such a worker, were they empty; and why, where there is none."""
        return self._sizing.fitting(resources)

    def expect(self, worker: str, node: str, key: FunctionKey) -> None:
        """A worker that the scheduler before this one had: it counts until its node says what it has, or is given up."""
        if key in self._functions:
            self._functions[key].expected[worker] = (node, self._clock.monotonic() + self._timing.lease_seconds)

    # -- calls

    def restore(self, call: WaitingCall, claim: Claimed) -> None:
        """Take over a call that ran when the server before this one ended; its lease is extended once."""
        self._leases.adopt(call, claim, self._clock.monotonic())
        self._functions[call.key].queue.hold(call)

    def submit(self, calls: Sequence[WaitingCall]) -> None:
        """Take calls in, and give them to workers that are free now.  Their functions must be known."""
        now = self._clock.monotonic()
        self._sizing.lose_sessions(
            [call for call in calls if not self._grants.admit(self._functions[call.key], call, now)]
        )
        for key in {call.key for call in calls}:
            self._pump(self._functions[key])

    def note_beyond(self, key: FunctionKey, counts: Counter[int]) -> None:
        """So many more calls of each priority, or fewer, wait in the store alone."""
        function = self._functions.get(key)
        if function is not None:
            function.queue.note_beyond(counts)
            self._pump(function)

    def lose_beyond(self, key: FunctionKey) -> None:
        """A call that waited in the store alone has ended."""
        if key in self._functions:
            self._functions[key].queue.lose_beyond()

    def bring(self, key: FunctionKey, calls: Sequence[WaitingCall], *, is_all: bool) -> None:
        """Calls that waited in the store alone; `is_all`: no other does."""
        function, now = self._functions[key], self._clock.monotonic()
        function.queue.came(Counter(call.priority for call in calls), is_all=is_all)
        self._sizing.lose_sessions([call for call in calls if not self._grants.admit(function, call, now)])
        self._pump(function)

    def cancel(self, call_id: str, key: FunctionKey) -> WaitingCall | Lease | None:
        """Take a waiting call out, or tell a running one's worker to stop it; None when it is neither."""
        function = self._functions.get(key)
        waiting = function.queue.remove(call_id) if function is not None else None
        if waiting is not None:
            return waiting
        lease = self._leases.get(call_id)
        if lease is not None:
            lease.call.is_cancelled = True
            self._orders.cancel(lease.node, call_id, lease.token)
        return lease

    def release(
        self, call_id: str, token: Token, seconds: float | None = None, cpu_us: int | None = None
    ) -> Lease | None:
        """A call's attempt ended after `seconds` (None: it never began); `refill` gives its worker another.

        None when another holds the call, or nobody does: then the end means nothing.
        """
        lease = self._leases.release(call_id, token)
        if lease is None:
            return None
        worker = self._workers.get(lease.worker)
        function = self._functions.get(lease.call.key)
        if worker is not None:
            worker.calls.discard(call_id)
        if function is not None:
            function.queue.leave(lease.call)
            function.held.pop(call_id, None)
        if seconds is not None:
            if worker is not None:
                worker.moved_at = self._clock.monotonic()
            if function is not None:
                function.measure(seconds, cpu_us)
                if function.brake.crashes:  # a worker that gets through a call is in no loop
                    self._departures.set_brake(function, Brake())
        return lease

    def take_back(self, call_id: str, token: Token) -> bool:
        """A node gives back a call that it held for a start; False when that is not what it had, or it was cancelled."""
        lease = self._leases.get(call_id)
        if lease is None or lease.token != token or not lease.is_held or lease.call.is_cancelled:
            return False
        self._holds.give_back([lease], self._clock.monotonic())
        self._pump(self._functions[lease.call.key])
        return True

    def refill(self, keys: Iterable[FunctionKey]) -> None:
        """Calls of these functions have ended: give their workers others; those without one are idle from now."""
        for function in filter(None, map(self._functions.get, keys)):
            self._pump(function)
            for worker in function.workers.values():
                if not worker.calls and worker.state is WorkerState.BUSY:
                    self._enter(worker, WorkerState.IDLE)

    def grant_items(self, node: str, order: GrantItems) -> None:
        """Let a generator on a node go on."""
        self._orders.grant(node, order)

    def acknowledge(self, node: str, call_id: str, token: Token) -> None:
        """Tell a node that an end it reported is kept."""
        self._orders.acknowledge(node, call_id, token)

    def deliver(self, lease: Lease, payload: Payload) -> None:
        """Send a leased call on its way, now that its payload is at hand."""
        self._sending.deliver(lease, payload)

    def wait_begins(self, call_id: str, wait: Wait) -> None:
        """A running call waits for others: its worker lends its CPU to those that found none, and does not count."""
        lease = self._leases.get(call_id)
        if lease is not None and self._waits.begin(call_id, wait, self._clock.monotonic()):
            for function in list(self._functions.values()):
                if function.no_place is not None or function.key == lease.call.key:
                    self._pump(function)

    def wait_ends(self, call_id: str, wait: Wait, *, is_over: bool) -> None:
        """Such a wait was answered; `is_over`: it is not asked again at once."""
        self._waits.end(call_id, wait, self._clock.monotonic(), is_over=is_over)

    # -- nodes

    def connect(self, hello: Hello) -> tuple[str, ...]:
        """A node comes or comes back: what it still holds is taken over, the rest of what it had is lost.

        Returns the workers it has that nobody here knows how to use.
        """
        now = self._clock.monotonic()
        before = self._nodes.get(hello.node)
        node = self._nodes[hello.node] = Node(id=hello.node, hello=hello)
        if before is not None and before.hello.incarnation == hello.incarnation:
            node.workers = before.workers
        elif before is not None:
            self._departures.all_missing(before)
        node.templates = {outcome.key: outcome for outcome in hello.templates}
        held = {worker.worker for worker in hello.workers}
        for worker in [one for one in node.workers.values() if one.id not in held]:
            self._departures.missing(worker)
        unknown = [worker.worker for worker in hello.workers if not self._adoption.adopt(node, worker, now)]
        kept = [call for worker in hello.workers for call, _, _ in worker.calls]
        self._departures.lose(
            self._leases.take_node(hello.node, keep=kept), f"node {hello.node} does not have it any more"
        )
        self._preparations.prepare_late()
        for function in list(self._functions.values()):
            function.expect_no_more(node=hello.node)
            self._pump(function)
        return tuple(unknown)

    def disconnect(self, node_id: str) -> None:
        """A node's link is gone; its calls are still its own until their leases end."""
        if node_id in self._nodes:
            self._nodes[node_id].is_connected = False
            self._holds.disconnected(node_id)

    def forget_node(self, node_id: str, why: str) -> None:
        """A node is known to be dead, and with it all it had."""
        node = self._nodes.pop(node_id, None)
        if node is not None:
            self._departures.all_missing(node)
            self._departures.lose(self._leases.take_node(node_id), why)
            for function in list(self._functions.values()):
                self._pump(function)

    def heard(self, node_id: str, held: Iterable[str]) -> None:
        """A node lives, and still holds these calls."""
        self._leases.renew(node_id, held, self._clock.monotonic())

    # -- workers

    def worker_changed(self, node_id: str, change: WorkerChange) -> None:
        """A node reports that a worker entered a state."""
        worker = self._workers.get(change.worker)
        if worker is None or worker.node != node_id:
            return
        worker.credit, worker.isolation = change.credit, change.isolation or worker.isolation
        worker.sandbox = change.sandbox or worker.sandbox
        worker.exit, worker.start = change.exit, change.start or worker.start
        function = self._functions[worker.key]
        if change.state is WorkerState.GONE:
            self._departures.gone(function, worker, change)
        elif change.state is not WorkerState.IDLE and change.state is not WorkerState.BUSY:
            self._enter(worker, change.state, at=change.at, detail=change.detail)
        if change.state is WorkerState.READY:
            function.failed_starts, worker.was_ready = 0, True
            began = self._clock.monotonic() - max(0.0, self._clock.now() - change.at)
            self._begin_held(function, worker, began)
        self._pump(function)
        if change.state is WorkerState.READY:
            worker.is_parked = worker.state is WorkerState.READY and not worker.calls
        if change.state in (WorkerState.GONE, WorkerState.READY):
            self._pump_others(function)

    # -- the sweep

    async def run(self) -> None:
        """Look for silence until cancelled."""
        next_sweep = self._clock.monotonic() + self._timing.sweep_seconds
        while True:
            now = self._clock.monotonic()
            await self._clock.sleep(max(SHORTEST_SECONDS, min(next_sweep, self._alarms.next_at()) - now))
            self.wake()
            if self._clock.monotonic() >= next_sweep:
                self.sweep()
                next_sweep = self._clock.monotonic() + self._timing.sweep_seconds

    def wake(self) -> None:
        """See to the functions that asked to be looked at by now: a rate lets calls begin, a delay is over."""
        for key in self._alarms.take(self._clock.monotonic()):
            if key in self._functions:
                self._pump(self._functions[key])

    def sweep(self) -> None:
        """Take back what ran out, let go what is idle, try again what could not be started."""
        now = self._clock.monotonic()
        expired = self._leases.take_expired(now)
        if expired:
            self._departures.silent(expired, f"its node was silent for {self._timing.lease_seconds:g} s")
        for call_id, key, failure in self._waits.look(now):
            stuck = self._functions[key].queue.remove(call_id)
            if stuck is not None:
                self._listener.cannot_start([stuck], failure)
        for function in list(self._functions.values()):
            late = function.queue.take_expired(now)
            if late:
                self._listener.expired(late, self._waits.why_no_worker(function, now))
            self._holds.ask_back_late(function, now)
            function.expect_no_more(now=now)
            function.look_at_clock(self._clock.now())
            self._pump(function)
            self._sizing.stop_idle(function, now)
        self._total = sum(len(one.queue) for one in self._functions.values())
        for key in [
            key
            for key, one in self._functions.items()
            if not one.workers and not len(one.queue) and (one.is_stopped or self._is_forgettable(one, now))
        ]:
            del self._functions[key]

    def _is_forgettable(self, function: Function, now: float) -> bool:
        """Whether nothing is lost with a binding that has neither calls nor workers: it comes again with its next call."""
        is_bound = bool(function.key.binding) and not function.floor()
        return (
            is_bound and function.brake.is_over(now) and all(lease.call.key != function.key for lease in self._leases)
        )

    # -- inside: giving calls to workers

    def _pump(self, function: Function) -> None:
        """Give waiting calls to workers with credit, then see whether there should be more workers."""
        if function.heir and self._sizing.hand_over(function):
            return
        if not function.has_work or self.blocks.why(function):
            return
        now = self._clock.monotonic()
        self._sizing.trim(function)
        granted = self._grants.give(function, now)
        leases = granted.leases
        self._sizing.lose_sessions(granted.lost)
        for lease in leases:
            worker = self._workers[lease.worker]
            if worker.state is not WorkerState.BUSY:
                self._enter(worker, WorkerState.BUSY)
        if leases:
            self._listener.granted(leases)
            self._listener.claimed(leases)
            self._sending.send(leases)
        if function.queue.wants_more():
            function.queue.is_refilling = True
            self._listener.beyond_wanted(function)
        if len(function.queue) or function.is_watched or function.scaling.buffer_workers:
            self._scale(function)
            later = function.queue.next_at(now)
            if later is not None:
                self._alarms.set(function.key, later)

    def _begin_held(self, function: Function, worker: Worker, began: float) -> None:
        """A worker was ready at that time, and has run what it held since."""
        leases = self._holds.begin(function, worker, began)
        if leases:
            if worker.state is WorkerState.READY:
                self._enter(worker, WorkerState.BUSY)
            self._listener.claimed(leases)

    # -- inside: how many workers

    def _scale(self, function: Function) -> None:
        if self.blocks.why(function):
            return
        again_seconds = self._sizing.scale(function)
        if again_seconds is not None:
            self._alarms.set(function.key, self._clock.monotonic() + again_seconds)

    def _pump_others(self, function: Function) -> None:
        """Room may have come: see to the functions that found none.  What is too little for one is for its equals, too."""
        refused: set[Resources] = set()
        for other in list(self._functions.values()):
            resources = other.resources
            if other is not function and other.no_place is not None and resources not in refused:
                self._pump(other)
                if other.no_place is not None and not other.no_place.is_own:
                    refused.add(resources)
