"""The lines of one agent's process on their way into the store.

Batches are written in their order, one write at a time, again until they are in; those that come meanwhile share the next
one.  Only what is committed is acknowledged, and a batch that is told again is known by its number: here while it is on
its way, in the store ever after.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from relight.clock import Clock
from relight.store.logs import Batch, LogTable

KEEP_AGAIN_SECONDS = 1.0
"""After how long lines that could not be kept are tried again."""

_log = logging.getLogger("relight.control")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A batch, and the calls that wrote it."""

    batch: Batch
    calls: frozenset[str]


class Intake:
    """One for each incarnation of a node.  `on_kept` is called with the number of the last batch that is in."""

    def __init__(self, table: LogTable, clock: Clock, on_kept: Callable[[int], None]) -> None:
        self._table = table
        self._clock = clock
        self._on_kept = on_kept
        self._taken = 0
        self._kept = 0
        self._waiting: list[Arrived] = []
        self._writing: list[Arrived] = []
        self._calls: dict[str, int] = {}  # the last batch of each call whose lines are not in
        self._then: list[tuple[int, Callable[[], None]]] = []
        self._is_failing = False
        self._again: asyncio.Task[None] | None = None

    def take(self, arrived: Arrived) -> None:
        """Keep a batch.  One that is kept already is only acknowledged again."""
        number = arrived.batch.number
        if number <= self._taken:
            if number <= self._kept:
                self._on_kept(self._kept)
            return
        self._taken = number
        self._waiting.append(arrived)
        self._calls.update(dict.fromkeys(arrived.calls, number))
        self._write_next()

    def holds_any(self, calls: Iterable[str]) -> bool:
        """Whether lines of these calls are on their way.  Lines that cannot be kept now hold nobody up."""
        return not self._is_failing and bool(self._calls) and any(call in self._calls for call in calls)

    def when_kept(self, calls: Iterable[str], then: Callable[[], None]) -> None:
        """Call something once the lines of these calls that are here now are in, or could not be kept at first."""
        self._then.append((max(self._calls.get(call, 0) for call in calls), then))

    def when_all_kept(self, then: Callable[[], None]) -> None:
        """Call something once all lines that are here now are in, or could not be kept at first."""
        if self._is_failing or self._kept >= self._taken:
            then()
        else:
            self._then.append((self._taken, then))

    def _write_next(self) -> None:
        if not self._writing and self._waiting:
            self._writing, self._waiting = self._waiting, []
            self._write()

    def _write(self) -> None:
        self._table.keep([arrived.batch for arrived in self._writing]).add_done_callback(self._written)

    def _written(self, kept: asyncio.Future[None]) -> None:
        error = kept.exception()
        self._is_failing = error is not None
        if error is not None:
            _log.error("lines not kept", extra={"batches": len(self._writing), "why": str(error)})
            self._again = asyncio.get_running_loop().create_task(self._write_later(), name="control.intake")
        else:
            self._kept = self._writing[-1].batch.number
            self._calls = {call: number for call, number in self._calls.items() if number > self._kept}
            self._writing = []
            self._on_kept(self._kept)
            self._write_next()
        due = [act for number, act in self._then if self._is_failing or number <= self._kept]
        self._then = [] if self._is_failing else [one for one in self._then if one[0] > self._kept]
        for act in due:
            act()

    async def _write_later(self) -> None:
        await self._clock.sleep(KEEP_AGAIN_SECONDS)
        self._write()
