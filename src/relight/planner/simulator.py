"""A trace replayed: one function, one queue, and the scheduler's own autoscaler, under a clock that jumps from event to event.

It does what `scheduler.loop` does, and when: calls go to the free worker with the lowest id, those never used last; how many
workers there should be is asked when calls wait, or a floor or a buffer is to be kept; a sweep every quarter of a second lets
go those that have been idle for their window, beyond what is wanted.  Nothing is drawn but what starts take, from a seed, so
a replay is always the same.  Left out: room on nodes (there is as much as `max_workers` allows), failures, and that calls of
less than 5 ms are given to workers ahead.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from relight.planner.policies import Policy, decider
from relight.planner.traces import Trace
from relight.protocol.usage import StateTimes
from relight.protocol.workers import WorkerState
from relight.scheduler.autoscale import DRAIN_SECONDS, Load

SWEEP_SECONDS = 0.25
"""As `settings.sweep_seconds`."""

PROGRESS_CALLS = 20_000
_MEAN_WEIGHT = 0.2  # as scheduler/state.py
_ENDLESS = float("inf")

Progress = Callable[[int], None]
"""Told how many calls have come, now and then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One worker's life, in whole microseconds.  `is_held`: it was part of the floor from the beginning."""

    starting_us: int
    busy_us: int
    idle_us: int
    is_held: bool = False

    @property
    def times(self) -> StateTimes:
        """As it is billed."""
        times = (
            (WorkerState.STARTING, self.starting_us),
            (WorkerState.BUSY, self.busy_us),
            (WorkerState.IDLE, self.idle_us),
        )
        return tuple((state, microseconds) for state, microseconds in times if microseconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a replay came to.  `waits` are sorted, in seconds from a call's arrival to its beginning; `cold` calls began on a
    worker that was not there, or not ready, when they came."""

    calls: int
    cold: int
    starts: int
    length: float
    waits: Sequence[float]
    lives: Sequence[Life]

    @property
    def cold_share(self) -> float:
        """How many of all calls were cold."""
        return self.cold / self.calls if self.calls else 0.0

    def wait(self, share: float) -> float:
        """The wait that so large a share of the calls does not exceed."""
        return self.waits[min(len(self.waits) - 1, int(share * len(self.waits)))] if self.waits else 0.0

    @property
    def busy_seconds(self) -> float:
        """Worker-seconds with calls."""
        return sum(life.busy_us for life in self.lives) / 1e6

    @property
    def idle_seconds(self) -> float:
        """Worker-seconds without."""
        return sum(life.idle_us for life in self.lives) / 1e6

    @property
    def starting_seconds(self) -> float:
        """Worker-seconds until ready."""
        return sum(life.starting_us for life in self.lives) / 1e6

    @property
    def worker_seconds(self) -> float:
        """Worker-seconds in all."""
        return self.busy_seconds + self.idle_seconds + self.starting_seconds

    @property
    def utilisation(self) -> float:
        """How much of them was with calls."""
        return self.busy_seconds / self.worker_seconds if self.worker_seconds else 0.0


def simulate(
    trace: Trace,
    policy: Policy,
    starts: Sequence[float],
    *,
    seed: int = 0,
    progress: Progress = lambda calls: None,
) -> Outcome:
    """Replay a trace, until the last of its calls has ended.  `starts` are what starts were seen to take, in seconds: each takes one of them, at random."""
    return _Replay(trace, policy, starts, random.Random(seed)).run(progress)


@dataclass(slots=True, eq=False)
class _Worker:
    id: int
    asked_at: float
    is_held: bool = False
    is_fresh: bool = True
    is_stuck: bool = False
    is_gone: bool = False
    ready_at: float = 0.0
    since: float = 0.0
    busy: float = 0.0
    call: int = -1


@dataclass(slots=True)
class _Line:
    """Free workers in the order in which they are taken, and in the order in which they became free."""

    used: list[int] = field(default_factory=list)
    fresh: list[int] = field(default_factory=list)
    free: dict[int, _Worker] = field(default_factory=dict)

    def add(self, worker: _Worker) -> None:
        """It is free from now on."""
        heapq.heappush(self.fresh if worker.is_fresh else self.used, worker.id)
        self.free[worker.id] = worker

    def take(self) -> _Worker | None:
        """The next to be given a call."""
        for line in (self.used, self.fresh):
            while line:
                worker = self.free.pop(heapq.heappop(line), None)
                if worker is not None:
                    return worker
        return None


class _Replay:
    def __init__(self, trace: Trace, policy: Policy, starts: Sequence[float], chance: random.Random) -> None:
        self._arrivals, self._seconds = trace.arrivals, trace.seconds
        self._end = trace.length
        self._policy = policy
        self._decide = decider(policy)
        self._keeps = policy.buffer_workers > 0  # floors are seen to when they change
        self._most = _ENDLESS if policy.scaling.max_workers is None else policy.scaling.max_workers
        self._starts = list(starts) or [0.0]
        self._chance = chance
        self._events: list[tuple[float, int, _Worker | None]] = []
        self._count = 0
        self._queue: deque[int] = deque()
        self._line = _Line()
        self._there: dict[int, _Worker] = {}
        self._moving: deque[tuple[float, _Worker]] = deque()  # busy ones, by when they came to their call
        self._busy = self._stuck = 0
        self._mean: float | None = None
        self._sweep_at = _ENDLESS
        self._waits: list[float] = []
        self._cold = 0
        self._lives: list[Life] = []

    def run(self, progress: Progress) -> Outcome:
        """From the first moment to the end of the trace."""
        arrivals, coming, calls = self._arrivals, 0, len(self._arrivals)
        self._scale(0.0)
        self._watch_floor(0.0)
        while True:
            next_call = arrivals[coming] if coming < calls else _ENDLESS
            next_event = self._events[0][0] if self._events else _ENDLESS
            now = min(next_call, next_event, self._sweep_at)
            if now == _ENDLESS or (now > self._end and not (self._busy or self._queue)):
                break
            if now == next_call:
                self._queue.append(coming)
                coming += 1
                if not coming % PROGRESS_CALLS:
                    progress(coming)
                self._pump(now)
            elif now == next_event:
                self._happen(now)
            else:
                self._sweep(now)
        progress(coming)
        return self._sum_up()

    def _happen(self, now: float) -> None:
        _, _, worker = heapq.heappop(self._events)
        if worker is None:  # the floor is another
            self._scale(now)
            self._watch_floor(now)
            self._look_later(now)
            return
        if worker.is_gone:
            return
        if worker.call >= 0:
            self._ended(worker, now)
        else:
            worker.ready_at = now
        worker.since = now
        self._line.add(worker)
        self._pump(now)
        self._look_later(now)

    def _ended(self, worker: _Worker, now: float) -> None:
        took = self._seconds[worker.call]
        self._mean = took if self._mean is None else self._mean + _MEAN_WEIGHT * (took - self._mean)
        worker.busy += now - worker.since
        worker.call = -1
        self._end = max(self._end, now)
        self._busy -= 1
        if worker.is_stuck:
            self._stuck -= 1
            worker.is_stuck = False

    def _pump(self, now: float) -> None:
        while self._queue:
            worker = self._line.take()
            if worker is None:
                break
            self._begin(worker, self._queue.popleft(), now)
        if self._queue or self._keeps:
            self._scale(now)
        if self._queue:
            self._look_at(now + SWEEP_SECONDS)

    def _begin(self, worker: _Worker, call: int, now: float) -> None:
        arrived = self._arrivals[call]
        self._waits.append(now - arrived)
        self._cold += worker.ready_at > arrived
        worker.is_fresh = False
        worker.call, worker.since = call, now
        self._busy += 1
        self._moving.append((now, worker))
        self._count += 1
        heapq.heappush(self._events, (now + self._seconds[call], self._count, worker))

    def _scale(self, now: float) -> None:
        there = len(self._there)
        if there >= self._most:
            return
        for _ in range(self._decide(now, self._load(now), there) - there):
            self._count += 1
            worker = _Worker(self._count, now, is_held=self._count <= self._policy.workers)
            self._there[worker.id] = worker
            was_there = not now and not self._queue  # the floor is older than the trace
            took = 0.0 if was_there else self._chance.choice(self._starts)
            heapq.heappush(self._events, (now + took, self._count, worker))

    def _load(self, now: float) -> Load:
        moving = self._moving
        while moving and moving[0][0] <= now - DRAIN_SECONDS:
            since, worker = moving.popleft()
            if worker.call >= 0 and worker.since == since:
                worker.is_stuck = True
                self._stuck += 1
        return Load(
            waiting=len(self._queue), moving=self._busy - self._stuck, stuck=self._stuck, mean_seconds=self._mean
        )

    # -- letting go

    def _look_later(self, now: float) -> None:
        """When the one that has been idle longest may leave.  What is wanted falls with an end or a floor, never in between."""
        first = next(iter(self._line.free.values()), None)
        if first is not None:
            self._look_at(max(now, first.since + self._policy.window_seconds))

    def _look_at(self, moment: float) -> None:
        tick = (int(moment / SWEEP_SECONDS) + 1) * SWEEP_SECONDS
        self._sweep_at = min(self._sweep_at, tick)

    def _sweep(self, now: float) -> None:
        self._sweep_at = _ENDLESS
        self._pump(now)
        window = self._policy.window_seconds
        idle = []
        for worker in self._line.free.values():  # in the order in which they became free
            if now - worker.since < window:
                self._look_at(worker.since + window)
                break
            idle.append(worker)
        if idle:
            spare = len(self._there) - self._decide(now, self._load(now), len(self._there))
            idle.sort(key=lambda worker: (worker.is_held, worker.is_fresh))
            for worker in idle[: max(0, spare)]:
                self._leave(worker, now)

    def _leave(self, worker: _Worker, now: float) -> None:
        del self._line.free[worker.id]
        del self._there[worker.id]
        worker.is_gone = True
        self._lives.append(_life(worker, now))

    def _watch_floor(self, now: float) -> None:
        for moment in self._policy.floor_ends(now):
            self._count += 1
            heapq.heappush(self._events, (moment, self._count, None))

    def _sum_up(self) -> Outcome:
        for worker in self._there.values():
            self._lives.append(_life(worker, self._end))
        return Outcome(
            calls=len(self._waits),
            cold=self._cold,
            starts=len(self._lives),
            length=self._end,
            waits=sorted(self._waits),
            lives=self._lives,
        )


def _life(worker: _Worker, now: float) -> Life:
    ready_at = worker.ready_at if worker.ready_at or not worker.asked_at else now
    starting = max(0.0, min(ready_at, now) - worker.asked_at)
    idle = max(0.0, now - worker.asked_at - starting - worker.busy)
    return Life(
        starting_us=round(starting * 1e6),
        busy_us=round(worker.busy * 1e6),
        idle_us=round(idle * 1e6),
        is_held=worker.is_held,
    )
