"""What the scheduler knows of functions, workers and nodes: records, and the questions asked of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from relight.protocol.errors import Failure
from relight.protocol.exits import WorkerExit
from relight.protocol.link import GpuUse, Hello, WorkerChange, WorkerSpec, template_key
from relight.protocol.manifest import Queueing, Resources, Scaling, never_forked
from relight.protocol.starts import StartReport
from relight.protocol.templates import KEPT_OUTCOMES, TemplateOutcome, TemplateState
from relight.protocol.workers import STATES, WorkerState, WorkerView
from relight.scheduler.appetite import Appetite
from relight.scheduler.autoscale import DRAIN_SECONDS, Autoscaler, Load, Observation
from relight.scheduler.brake import CRASH_ATTEMPTS, START_ATTEMPTS, Brake, Crash, crashed
from relight.scheduler.gpus import free_shares, is_whole
from relight.scheduler.leases import Lease
from relight.scheduler.metrics import Metrics
from relight.scheduler.placement import NoPlace, Room, memory_of
from relight.scheduler.queue import FunctionKey, FunctionQueue, WaitingCall
from relight.scheduler.sessions import Sessions

_MEAN_WEIGHT = 0.2
"""How much the newest call counts in the running mean of a function's durations."""

AHEAD_SECONDS = 0.01
"""A worker is given calls ahead that will take it about so long, so that it does not wait for each to come."""

STALL_SECONDS = 0.05
"""A worker that has been at one call for so long is given none ahead."""


