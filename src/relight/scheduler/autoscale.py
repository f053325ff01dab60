"""How many workers a function should have, and why: pure, from what is seen of it, what was asked, and what was before.

One `Autoscaler` belongs to one function.  It has no clock and does nothing: `decide` is told the time with all else, so that
the same observations always give the same decisions, and a recorded trace can be replayed through it.

    what calls need ─▶ ÷ utilization ─▶ metrics ─▶ scale-up delay ─▶ floors, expectation ─▶ buffer ─▶ ceiling
                                                   (not from zero, not in a burst)

Nobody is stopped by a decision: `may_leave` says how many of those that have been idle for long enough may go.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from relight.protocol.manifest import Floor, Scaling
from relight.scheduler.expectation import Expectation
from relight.scheduler.floors import floor_at

DRAIN_SECONDS = 0.25
"""Workers are added until what waits would be done in about this time, by the calls measured so far."""

KEPT_DECISIONS = 50
"""So many of the last changes of mind are remembered with their reasons."""

RUN_SECONDS = 1.0
"""Changes up within so long are remembered as one, and so are changes down: a queue that drains changes with each end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A function at one moment.  `mean_seconds` of a call is None until one has ended.

    `stuck` are workers that have been at one call for longer than DRAIN_SECONDS; `moving` the calls with all others.
    Where a worker runs several at once, it is to have `target` of them; `held` are those that run.
    """

    waiting: int
    moving: int = 0
    stuck: int = 0
    mean_seconds: float | None = None
    held: int = 0
    target: int = 1

    @property
    def is_nothing(self) -> bool:
        """Whether no call waits or runs."""
        return not (self.waiting or self.moving or self.stuck or self.held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What is seen of a function.  `now` is monotonic, `unix` seconds since 1970; neither goes back.

    `workers` are all that stay, those being started too.  `metrics` are sums of what its workers reported of late.
    One whose name leads elsewhere by now keeps no floor, and a binding's buffer is there only while calls are.
    """

    now: float
    unix: float
    load: Load
    workers: int = 0
    metrics: Sequence[tuple[str, float]] = ()
    keeps_floor: bool = True
    keeps_buffer: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How many workers there should be; `needed` are they without the buffer.  `why` is a key of REASONS.

    `again_seconds`: after so long it may be another though nothing happens (None: not that it knows).
    """

    workers: int
    needed: int
    why: str
    again_seconds: float | None = None


REASONS = {
    "idle": "nothing waits or runs",
    "calls": "for {calls} calls at hand, of {mean} each",
    "utilization": "for {calls} calls at hand, of {mean} each, with workers busy {utilization:.0%} of the time",
    "metric": "for {metric}, which its workers report",
    "delay": "calls at hand need more than that, but not for {delay:g} s yet (scaleup_delay)",
    "burst": "calls at hand need {factor:g} times the workers there are, or more: a burst is answered at once",
    "min_workers": "the floor is min_workers={floor}",
    "floor": "the floor is {floor} now: {standing}",
    "expected": "the next call is expected about now",
    "buffer": "buffer_workers={buffer} beyond what calls need",
    "max_workers": "calls need more, but there may be no more than max_workers={ceiling}",
}
"""What each `why` says; `Autoscaler.explain` fills in the numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Decisions that were others than those before them, up alone or down alone: `at` is when they began, in seconds since
    1970, `reason` that of the last."""

    at: float
    workers: int
    before: int
    reason: str


class Autoscaler:
    """Decides for one function."""

    def __init__(self, scaling: Scaling) -> None:
        self.scaling = scaling
        self.expectation = Expectation()
        self._wanted = 0
        self._explained: deque[Explained] = deque(maxlen=KEPT_DECISIONS)
        self._run_ends = -math.inf
        self._rising_since: float | None = None
        self._calm_at = -math.inf
        self._left: deque[float] = deque()
        self._floor_minute = -1
        self._standing: tuple[int, Floor | None] = (0, None)

    def tune(self, scaling: Scaling) -> None:
        """From now on this is asked."""
        self.scaling = scaling
        self._floor_minute, self._calm_at, self._run_ends = -1, -math.inf, -math.inf

    def decide(self, seen: Observation) -> Decision:
        """How many workers there should be now.  Observations come in the order of their time."""
        decision = self._decide(seen)
        if decision.workers != self._wanted:
            self._note(decision, seen)
        return decision

    def may_leave(self, seen: Observation, idle: int) -> int:
        """How many of `idle` workers, each idle for its window, may leave now."""
        spare = min(idle, seen.workers - self.decide(seen).workers)
        if spare <= 0 or seen.now < self._calm_at:
            return 0
        if self.scaling.scaledown_per_minute is not None:
            spare = min(spare, self._allowance(seen.now, self.scaling.scaledown_per_minute))
        return spare

    def left(self, now: float) -> None:
        """A worker was let go because it was idle."""
        if self.scaling.scaledown_per_minute is not None:
            self._left.append(now)

    def floor(self, unix: float) -> int:
        """How many workers there are at a time even where nobody calls."""
        return max(self.scaling.min_workers, self._floor_of(unix)[0])

    @property
    def history(self) -> tuple[Explained, ...]:
        """The last changes of mind, oldest first."""
        return tuple(self._explained)

    def explain(self, decision: Decision, seen: Observation) -> str:
        """Why a decision is what it is, `code: sentence`."""
        load, scaling = seen.load, self.scaling
        floor, standing = self._floor_of(seen.unix)
        metric = max(scaling.metrics, key=lambda one: _per_target(one.name, one.per_worker, seen), default=None)
        says = REASONS[decision.why].format(
            calls=load.waiting + load.moving + load.stuck + load.held,
            mean="unknown length" if load.mean_seconds is None else f"{load.mean_seconds:.3g} s",
            utilization=scaling.target_utilization,
            metric="" if metric is None else f"{metric.name}={dict(seen.metrics).get(metric.name, 0):g}",
            delay=scaling.scaleup_delay_seconds,
            factor=scaling.panic_factor,
            floor=floor if decision.why == "floor" else scaling.min_workers,
            standing="" if standing is None else f"{standing.days} {standing.hours} {standing.time_zone}",
            buffer=scaling.buffer_workers,
            ceiling=scaling.max_workers,
        )
        return f"{decision.why}: {says}"

    # -- inside

    def _note(self, decision: Decision, seen: Observation) -> None:
        at, before, self._wanted = seen.unix, self._wanted, decision.workers
        last = self._explained[-1] if self._explained else None
        if last is not None and seen.now < self._run_ends and (before > last.before) == (decision.workers > before):
            self._explained.pop()
            at, before = last.at, last.before
        else:
            self._run_ends = seen.now + RUN_SECONDS
        reason = self.explain(decision, seen)
        self._explained.append(Explained(at=at, workers=decision.workers, before=before, reason=reason))

    def _decide(self, seen: Observation) -> Decision:
        scaling = self.scaling
        wanted, why = self._for_load(seen)
        wanted, why, again = self._held_back(seen, wanted, why)
        beside = min(wanted, self._beside_load(seen))
        if seen.keeps_floor:
            wanted, why = self._on_floor(seen, wanted, why)
        needed = wanted
        if scaling.buffer_workers and seen.keeps_buffer and beside + scaling.buffer_workers > wanted:
            wanted, why = beside + scaling.buffer_workers, "buffer"
        if scaling.max_workers is not None and wanted > scaling.max_workers:
            wanted, why = scaling.max_workers, "max_workers"
        return Decision(workers=wanted, needed=min(needed, wanted), why=why, again_seconds=again)

    def _for_load(self, seen: Observation) -> tuple[int, str]:
        load, scaling = seen.load, self.scaling
        wanted = self._beside_load(seen)
        why = "calls" if wanted else "idle"
        if wanted and scaling.target_utilization < 1:
            wanted, why = math.ceil(wanted / scaling.target_utilization - 1e-9), "utilization"
        if scaling.metrics:
            asked = max(_per_target(one.name, one.per_worker, seen) for one in scaling.metrics)
            if asked > wanted and not (load.is_nothing and not seen.workers):
                wanted, why = asked, "metric"
        return wanted, why

    def _beside_load(self, seen: Observation) -> int:
        """Workers for the calls at hand: those that are stuck, and what the rest takes, `target` of it each."""
        load = seen.load
        return load.stuck + math.ceil((load.held + _for_moving(load)) / load.target)

    def _held_back(self, seen: Observation, wanted: int, why: str) -> tuple[int, str, float | None]:
        """More than there are is not wanted before it was for a while; from zero, and in a burst, at once."""
        scaling = self.scaling
        if wanted <= seen.workers:
            self._rising_since = None
            return wanted, why, None
        if not seen.workers:
            return wanted, why, None
        if wanted >= scaling.panic_factor * seen.workers:
            self._calm_at = seen.now + scaling.scaledown_window_seconds
            return wanted, "burst" if scaling.scaleup_delay_seconds else why, None
        if self._rising_since is None:
            self._rising_since = seen.now
        left = self._rising_since + scaling.scaleup_delay_seconds - seen.now
        return (seen.workers, "delay", left) if left > 0 else (wanted, why, None)

    def _on_floor(self, seen: Observation, wanted: int, why: str) -> tuple[int, str]:
        scaling = self.scaling
        if scaling.min_workers > wanted:
            wanted, why = scaling.min_workers, "min_workers"
        if scaling.floors and self._floor_of(seen.unix)[0] > wanted:
            wanted, why = self._floor_of(seen.unix)[0], "floor"
        if scaling.prewarm and self.expectation.look(seen.now, is_idle=seen.load.is_nothing) and not wanted:
            wanted, why = 1, "expected"
        return wanted, why

    def _floor_of(self, unix: float) -> tuple[int, Floor | None]:
        """The floor by the clock; worked out once a minute."""
        if not self.scaling.floors:
            return 0, None
        minute = int(unix // 60)
        if minute != self._floor_minute:
            self._floor_minute, self._standing = minute, floor_at(self.scaling.floors, unix)
        return self._standing

    def _allowance(self, now: float, per_minute: float) -> int:
        """So many may leave without more than `per_minute` of them having left within a minute, or one within its share."""
        seconds = 60.0 * max(1.0, 1.0 / per_minute)
        while self._left and self._left[0] <= now - seconds:
            self._left.popleft()
        return max(0, max(1, int(per_minute)) - len(self._left))


def _for_moving(load: Load) -> int:
    """Workers for all that a worker will come to soon: one each where calls are long, fewer where they are short."""
    calls = load.waiting + load.moving
    if not calls or load.mean_seconds is None:
        return calls
    return max(1, min(calls, math.ceil(calls * load.mean_seconds / DRAIN_SECONDS)))


def _per_target(name: str, per_worker: float, seen: Observation) -> int:
    return math.ceil(sum(value for one, value in seen.metrics if one == name) / per_worker - 1e-9)
