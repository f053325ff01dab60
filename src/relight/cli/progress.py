"""A bar for each map that takes its time, on a terminal; nothing in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from relight.clock import Clock, SystemClock
from relight.sdk import progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PATIENCE_SECONDS = 0.5
"""A map that ends sooner is not shown."""


def bars_on_a_terminal() -> AbstractContextManager[None]:
    """The time in which maps are shown, where somebody can see it."""
    return _bars() if sys.stderr.isatty() else nullcontext()


@contextmanager
def _bars() -> Iterator[None]:
    from rich.console import Console

    bars = Bars(Console(stderr=True), SystemClock())
    try:
        with progress.showing(bars):
            yield
    finally:
        bars.close()


class Bars:
    """All bars; drawn by one object of rich, which also moves what is printed meanwhile above them."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self.clock = clock
        self._rich: RichProgress | None = None

    def begin(self, what: str) -> Bar:
        """A map begins."""
        return Bar(self, what)

    def add(self, what: str) -> tuple[RichProgress, TaskID]:
        """Draw one more."""
        if self._rich is None:
            self._rich = self._new()
            self._rich.start()
        return self._rich, self._rich.add_task(what, total=None)

    def close(self) -> None:
        """Draw nothing more, and leave the terminal as if nothing had been drawn."""
        if self._rich is not None:
            self._rich.stop()
            self._rich = None

    def _new(self) -> RichProgress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # else what goes into a pipe would be drawn above the bar instead
        )


class Bar:
    """One map's."""

    def __init__(self, bars: Bars, what: str) -> None:
        self._bars = bars
        self._what = what
        self._since = bars.clock.monotonic()
        self._drawn: tuple[RichProgress, TaskID] | None = None

    def tell(self, submitted: int, done: int, total: int | None) -> None:
        """Draw it as far as it is, once it has taken a moment."""
        if self._drawn is None:
            if self._bars.clock.monotonic() - self._since < PATIENCE_SECONDS:
                return
            self._drawn = self._bars.add(self._what)
        rich, task = self._drawn
        rich.update(task, completed=done, total=total)

    def end(self) -> None:
        """Draw it no more."""
        if self._drawn is not None:
            rich, task = self._drawn
            rich.remove_task(task)
            self._drawn = None
