"""A worker's meter: how long it was in each state, and how much of that each of its calls had.

Time is counted in whole microseconds of one monotonic clock, so the stretches that are sealed tile the worker's life: nothing
lies between two, and nothing lies in both.  Where several calls run at once each has an equal share of the time.
"""

from __future__ import annotations

from relight.clock import Clock
from relight.protocol.link import WorkerSpec
from relight.protocol.usage import UsageRecord, UsedBy
from relight.protocol.workers import WorkerState

SEAL_SECONDS = 10.0
"""How often what a worker used is sealed and told, while it lives."""


class Meter:
    """One worker's."""

    def __init__(self, worker: str, spec: WorkerSpec, clock: Clock) -> None:
        self._worker = worker
        self._by = used_by(spec)
        self._clock = clock
        self._zero_us = round(clock.now() * 1e6) - self._read()
        self._state = WorkerState.PLACING
        self._at = self._since = self._now()
        self._times: dict[WorkerState, int] = {}
        self._running: dict[str, int] = {}
        self._ended = 0
        self._sealed = 0
        self._is_over = False

    def enter(self, state: WorkerState) -> None:
        """The worker is in another state from now on."""
        self._advance()
        self._state = state

    def began(self, call: str) -> None:
        """A call runs from now on."""
        self._advance()
        self._running.setdefault(call, 0)

    def ended(self, call: str) -> int:
        """A call does not run any more; the microseconds that it had, 0 for one that never ran."""
        if call not in self._running:
            return 0
        self._advance()
        self._ended += 1
        return self._running.pop(call)

    def seal(self, cpu_us: int | None = None, *, is_last: bool = False) -> UsageRecord | None:
        """What was used since the last time; None where that is nothing, or all of it was sealed.

        `cpu_us` is the CPU time of all its processes, where that is known by now.
        """
        self._advance()
        if self._is_over or (self._at == self._since and not is_last):
            return None
        record = UsageRecord(
            worker=self._worker,
            n=self._sealed,
            by=self._by,
            since_us=self._since,
            until_us=self._at,
            states=tuple((state, self._times[state]) for state in WorkerState if self._times.get(state)),
            calls=self._ended,
            cpu_us=cpu_us,
            is_last=is_last,
        )
        self._since, self._times, self._ended = self._at, {}, 0
        self._sealed += 1
        self._is_over = is_last
        return record

    def _advance(self) -> None:
        now = self._now()
        passed = now - self._at
        if passed <= 0:
            return
        self._times[self._state] = self._times.get(self._state, 0) + passed
        if self._running:
            share, rest = divmod(passed, len(self._running))
            for call in self._running:
                self._running[call] += share + rest
                rest = 0
        self._at = now

    def _now(self) -> int:
        return self._zero_us + self._read()

    def _read(self) -> int:
        return int(self._clock.monotonic() * 1e6)


def used_by(spec: WorkerSpec) -> UsedBy:
    """Whose a worker is, and what it holds."""
    resources = spec.function.resources
    return UsedBy(
        workspace=spec.workspace,
        app=spec.app,
        environment=spec.environment,
        version=spec.version,
        function=spec.function.name,
        binding=spec.binding,
        kind=spec.kind,
        cpu=resources.cpu,
        memory_mib=resources.memory_mib,
        gpus=spec.gpus,
    )
