"""What workers wrote, on its way to the server: told in numbered batches, again on a new link, until it is kept there.

Nothing has to be lost for that.  A worker that writes faster than the server keeps is held back: its pipes are not read
until there is room, so that it waits in `write`.  Workers take turns, so that one that floods keeps no other waiting.

Holding back ends when the server has kept nothing for a while (it is down, or its disk is full): work goes on then, and
once memory is short the oldest lines of who wrote most give way.  Where they were, a line says how many.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from relight.protocol.link import LogLines

BATCH_LINES = 2_000
BATCH_BYTES = 512 * 1024
"""A batch has about so many lines, or bytes, at most."""

BATCHES_AHEAD = 8
"""So many batches are told before the first of them is known to be kept: it bounds what the server has in memory."""

WORKER_BYTES = 2 * 1024 * 1024
HELD_BYTES = 16 * 1024 * 1024
"""A worker is held back when so much of what it wrote, or of what all wrote, is not kept yet."""

KEPT_BYTES = 64 * 1024 * 1024
"""So much is kept in memory, whatever happens."""

PATIENCE_SECONDS = 30.0
"""So long workers are held back while the server keeps nothing."""

_LINE_COST = 80  # what a line takes beside its text
_DROPPED = "{} lines were dropped here: the worker wrote faster than they could be kept"
_MANY_CALLS = 100


class CanWait(Protocol):
    """What a worker writes into."""

    def pause(self) -> None:
        """Read no more, so that the worker waits when it writes."""

    def resume(self) -> None:
        """Read on."""


@dataclass(slots=True)
class _Queue:
    """What one worker wrote: `lines` are to be told; `size` counts those that were told, and are not kept yet, too."""

    worker: str
    lines: deque[LogLines] = field(default_factory=deque)
    size: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_at: float = 0.0
    paused: CanWait | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines that are told together."""

    number: int
    lines: tuple[LogLines, ...]


