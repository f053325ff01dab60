"""What the node has to tell: gathered while the loop runs, told in one report, ends told again until acknowledged.

An end passes through three stages, and in all of them its call counts as held, so that nobody runs it again meanwhile:

    promised (its value is being uploaded) ─▶ to be told ─▶ told ─acknowledged▶ forgotten
                                                  ▲            │
                                                  └─ the link was cut

Items of generators are told before the end of their call, and again on a new link until their reader has them.
Lines are told before the end of the call that wrote them, and again on a new link until they are kept (`agent.lines`).
What a worker said last is told before it is gone, unless the server keeps no lines now.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from relight.agent.items import UntakenItems
from relight.agent.ledger import Key, UnkeptUsage
from relight.agent.lines import CanWait, UnkeptLines
from relight.protocol.calls import Token
from relight.protocol.link import CallEnd, CallItem, LogLines, Reports, WorkerChange
from relight.protocol.payload import Payload
from relight.protocol.templates import TemplateOutcome
from relight.protocol.usage import UsageRecord
from relight.protocol.workers import WorkerState

REPORT_BYTES = 8 * 1024 * 1024
"""A report holds about no more bytes of values than these."""

USAGE_SECONDS = 0.25
"""How long word of what a worker used waits for company."""

_KEPT_DEPARTURES = 256


@dataclass(frozen=True, slots=True)
class Held:
    """A call that the server must not give to another: which attempt of it, and on which worker."""

    worker: str
    call: str
    token: Token
    attempt: int

    @property
    def key(self) -> tuple[str, Token]:
        """What names an attempt on the link."""
        return (self.call, self.token)


class Outbox:
    """`wake` is called when there is something new to tell, with the seconds that it may wait for more; it is expected to
    `take` by then.
    """

    def __init__(self, wake: Callable[[float], None] = lambda patience_seconds: None) -> None:
        self.wake = wake
        self._held: dict[tuple[str, Token], Held] = {}
        self._ends: dict[tuple[str, Token], CallEnd] = {}
        self._untold: deque[tuple[str, Token]] = deque()
        self._items = UntakenItems()
        self._changes: deque[WorkerChange] = deque()
        self._departures: dict[str, WorkerChange] = {}  # told, by worker, the newest last
        self._templates: list[TemplateOutcome] = []
        self._lines = UnkeptLines()
        self._usage = UnkeptUsage()
        self._has_told = asyncio.Event()

    # -- in

    def promise(self, held: Held) -> None:
        """An attempt is over, and its end will be told once its value is with the server."""
        self._held[held.key] = held

    def end(self, held: Held, end: CallEnd) -> None:
        """Tell how an attempt ended, until that is acknowledged."""
        self._held[held.key] = held
        self._ends[held.key] = end
        self._untold.append(held.key)
        self.wake(0.0)

    def item(self, item: CallItem) -> None:
        """Tell an item, until its reader has taken it."""
        self._items.add(item)
        self.wake(0.0)

    def taken(self, key: tuple[str, Token], number: int) -> None:
        """The items of an attempt up to `number` are with their reader."""
        self._items.taken(key, number)

    def change(self, change: WorkerChange, patience_seconds: float = 0.0) -> None:
        """Tell that a worker's state changed; with patience, together with what comes next."""
        self._changes.append(change)
        self.wake(patience_seconds)

    def template(self, outcome: TemplateOutcome) -> None:
        """Tell what became of a template."""
        self._templates.append(outcome)
        self.wake(0.0)

    def usage(self, record: UsageRecord) -> None:
        """Tell what a worker used, until that is kept; when it is gone with that word."""
        self._usage.add(record)
        self.wake(0.0 if record.is_last else USAGE_SECONDS)

    def usage_kept(self, keys: Iterable[Key]) -> None:
        """The server has these records."""
        self._usage.kept(keys)
        self._has_told.set()

    def lines(self, lines: Sequence[LogLines], writer: CanWait | None = None) -> None:
        """Tell what a worker wrote; `writer` is paused while there is no room for more of it."""
        self._lines.add(lines, writer)
        self.wake(0.0)

    def lines_kept(self, batch: int) -> None:
        """The lines of batches up to this one are kept by the server."""
        if batch:
            self._lines.acknowledge(batch)
            self._has_told.set()
            self.wake(0.0)

    def look(self, now: float) -> None:
        """Now and then, whether the server hears or not: hold nobody back for ever."""
        self._lines.look(now)

    def acknowledge(self, keys: Iterable[tuple[str, Token]]) -> None:
        """These ends are kept by the server."""
        for key in keys:
            self._ends.pop(key, None)
            self._held.pop(key, None)
            self._items.ended(key)
        self._has_told.set()

    # -- out

    def rewind(self) -> None:
        """A new link: what was told on the last one may not have been heard.

        A departure is told again too, as a worker that is not there any more cannot be seen in Hello; its templates can.
        """
        self._templates.clear()
        self._untold = deque(self._ends)
        self._items.rewind()
        self._lines.rewind()
        self._usage.rewind()
        untold = {change.worker for change in self._changes if change.state is WorkerState.GONE}
        told = [change for worker, change in self._departures.items() if worker not in untold]
        self._changes = deque([*told, *self._changes])

    def take(self, *, with_lines: bool = True) -> Reports | None:
        """The next report; None when there is nothing to tell.  Without lines where the link is behind already."""
        batch = self._lines.take() if with_lines else None
        items = self._items.take(REPORT_BYTES)
        ends = () if self._items.has_untold else self._take_ends()
        changes = self._take_changes()
        templates, self._templates = tuple(self._templates), []
        usage = self._usage.take()
        if not (ends or changes or items or batch or templates or usage):
            return None
        return Reports(
            ends=ends,
            workers=changes,
            items=items,
            logs=batch.lines if batch is not None else (),
            log_batch=batch.number if batch is not None else 0,
            templates=templates,
            usage=usage,
        )

    @property
    def has_lines(self) -> bool:
        """Whether lines wait to be told, and may be."""
        return self._lines.is_ready

    async def wait_told(self) -> None:
        """Return once no end is promised, and no end, line or use told and not acknowledged."""
        while self._held or not self._lines.is_empty or not self._usage.is_empty:
            self._has_told.clear()
            await self._has_told.wait()

    def writers(self) -> set[str]:
        """The workers whose lines are not all kept."""
        return self._lines.workers()

    def held(self) -> Iterator[Held]:
        """The attempts that are over here and not yet known to be over there."""
        return iter(self._held.values())

    def _take_ends(self) -> tuple[CallEnd, ...]:
        ends: list[CallEnd] = []
        early: list[tuple[str, Token]] = []  # their lines are to be told first
        size = 0
        while self._untold and size < REPORT_BYTES:
            key = self._untold.popleft()
            end = self._ends.get(key)
            if end is None:
                continue
            if self._lines.waits_for(end.call):
                early.append(key)
                continue
            ends.append(end)
            size += _bytes_of(end.result) + _bytes_of(end.failure.exception if end.failure else None)
        self._untold.extendleft(reversed(early))
        return tuple(ends)

    def _take_changes(self) -> tuple[WorkerChange, ...]:
        changes: list[WorkerChange] = []
        late: deque[WorkerChange] = deque()
        for change in self._changes:
            if self._has_last_words(change):
                late.append(change)
                continue
            changes.append(change)
            if change.state is WorkerState.GONE:
                self._departures[change.worker] = change
        self._changes = late
        while len(self._departures) > _KEPT_DEPARTURES:
            del self._departures[next(iter(self._departures))]
        return tuple(changes)

    def _has_last_words(self, change: WorkerChange) -> bool:
        return change.state is WorkerState.GONE and self._lines.is_ready and self._lines.has_untold(change.worker)


def _bytes_of(payload: Payload | None) -> int:
    return len(payload.data) if payload is not None and payload.data is not None else 0
