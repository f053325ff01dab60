"""Traffic replayed through the real autoscaler, under a clock of its own: what would have been cold, waited, stood idle.

    arrivals ─▶ queue ─▶ an idle worker, the one used last first
                  └ none ─▶ Autoscaler.decide ─▶ a start, which takes `start_seconds`
    Autoscaler.may_leave ─▶ workers that were idle for their window leave

One worker runs one call; there is room for all that may be.  Everything else is `relight.scheduler`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from relight.protocol.manifest import Scaling
from relight.scheduler.autoscale import DRAIN_SECONDS, Autoscaler, Load, Observation

MEAN_WEIGHT = 0.2
"""As `scheduler.state` measures calls."""

Call = tuple[float, float]
"""When it comes and how long it takes, in seconds."""


@dataclass(slots=True)
class Outcome:
    """What a replay came to.  A call is cold when it waited for a start."""

    calls: int = 0
    cold: int = 0
    waits: list[float] = field(default_factory=list)
    busy_seconds: float = 0.0
    idle_seconds: float = 0.0
    start_seconds: float = 0.0
    most_workers: int = 0
    expected: int = 0
    met: int = 0

    def add(self, other: Outcome) -> None:
        """Another function's, too."""
        self.calls, self.cold = self.calls + other.calls, self.cold + other.cold
        self.waits += other.waits
        self.busy_seconds += other.busy_seconds
        self.idle_seconds += other.idle_seconds
        self.start_seconds += other.start_seconds
        self.most_workers = max(self.most_workers, other.most_workers)
        self.expected, self.met = self.expected + other.expected, self.met + other.met

    def wait(self, share: float) -> float:
        """So long did that share of the calls wait at most."""
        waits = sorted(self.waits)
        return waits[min(len(waits) - 1, int(share * len(waits)))] if waits else 0.0


@dataclass(slots=True)
class _Worker:
    ready_at: float
    idle_since: float | None = None
    began_at: float = 0.0


class Replay:
    """One function."""

    def __init__(self, scaling: Scaling, start_seconds: float) -> None:
        self._scaling = scaling
        self._scaler = Autoscaler(scaling)
        self._start_seconds = start_seconds
        self._events: list[tuple[float, int, str, _Worker | None]] = []
        self._queue: deque[Call] = deque()
        self._workers: dict[int, _Worker] = {}
        self._idle: list[_Worker] = []
        self._mean: float | None = None
        self._number = 0
        self.outcome = Outcome()

    def run(self, calls: Iterable[Call], until: float) -> Outcome:
        """Replay calls in the order of their arrival; workers that are left stand idle until then at most."""
        for call in calls:
            self._pass(call[0])
            self._queue.append(call)
            self._act(call[0])
        self._pass(until)
        for worker in self._idle:
            self.outcome.idle_seconds += until - (worker.idle_since or until)
        self.outcome.expected = self._scaler.expectation.expected
        self.outcome.met = self._scaler.expectation.met
        return self.outcome

    def _pass(self, now: float) -> None:
        while self._events and self._events[0][0] <= now:
            at, _, what, worker = heapq.heappop(self._events)
            if worker is not None and what in ("ready", "end"):
                if what == "end":
                    self._measure(at - worker.began_at)
                worker.idle_since = at
                self._idle.append(worker)
            self._act(at)

    def _act(self, now: float) -> None:
        while self._queue and self._idle:
            self._begin(self._idle.pop(), now)
        decision = self._scaler.decide(self._seen(now))
        for _ in range(decision.workers - len(self._workers)):
            self._start(now)
        window = self._scaling.scaledown_window_seconds
        late = [one for one in self._idle if now - (one.idle_since or 0.0) >= window - 1e-9]
        for worker in late[: self._scaler.may_leave(self._seen(now), len(late))]:
            self._idle.remove(worker)
            del self._workers[id(worker)]
            self._scaler.left(now)
            self.outcome.idle_seconds += now - (worker.idle_since or now)
        if not self._queue and len(self._idle) == len(self._workers):
            self._look_later(now)

    def _look_later(self, now: float) -> None:
        """When it is to be decided again though nothing happens: an expected call."""
        window = self._scaler.expectation.window() if self._scaling.prewarm else None
        for seconds in window or ():
            self._at(now + seconds + 1e-6, "look", None)

    def _start(self, now: float) -> None:
        worker = _Worker(ready_at=now + self._start_seconds)
        self._workers[id(worker)] = worker
        self.outcome.start_seconds += self._start_seconds
        self.outcome.most_workers = max(self.outcome.most_workers, len(self._workers))
        self._at(worker.ready_at, "ready", worker)

    def _begin(self, worker: _Worker, now: float) -> None:
        came, seconds = self._queue.popleft()
        self.outcome.idle_seconds += now - (worker.idle_since or now)
        self.outcome.calls += 1
        self.outcome.cold += came < worker.ready_at
        self.outcome.waits.append(now - came)
        self.outcome.busy_seconds += seconds
        worker.idle_since, worker.began_at = None, now
        self._at(now + seconds, "end", worker)
        self._at(now + seconds + self._scaling.scaledown_window_seconds + 1e-6, "look", None)

    def _at(self, when: float, what: str, worker: _Worker | None) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, what, worker))

    def _measure(self, seconds: float) -> None:
        mean = seconds if self._mean is None else self._mean
        self._mean = mean + MEAN_WEIGHT * (seconds - mean)

    def _seen(self, now: float) -> Observation:
        busy = [one for one in self._workers.values() if one.idle_since is None and one.ready_at <= now]
        stuck = sum(now - one.began_at > DRAIN_SECONDS for one in busy)
        load = Load(waiting=len(self._queue), moving=len(busy) - stuck, stuck=stuck, mean_seconds=self._mean)
        return Observation(now=now, unix=now, load=load, workers=len(self._workers))


def replay(functions: Sequence[Sequence[Call]], scaling: Scaling, start_seconds: float) -> Outcome:
    """Each function's calls through an autoscaler of its own; what they came to in all."""
    whole = Outcome()
    until = max((calls[-1][0] for calls in functions if calls), default=0.0) + 1.0
    for calls in functions:
        whole.add(Replay(scaling, start_seconds).run(calls, until))
    return whole