class UnkeptLines:
    """All lines of a node that its server has not acknowledged."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}  # in the order of their turns
        self._sent: deque[Batch] = deque()
        self._to_repeat = 0  # so many of `_sent`, from the end, were not told on this link
        self._number = 0
        self._size = 0
        self._untold: Counter[str] = Counter()  # by call: how many groups of lines are to be told
        self._is_patient = True
        self._progress = 0
        self._progress_at: float | None = None

    # -- in

    def add(self, lines: Sequence[LogLines], writer: CanWait | None = None) -> None:
        """Lines of one worker; `writer` is what is paused when there is no room for more."""
        for group in lines:
            queue = self._queues.setdefault(group.worker, _Queue(group.worker))
            queue.lines.append(group)
            self._untold[group.call] += 1
            self._grow(queue, _size_of(group))
            if writer is not None and queue.paused is None and self._is_full(queue) and self._is_patient:
                queue.paused = writer
                writer.pause()
        while self._size > KEPT_BYTES and self._drop_some():
            pass

    def acknowledge(self, number: int) -> None:
        """Batches up to this one are kept."""
        while self._sent and self._sent[0].number <= number:
            is_untold = self._to_repeat == len(self._sent)  # it was kept before the link was lost
            batch = self._sent.popleft()
            if is_untold:
                self._to_repeat -= 1
                self._note_told(batch)
            for group in batch.lines:
                self._grow(self._queues[group.worker], -_size_of(group))
            self._progress += 1
            self._is_patient = True
        for queue in list(self._queues.values()):
            if queue.paused is not None and self._has_room(queue):
                self._let_go(queue)
            if not queue.size and queue.paused is None and not queue.dropped:
                del self._queues[queue.worker]

    # -- out

    def rewind(self) -> None:
        """A new link: what was told and not acknowledged is told again, in the same batches."""
        already = len(self._sent) - self._to_repeat
        for batch in list(self._sent)[:already]:
            self._untold.update(group.call for group in batch.lines)
        self._to_repeat = len(self._sent)

    def take(self) -> Batch | None:
        """The next batch to tell; None when there is none, or enough are on their way."""
        if self._to_repeat:
            batch = self._sent[-self._to_repeat]
            self._to_repeat -= 1
        elif len(self._sent) < BATCHES_AHEAD and (lines := self._take_turns()):
            self._number += 1
            batch = Batch(self._number, lines)
            self._sent.append(batch)
        else:
            return None
        self._note_told(batch)
        return batch

    @property
    def is_ready(self) -> bool:
        """Whether `take` would give a batch."""
        return bool(self._to_repeat or (self._untold and len(self._sent) < BATCHES_AHEAD))

    @property
    def is_empty(self) -> bool:
        """Whether all is kept."""
        return not (self._sent or self._untold)

    def waits_for(self, call: str) -> bool:
        """Whether lines of a call are still to be told."""
        return call in self._untold

    def has_untold(self, worker: str) -> bool:
        """Whether lines of a worker are still to be told."""
        queue = self._queues.get(worker)
        again = list(self._sent)[len(self._sent) - self._to_repeat :]
        return (queue is not None and bool(queue.lines or queue.dropped)) or any(
            group.worker == worker for batch in again for group in batch.lines
        )

    def workers(self) -> set[str]:
        """Whose lines are not all kept."""
        return {queue.worker for queue in self._queues.values() if queue.size or queue.dropped}

    def look(self, now: float) -> None:
        """Now and then: let workers go on writing where nothing was kept for `PATIENCE_SECONDS`."""
        held = [queue for queue in self._queues.values() if queue.paused is not None]
        if not held or self._progress_at is None or self._progress:
            self._progress, self._progress_at = 0, now
        elif now - self._progress_at >= PATIENCE_SECONDS:
            self._is_patient = False
            for queue in held:
                self._let_go(queue)

    # -- inside

    def _note_told(self, batch: Batch) -> None:
        self._untold.subtract(group.call for group in batch.lines)
        for call in {group.call for group in batch.lines}:
            if self._untold[call] <= 0:
                del self._untold[call]

    def _take_turns(self) -> tuple[LogLines, ...]:
        """Some of each worker, beginning with the one that waited longest."""
        taken: list[LogLines] = []
        count = size = 0
        while count < BATCH_LINES and size < BATCH_BYTES:
            queue = next((one for one in self._queues.values() if one.lines or one.dropped), None)
            if queue is None:
                break
            self._queues[queue.worker] = self._queues.pop(queue.worker)
            for group in self._markers(queue) or [queue.lines.popleft()]:
                taken.append(group)
                count += len(group.texts)
                size += _size_of(group)
        return tuple(taken)

    def _markers(self, queue: _Queue) -> list[LogLines]:
        """What stands in the place of lines that were dropped."""
        markers = [
            LogLines(
                worker=queue.worker,
                at=queue.dropped_at,
                source="system",
                texts=(_DROPPED.format(f"{count:,}"),),
                call=call,
            )
            for call, count in queue.dropped.items()
        ]
        queue.dropped.clear()
        for marker in markers:
            self._untold[marker.call] += 1
            self._grow(queue, _size_of(marker))
        return markers

    def _drop_some(self) -> bool:
        """Let the oldest lines of whoever has most to tell give way; false when all there is was told already."""
        queue = max((one for one in self._queues.values() if one.lines), key=lambda one: one.size, default=None)
        if queue is None:
            return False
        group = queue.lines.popleft()
        self._untold[group.call] -= 1
        if not self._untold[group.call]:
            del self._untold[group.call]
        call = group.call if len(queue.dropped) < _MANY_CALLS or group.call in queue.dropped else ""
        queue.dropped[call] += len(group.texts)
        queue.dropped_at = group.at
        self._grow(queue, -_size_of(group))
        return True

    def _grow(self, queue: _Queue, size: int) -> None:
        queue.size += size
        self._size += size

    def _is_full(self, queue: _Queue) -> bool:
        return queue.size > WORKER_BYTES or self._size > HELD_BYTES

    def _has_room(self, queue: _Queue) -> bool:
        return queue.size < WORKER_BYTES // 2 and self._size < HELD_BYTES // 2

    def _let_go(self, queue: _Queue) -> None:
        writer, queue.paused = queue.paused, None
        if writer is not None:
            writer.resume()


def _size_of(group: LogLines) -> int:
    return sum(map(len, group.texts)) + _LINE_COST * (1 + len(group.texts))
