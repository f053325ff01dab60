"""What workers write that do not live to see a call: shown once, and counted where the next of them says the same.

A start that fails is tried again, and each try says why.  A line that could be a repetition is held until it is known
to be one: until its worker ends, writes something else, or has a call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from relight.protocol.views import LogRecord

ENDED = "the worker ended: "
"""How the line begins that is the last of a worker."""

MOST_LINES = 1000
"""Who writes more than this is shown whole, each time."""

Said = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Life:
    """What a worker has written so far; `held` of it are not shown, as the one before it wrote the same."""

    before: Said
    said: list[tuple[str, str]] = field(default_factory=list)
    held: list[LogRecord] = field(default_factory=list)
    is_new: bool = False


class Repeats:
    """Passes lines on to `show`, without what a worker that failed repeats after another of its function."""

    def __init__(self, show: Callable[[LogRecord], None]) -> None:
        self._show = show
        self._lives: dict[str, _Life] = {}
        self._last: dict[str, Said] = {}
        self._again: dict[str, list[LogRecord]] = {}  # by function: how those ended that said nothing new

    def tell(self, record: LogRecord) -> None:
        """Show a line now, later, or as one more of its kind."""
        life = self._lives.setdefault(record.worker, _Life(self._last.get(record.function, ())))
        if record.call:
            self._release(record.function, life)
            self._show(record)
            return
        at = len(life.said)
        if at <= MOST_LINES:
            life.said.append((record.source, record.text))
        if life.is_new or at >= len(life.before) or life.before[at] != life.said[at]:
            self._release(record.function, life)
            self._show(record)
        else:
            life.held.append(record)
        if record.source == "system" and record.text.startswith(ENDED):
            self._end(record, life)

    def finish(self) -> None:
        """Show what is held."""
        for life in self._lives.values():
            for record in life.held:
                self._show(record)
            life.held.clear()
        for function in list(self._again):
            self._count(function)

    def _end(self, record: LogRecord, life: _Life) -> None:
        del self._lives[record.worker]
        if life.held and len(life.said) == len(life.before):
            self._again.setdefault(record.function, []).append(record)
            return
        self._release(record.function, life)
        self._last[record.function] = tuple(life.said) if len(life.said) <= MOST_LINES else ()

    def _release(self, function: str, life: _Life) -> None:
        """It says something of its own: show all of it, after how often the one before it was repeated."""
        if not life.is_new:
            life.is_new = True
            self._count(function)
        for record in life.held:
            self._show(record)
        life.held.clear()

    def _count(self, function: str) -> None:
        ended = self._again.pop(function, [])
        if ended:
            often = f"again {len(ended)} times" if len(ended) > 1 else "once more"
            self._show(replace(ended[-1], text=f"{often}: {ended[-1].text}"))