@dataclass(slots=True, kw_only=True)
class Worker:
    """A worker that was asked for.  `since` is monotonic, `since_unix` for people.

    `credit` is how many calls may be with it; `asked_at` is when it was asked for, `moved_at` when it came to the call
    that it runs;
    `waiting` are those of its calls that wait for others.  A parked one was ready before any call needed it, and never used.
    """

    id: str
    node: str
    key: FunctionKey
    spec: WorkerSpec
    state: WorkerState
    since: float
    since_unix: float
    credit: int = 1
    isolation: str = ""
    sandbox: str = ""
    calls: set[str] = field(default_factory=set)
    is_leaving: bool = False
    is_parked: bool = False
    exit: WorkerExit | None = None
    start: StartReport | None = None
    moved_at: float = 0.0
    asked_at: float = 0.0
    was_ready: bool = False
    waiting: set[str] = field(default_factory=set)
    gpu_memory_mib: int = 0
    appetite: Appetite = field(default_factory=Appetite)  # its function's

    @property
    def cores(self) -> float:
        """What it counts as."""
        asked = self.spec.function.resources.cpu
        return self.appetite.cores if asked is None else asked

    @property
    def is_free(self) -> bool:
        """Whether it would begin a call at once."""
        return not self.calls and STATES[self.state].takes_calls and not self.is_leaving

    def takes(self, depth: int, now: float) -> bool:
        """Whether it may be given one more call, where `depth` may be with it."""
        if not self.calls:
            return self.is_free
        if len(self.calls) >= depth:
            return False
        if self.width > 1:
            return STATES[self.state].takes_calls and not self.is_leaving
        if len(self.calls) >= self.credit or now - self.moved_at > STALL_SECONDS or self.is_lending:
            return False
        return STATES[self.state].takes_calls and not self.is_leaving

    @property
    def width(self) -> int:
        """How many calls it runs at once at most."""
        return self.spec.function.width

    @property
    def is_lending(self) -> bool:
        """Whether what it runs waits for other calls: its CPU is free for them, its memory and its GPUs are not."""
        if not self.waiting:  # as a rule, and this is asked of every worker for each that is started
            return False
        if self.width > 1:
            return bool(self.calls) and self.waiting.issuperset(self.calls)
        return not self.waiting.isdisjoint(self.calls)

    def preference(self, target: int) -> tuple[int, int, bool, str]:
        """Who is to have the next call, the least first: one below `target` that has most, so that others become idle;
        past that whoever has fewest, which is the rule where calls run one by one."""
        count = len(self.calls)
        has_target = self.width == 1 or count >= target
        return has_target, count if has_target else -count, self.is_parked, self.id

    @property
    def is_starting(self) -> bool:
        """Whether it is on its way to its first call."""
        return not STATES[self.state].takes_calls and self.state is not WorkerState.DRAINING

    def view(self) -> WorkerView:
        """What is shown of it."""
        return WorkerView(
            id=self.id,
            node=self.node,
            app=self.spec.app,
            environment=self.spec.environment,
            version=self.spec.version,
            function=self.spec.function.name,
            binding=self.spec.binding,
            kind=self.spec.kind,
            state=self.state,
            since=self.since_unix,
            calls=tuple(sorted(self.calls)),
            isolation=self.isolation,
            sandbox=self.sandbox,
            exit=self.exit,
            start=self.start,
            gpus=self.spec.gpus,
            gpu_share=self.spec.gpu_share,
            gpu_memory_mib=self.gpu_memory_mib,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What is asked of a function's workers and of its queue now: what was deployed, or what was said since."""

    scaling: Scaling
    queue: Queueing
    is_paused: bool = False


Tuner = Callable[[WorkerSpec], Tuning]
"""What is asked now of the workers that have a spec."""


def as_deployed(spec: WorkerSpec) -> Tuning:
    """What was asked when it was deployed."""
    return Tuning(scaling=spec.function.scaling, queue=spec.function.queue)


@dataclass(slots=True, kw_only=True)
class Function:
    """One function of one version: its queue, its workers, and how its starts have gone.

    `failed_starts` counts the starts that failed one after another; `brake` holds up the next ones.  `template` is the
    key of what its workers are forked from, "" for nothing.  `clock_floor` is what its floors came to when last looked at.
    `held` are the calls, by id, that wait with workers that are being started (`scheduler.holds`); `expected` workers of
    before a restart, each with its node and until when it counts.  `heir` is the version that what waits is for, and that
    begins when its workers are gone; "" where it ends what it has.
    """

    key: FunctionKey
    spec: WorkerSpec
    queue: FunctionQueue = field(init=False)
    autoscaler: Autoscaler = field(init=False)
    tuning: Tuning = field(init=False)
    metrics: Metrics = field(default_factory=Metrics)
    workers: dict[str, Worker] = field(default_factory=dict)
    held: dict[str, Lease] = field(default_factory=dict)
    mean_seconds: float | None = None
    failed_starts: int = 0
    brake: Brake = field(default_factory=Brake)
    no_place: NoPlace | None = None
    is_stopped: bool = False
    is_superseded: bool = False
    heir: str = ""
    template: str = ""
    clock_floor: int = 0
    expected: dict[str, tuple[str, float]] = field(default_factory=dict)
    sessions: Sessions = field(default_factory=Sessions)
    appetite: Appetite = field(default_factory=Appetite)

    def __post_init__(self) -> None:
        self.template = "" if never_forked(self.spec.function) else template_key(self.spec)
        self.tuning = as_deployed(self.spec)
        self.queue = FunctionQueue(self.tuning.queue)
        self.autoscaler = Autoscaler(self.tuning.scaling)

    @property
    def scaling(self) -> Scaling:
        """What is asked of it now: what was deployed, or what was said since."""
        return self.autoscaler.scaling

    @property
    def resources(self) -> Resources:
        """What one worker more would take: what it asks for, and where it asks for no CPU what its calls were seen to take."""
        asked = self.spec.function.resources
        return asked if asked.cpu is not None else replace(asked, cpu=self.appetite.cores)

    def tune(self, tuning: Tuning) -> None:
        """From now on this is asked of it."""
        self.tuning = tuning
        self.autoscaler.tune(tuning.scaling)
        self.queue.tune(tuning.queue, is_paused=tuning.is_paused)

    def counted(self) -> int:
        """How many workers there are, those on their way out and those that a node may still have included."""
        return len(self.workers) + len(self.expected)

    def missing(self, wanted: int) -> int:
        """How many workers are to be started.  Those on their way out count, as there may be no more than `max_workers`;
        but where all leave, what they wait for needs others."""
        if not self.heir:
            return wanted - self.counted()
        most = self.scaling.max_workers
        lacking = wanted - len(self.staying()) - len(self.expected)
        return lacking if most is None else min(lacking, most - self.counted())

    def floor(self) -> int:
        """How many workers there are even when nothing waits, as of the last look at the clock."""
        return max(self.scaling.min_workers, self.clock_floor) if self.is_current else 0

    def look_at_clock(self, unix: float) -> None:
        """It is that time, in seconds since 1970."""
        self.clock_floor = self.autoscaler.floor(unix) if self.scaling.floors else 0

    def observe(self, now: float, unix: float) -> Observation:
        """What its autoscaler decides by.

        One that is superseded keeps nothing for its own sake, and a binding's buffer is there only while calls are: there
        may be as many bindings as there are values.
        """
        load = self.load(now)
        is_binding_used = bool(self.key.binding) and self.is_current and not load.is_nothing
        return Observation(
            now=now,
            unix=unix,
            load=load,
            workers=len(self.staying()),
            metrics=self.metrics.sums(now),
            keeps_floor=self.is_current,
            keeps_buffer=self.is_parking or is_binding_used,
        )

    def expect_no_more(self, *, node: str = "", now: float = 0.0) -> None:
        """That node has said what it has, or it is that time: workers of before that did not come are not there."""
        if self.expected:
            kept = {one: seen for one, seen in self.expected.items() if seen[0] != node and seen[1] > now}
            self.expected = kept

    @property
    def is_current(self) -> bool:
        """Whether its name leads to it."""
        return not (self.is_stopped or self.is_superseded)

    @property
    def is_parking(self) -> bool:
        """Whether workers are kept ready beyond what its calls need, even when there are none."""
        return self.is_current and not self.key.binding and self.scaling.buffer_workers > 0

    @property
    def is_watched(self) -> bool:
        """Whether there may have to be workers though nothing waits."""
        return bool(self.floor() or self.is_parking or self.scaling.prewarm or self.metrics)

    @property
    def has_work(self) -> bool:
        """Whether there is anything to be seen to: calls, or workers that are kept without them."""
        return bool(len(self.queue) or self.held or self.is_watched)

    @property
    def lacks_room(self) -> bool:
        """Whether calls, or its floor, wait for room that others may leave."""
        is_refused = self.no_place is not None and self.no_place.is_for_now
        return is_refused and (len(self.queue) > 0 or len(self.workers) < self.floor())

    def bound_to(self, call: WaitingCall) -> tuple[str, bool]:
        """The worker that alone may run a call ("" for any), and whether it is there to do so."""
        worker = self.sessions.worker_of(call) if call.is_strict and call.session else ""
        known = self.workers.get(worker)
        return worker, known is not None and not known.is_leaving and known.state is not WorkerState.DRAINING

    def lose_pinned(self, worker: str) -> list[WaitingCall]:
        """Take out the calls that wait for a worker which is gone; their sessions begin anew."""
        calls = self.queue.unpin(worker)
        for call in calls:
            self.sessions.lose(call.session)
        return calls

    def staying(self) -> list[Worker]:
        """The workers that are not on their way out."""
        return [one for one in self.workers.values() if not one.is_leaving and one.state is not WorkerState.DRAINING]

    def depth(self) -> int:
        """How many calls may be with one worker: as many as it runs at once, or where that is one, more if they are short."""
        if self.spec.function.width > 1:
            return self.spec.function.width
        return 1 if self.mean_seconds is None else max(1, int(AHEAD_SECONDS / max(self.mean_seconds, 1e-6)))

    def load(self, now: float) -> Load:
        """What the autoscaler needs to know."""
        busy = [worker for worker in self.workers.values() if worker.calls and not worker.is_leaving]
        if self.spec.function.width > 1:
            return self._load_of_wide(busy, now)
        stuck = [one for one in busy if one.is_lending or (now - one.moved_at > DRAIN_SECONDS and not one.is_starting)]
        moving = sum(len(worker.calls) for worker in busy) - sum(len(worker.calls) for worker in stuck)
        return Load(waiting=self.queue.ready(now), moving=moving, stuck=len(stuck), mean_seconds=self.mean_seconds)

    @property
    def has_given_up(self) -> bool:
        """Whether so many starts failed one after another that those who wait need not wait any more."""
        ending = self.brake.exit
        was_killed = ending is not None and ending.reason.startswith(("signal:", "out_of_memory", "killed:"))
        return self.failed_starts >= (CRASH_ATTEMPTS if was_killed else START_ATTEMPTS)

    def note_crash(self, worker: Worker, change: WorkerChange, now: float, longest_seconds: float) -> None:
        """A worker has gone that nobody told to."""
        ending, name = change.exit, self.key.function
        is_crash = ending is None or ending.is_crash
        if worker.was_ready and not is_crash:
            return
        how, advice = (ending.how, ending.advice) if ending is not None else ("did not start", "look at its logs")
        if worker.was_ready:
            when = " before its first call" if worker.is_parked else ""
            failure = Failure(
                code="worker_lost", message=f"cannot keep a worker of {name}: it {how}{when}; {advice}", exit=ending
            )
        else:
            self.failed_starts += ending is None or ending.is_own_fault
            message = f"cannot start a worker of {name}: it {how}; {advice}"
            known = change.failure or Failure(code="start_failed", message=message)
            failure = replace(known, exit=ending)
        is_free = worker.was_ready and not worker.is_parked
        crash = Crash(at=now, since=worker.asked_at, exit=ending, failure=failure, is_free=is_free)
        self.brake = crashed(self.brake, crash, longest_seconds)

    def seconds_to_drain(self, more: int) -> float:
        """After about how long there is room in its queue for `more` calls, by what is known: 1 to 60 seconds."""
        busy = sum(bool(worker.calls) for worker in self.workers.values())
        return min(60.0, max(1.0, more * (self.mean_seconds or 1.0) / max(1, busy)))

    def _load_of_wide(self, busy: Sequence[Worker], now: float) -> Load:
        """Of workers that run several calls: each call holds its place for as long as it runs."""
        return Load(
            waiting=self.queue.ready(now),
            held=sum(len(worker.calls) for worker in busy),
            mean_seconds=self.mean_seconds,
            target=self.spec.function.target_width,
        )

    def measure(self, seconds: float, cpu_us: int | None = None) -> None:
        """A call took so long, and so much CPU time where that is known."""
        if cpu_us is not None:
            self.appetite.note(seconds, cpu_us / 1e6)
        mean = seconds if self.mean_seconds is None else self.mean_seconds
        self.mean_seconds = mean + _MEAN_WEIGHT * (seconds - mean)


@dataclass(slots=True, kw_only=True)
class Node:
    """A machine that has said Hello.  `gpu_use` is how its GPUs were used when it last said so."""

    id: str
    hello: Hello
    gpu_use: tuple[GpuUse, ...] = ()
    is_connected: bool = True
    workers: dict[str, Worker] = field(default_factory=dict)
    templates: dict[str, TemplateOutcome] = field(default_factory=dict)

    def note_template(self, outcome: TemplateOutcome) -> None:
        """It has a template, or has none any more; the newest are known."""
        self.templates.pop(outcome.key, None)
        self.templates[outcome.key] = outcome
        if len(self.templates) > KEPT_OUTCOMES:
            del self.templates[next(iter(self.templates))]

    def note_gpus(self, uses: tuple[GpuUse, ...]) -> None:
        """It tells how its GPUs are used."""
        self.gpu_use = uses
        held: Counter[str] = Counter()
        for use in uses:
            held.update(dict(use.workers))
        for worker in self.workers.values():
            worker.gpu_memory_mib = held[worker.id]

    def can_fork(self, key: str) -> bool:
        """Whether it has this template ready."""
        outcome = self.templates.get(key)
        return outcome is not None and outcome.state is TemplateState.READY

    def empty_room(self) -> Room:
        """What it has, as if nothing were on it."""
        return replace(self.room(gone=tuple(self.workers)), starting=0)

    def room(self, gone: Collection[str] = (), template: str = "", like: FunctionKey | None = None) -> Room:
        """What is free, had the workers of `gone` left already.  One whose call waits for others lends its CPU.

        `template` is the key of that which is wanted, "" where it makes no difference; `like` whose workers are counted.
        """
        workers = [worker for worker in self.workers.values() if worker.id not in gone]
        asked = [worker.spec.function.resources for worker in workers]
        free = free_shares(self.hello.gpus, ((worker.spec.gpus, worker.spec.gpu_share) for worker in workers))
        return Room(
            node=self.id,
            cpu=self.hello.cpu,
            memory_mib=self.hello.memory_mib,
            gpus=self.hello.gpus,
            free_cpu=self.hello.cpu - sum(one.cores for one in workers if not one.is_lending),
            free_memory_mib=self.hello.memory_mib - sum(memory_of(resources) for resources in asked),
            free_gpus=tuple(gpu for gpu in self.hello.gpus if is_whole(free[gpu.id])),
            free_shares=tuple((one, share) for one, share in free.items() if share > 0 and not is_whole(share)),
            starting=sum(worker.is_starting for worker in workers),
            start_limit=max(2, int(2 * self.hello.cpu)),
            has_template=bool(template) and self.can_fork(template),
            siblings=0 if like is None else sum(worker.key == like for worker in workers),
        )
