"""How far a map has come, told to whoever shows it: the command line on a terminal, nobody elsewhere.

The seam is a context variable, so that code under `with showing(…):` is shown wherever it maps, and threads and tasks of
somebody else are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Task(Protocol):
    """One map."""

    def tell(self, submitted: int, done: int, total: int | None) -> None:
        """So many calls were submitted and have ended; `total` is None until the whole input was read."""

    def end(self) -> None:
        """There is no more to tell."""


class Progress(Protocol):
    """Shows maps."""

    def begin(self, what: str) -> Task:
        """A map of this function begins."""


class _Nobody:
    """Shows nothing."""

    def begin(self, what: str) -> Task:
        return self

    def tell(self, submitted: int, done: int, total: int | None) -> None:
        """Told to nobody."""

    def end(self) -> None:
        """Told to nobody."""


_SHOWN: ContextVar[Progress | None] = ContextVar("relight_progress", default=None)


def begin(what: str) -> Task:
    """A map of this function begins, here."""
    return (_SHOWN.get() or _Nobody()).begin(what)


@contextmanager
def showing(progress: Progress) -> Iterator[None]:
    """The time in which maps are shown by `progress`."""
    token = _SHOWN.set(progress)
    try:
        yield
    finally:
        _SHOWN.reset(token)
