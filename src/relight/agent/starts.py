"""How long each part of a start took: one clock, read where a phase ends and the next begins, so none is missed."""

from __future__ import annotations

import math
from collections.abc import Callable

from relight.protocol.starts import Phase, StartLevel, StartReport

BeginPhase = Callable[[str], None]
"""Say that a phase of the start begins, and that the one before it is over."""

_AFTER = {"fork": "thaw", "take": "take"}
"""What a process is at until it loads, by what came before."""

FETCHED = "not_here: its code was not on this node yet"


class Start:
    """One start, from the order to it until the worker is ready, or is not going to be."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._phases: list[Phase] = []
        self._phase = "place"
        self._since = monotonic()
        self._level = StartLevel.BOOT
        self._why = ""
        self._has_fetched = False

    def begin(self, phase: str) -> None:
        """A phase begins; more of the one that there is already counts with it."""
        now = self._monotonic()
        if phase != self._phase:
            self._keep(self._phase, now - self._since)
            self._phase, self._since = phase, now

    def fetch(self) -> None:
        """What it needs is not here: this is a start of the slowest kind."""
        self._has_fetched = True
        self.begin("fetch")

    def begun(self, level: StartLevel, why: str) -> None:
        """Its process is there, and loads."""
        self._level, self._why = level, why
        self.begin("load")

    def ready(self, import_seconds: float, enter_seconds: float) -> StartReport:
        """It takes calls.  What the worker says of its own seconds is believed as far as there were so many."""
        now = self._monotonic()
        left = now - self._since
        enter = _bounded(enter_seconds, left)
        imported = _bounded(import_seconds, left - enter)
        last = self._phases[-1].name if self._phases else ""  # a fork that failed is followed by a fresh process
        self._keep(_AFTER.get(last, "python"), left - enter - imported)
        self._keep("import", imported)
        self._keep("enter", enter)
        self._since = now
        return self._report()

    def failed(self) -> StartReport:
        """It will not take calls; what it was at counts until now."""
        now = self._monotonic()
        self._keep(self._phase, now - self._since)
        self._since = now
        return self._report()

    def _keep(self, name: str, seconds: float) -> None:
        if self._phases and self._phases[-1].name == name:
            seconds += self._phases.pop().seconds
        self._phases.append(Phase(name=name, seconds=seconds))

    def _report(self) -> StartReport:
        if self._has_fetched:
            return StartReport(level=StartLevel.FETCH, why=FETCHED, phases=tuple(self._phases))
        return StartReport(level=self._level, why=self._why, phases=tuple(self._phases))


def _bounded(seconds: float, most: float) -> float:
    return min(max(seconds, 0.0), max(most, 0.0)) if math.isfinite(seconds) else 0.0
