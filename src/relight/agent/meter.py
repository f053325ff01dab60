"""A worker's meter: how long it was in each state, what it used of what is counted, and how much of that each call had.

Time is counted in whole microseconds of one monotonic clock, so the stretches that are sealed tile the worker's life: nothing
lies between two, and nothing lies in both.  Where several calls run at once each has an equal share of the time.  What others
count (`Counted`) grows from the worker's first moment on, and a stretch has what it grew by since the one before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from relight.clock import Clock
from relight.protocol.errors import ProtocolError
from relight.protocol.link import CallEnd, WorkerSpec, used_by
from relight.protocol.usage import UsageRecord
from relight.protocol.workers import WorkerState
from relight.sandbox.spec import UNCOUNTED, Counted

SEAL_SECONDS = 10.0
"""How often what a worker used is sealed and told, while it lives."""

MOST_TOKENS = 10**12
"""More tokens than these are not believed of one report."""


class Meters(Protocol):
    """One worker's meter, or what stands where nothing is metered."""

    def enter(self, state: WorkerState) -> None:
        """The worker is in another state from now on."""

    def began(self, call: str) -> None:
        """A call runs from now on."""

    def took(self, call: str, tokens_in: int, tokens_out: int) -> None:
        """A call ("": none) says that it took so many tokens more."""

    def ended(self, end: CallEnd) -> CallEnd:
        """The end of a call that does not run any more, with what it had of its worker."""

    def seal(self, counted: Counted = UNCOUNTED, *, is_last: bool = False) -> UsageRecord | None:
        """What was used since the last time; None where that is nothing, or all of it was sealed."""


@dataclass(slots=True)
class _Share:
    """What a call that runs has had."""

    us: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


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
        self._running: dict[str, _Share] = {}
        self._ended = self._tokens_in = self._tokens_out = 0
        self._counted = UNCOUNTED
        self._sealed = 0
        self._is_over = False

    def enter(self, state: WorkerState) -> None:
        """The worker is in another state from now on."""
        self._advance()
        self._state = state

    def began(self, call: str) -> None:
        """A call runs from now on."""
        self._advance()
        self._running.setdefault(call, _Share())

    def took(self, call: str, tokens_in: int, tokens_out: int) -> None:
        """A call ("": none) says that it took so many tokens more; they are the stretch's in which that is said.

        Raises ProtocolError where so many cannot be.
        """
        if not (0 <= tokens_in <= MOST_TOKENS and 0 <= tokens_out <= MOST_TOKENS):
            raise ProtocolError(f"cannot believe {tokens_in} and {tokens_out} tokens: there are 0 to {MOST_TOKENS}")
        self._tokens_in += tokens_in
        self._tokens_out += tokens_out
        share = self._running.get(call)
        if share is not None:
            share.tokens_in += tokens_in
            share.tokens_out += tokens_out

    def ended(self, end: CallEnd) -> CallEnd:
        """The end of a call that does not run any more, with what it had; as it is, of one that never ran."""
        if end.call not in self._running:
            return end
        self._advance()
        self._ended += 1
        share = self._running.pop(end.call)
        return replace(end, used_us=share.us, tokens_in=share.tokens_in, tokens_out=share.tokens_out)

    def seal(self, counted: Counted = UNCOUNTED, *, is_last: bool = False) -> UsageRecord | None:
        """What was used since the last time; None where that is nothing, or all of it was sealed.

        `counted` is what others counted by now, since the worker's first moment.
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
            cpu_us=_grown(counted.cpu_us, self._counted.cpu_us),
            egress_bytes=_grown(counted.egress_bytes, self._counted.egress_bytes),
            tokens_in=self._tokens_in,
            tokens_out=self._tokens_out,
            is_last=is_last,
        )
        self._since, self._times = self._at, {}
        self._ended = self._tokens_in = self._tokens_out = 0
        self._counted = Counted(
            cpu_us=_most(counted.cpu_us, self._counted.cpu_us),
            egress_bytes=_most(counted.egress_bytes, self._counted.egress_bytes),
        )
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
            for running in self._running.values():
                running.us += share + rest
                rest = 0
        self._at = now

    def _now(self) -> int:
        return self._zero_us + self._read()

    def _read(self) -> int:
        return int(self._clock.monotonic() * 1e6)


class Unmetered:
    """Where nothing is metered, which is for measuring what metering takes."""

    def enter(self, state: WorkerState) -> None:
        """Nothing."""

    def began(self, call: str) -> None:
        """Nothing."""

    def took(self, call: str, tokens_in: int, tokens_out: int) -> None:
        """Nothing."""

    def ended(self, end: CallEnd) -> CallEnd:
        """The end as it is."""
        return end

    def seal(self, counted: Counted = UNCOUNTED, *, is_last: bool = False) -> None:
        """None."""


def _grown(now: int | None, before: int | None) -> int | None:
    """How much more there is; of what is not known any more nothing is known."""
    return None if now is None else max(0, now - (before or 0))


def _most(now: int | None, before: int | None) -> int | None:
    return before if now is None else max(now, before or 0)
