"""What workers used: taken from their nodes, posted at the price of the card in force, acknowledged once it is kept.

A node tells of each stretch until it hears that it is kept, so nothing is lost; a stretch has a number, so nothing counts twice.
A node that dies tells no more: the lives of its workers are closed here, by what this server saw of them, at the moment
in which they are known to be gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from relight.clock import Clock
from relight.metering.cards import Card
from relight.metering.ledger import post
from relight.protocol.link import used_by
from relight.protocol.usage import StateTimes, UsageRecord, add_times
from relight.protocol.workers import WorkerState
from relight.scheduler.loop import Scheduler
from relight.scheduler.placement import DEFAULT_CPU, DEFAULT_MEMORY_MIB
from relight.scheduler.state import Worker
from relight.store.store import Store
from relight.store.usage import Before, Posting, UsageRow

KEEP_AGAIN_SECONDS = 1.0
"""After how long what could not be kept is tried again."""

_log = logging.getLogger("relight.control")


@dataclass(slots=True)
class _Life:
    """What this server saw of a worker since its node told of it last; times are microseconds since 1970."""

    since_us: int
    state: WorkerState
    at_us: int
    times: dict[WorkerState, int] = field(default_factory=dict)

    def enter(self, state: WorkerState, at_us: int) -> None:
        """It is in another state from then on."""
        self.times[self.state] = self.times.get(self.state, 0) + max(0, at_us - self.at_us)
        self.state, self.at_us = state, max(at_us, self.at_us)

    def told(self, until_us: int) -> None:
        """Its node has told of the time up to then."""
        if until_us <= self.since_us:
            return
        self.since_us = self.at_us = until_us
        self.times.clear()


class Usage:
    """The meter readings of every node."""

    def __init__(self, store: Store, card: Card, clock: Clock, *, is_metered: bool = True) -> None:
        self._store = store
        self._is_metered = is_metered
        self._card = card
        self._clock = clock
        self._lives: dict[str, _Life] = {}
        self._on_posted: Callable[[], None] = lambda: None
        self._acknowledge: Callable[[str, Iterable[tuple[str, int]]], None] = lambda node, keys: None
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    def answer_by(self, acknowledge: Callable[[str, Iterable[tuple[str, int]]], None]) -> None:
        """Have nodes told, by name, which (worker, n) are kept."""
        self._acknowledge = acknowledge

    def tell_posted(self, on_posted: Callable[[], None]) -> None:
        """Call `on_posted` whenever something was posted."""
        self._on_posted = on_posted

    def take(self, node: str, records: Sequence[UsageRecord]) -> None:
        """A node tells what its workers used."""
        for record in records:
            self._told(record)
        kinds = {gpu.id: gpu.kind for one in self._scheduler.nodes() if one.id == node for gpu in one.hello.gpus}
        rows = [row_of(record, node, kinds) for record in records]
        kept = self._store.usage.keep(rows, self._post)
        kept.add_done_callback(lambda done: self._on_kept(node, records, done.exception()))

    def entered(self, worker: Worker) -> None:
        """The scheduler says that a worker is in another state."""
        if not self._is_metered:
            return
        at_us = round(worker.since_unix * 1e6)
        life = self._lives.get(worker.id)
        if worker.state is WorkerState.GONE:
            life = self._lives.pop(worker.id, None) or _Life(at_us, WorkerState.IDLE, at_us)  # of before this server
            life.enter(WorkerState.GONE, at_us)
            self._close(worker, life)
        elif life is not None:
            life.enter(worker.state, at_us)
        else:
            self._lives[worker.id] = _Life(at_us, worker.state, at_us)

    def _told(self, record: UsageRecord) -> None:
        if record.is_last:
            self._lives.pop(record.worker, None)
            return
        life, worker = self._lives.get(record.worker), self._scheduler.worker(record.worker)
        if life is not None:
            life.told(record.until_us)
        elif worker is not None:  # it was there before this server
            self._lives[worker.id] = _Life(record.until_us, worker.state, record.until_us)

    def _close(self, worker: Worker, life: _Life) -> None:
        """Its node died, or has lost it: nobody else will say what it used since."""
        states: StateTimes = add_times(tuple(life.times.items()))
        if states and not any(state not in (WorkerState.REQUESTED, WorkerState.PLACING) for state, _ in states):
            return  # there was nothing of it yet
        record = UsageRecord(
            worker=worker.id,
            n=0,
            by=used_by(worker.spec),
            since_us=life.since_us,
            until_us=life.at_us,
            states=states,
            is_last=True,
        )
        node = next((one for one in self._scheduler.nodes() if one.id == worker.node), None)
        kinds = {gpu.id: gpu.kind for gpu in node.hello.gpus} if node is not None else {}
        closed = self._store.usage.close(row_of(record, worker.node, kinds), self._post)
        closed.add_done_callback(partial(_note_failure, worker.id))

    def _on_kept(self, node: str, records: Sequence[UsageRecord], error: BaseException | None) -> None:
        if error is not None:
            _log.error("usage not kept", extra={"node": node, "records": len(records), "why": str(error)})
            asyncio.get_running_loop().call_later(KEEP_AGAIN_SECONDS, self.take, node, records)
            return
        self._acknowledge(node, [(record.worker, record.n) for record in records])
        self._on_posted()

    def _post(self, row: UsageRow, before: Before) -> Posting:
        return post(self._card, row, before)

    @property
    def card(self) -> Card:
        """The card in force."""
        return self._card


def row_of(record: UsageRecord, node: str, kinds: Mapping[str, str]) -> UsageRow:
    """A record as it is kept; `kinds` are of the node's GPUs, by id."""
    by = record.by
    return UsageRow(
        record=record,
        node=node,
        cpu_millis=round((DEFAULT_CPU if by.cpu is None else by.cpu) * 1000),
        memory_mib=DEFAULT_MEMORY_MIB if by.memory_mib is None else by.memory_mib,
        gpus=tuple(kinds.get(gpu, "unknown") for gpu in by.gpus),
        gpu_micros=round(by.gpu_share * 1_000_000),
    )


def _note_failure(worker: str, done: asyncio.Future[None]) -> None:
    error = done.exception()
    if error is not None:
        _log.error("life not closed", extra={"worker": worker, "why": str(error)})
