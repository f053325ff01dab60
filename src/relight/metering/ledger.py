"""The ledger: what a stretch costs, what stretches come to together, and what the whole would cost on other cards.  Pure.

Everything is summed from the same integers, so the parts of any grouping add up to its total, and any two groupings have one
total.  What has no price is counted, never summed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from relight.metering.cards import Card
from relight.metering.pricing import Use, price
from relight.protocol.usage import StateTimes, add_times
from relight.protocol.workers import WorkerState
from relight.store.usage import Before, Entry, Posting, UsageRow


@dataclass(slots=True)
class Sum:
    """What some stretches come to: `unpriced` of their postings have no price, and `nanos` is what the others cost.

    `life_us` is how long workers were there, `billed_us` what of it was charged, `busy_us` how long they ran calls.
    """

    nanos: int = 0
    unpriced: int = 0
    billed_us: int = 0
    life_us: int = 0
    busy_us: int = 0
    calls: int = 0
    workers: set[str] = field(default_factory=set)

    def add(self, entry: Entry) -> None:
        """One posting more; its stretch counts once, with the first."""
        posting, row = entry.posting, entry.row
        if posting.nanos is None:
            self.unpriced += 1
        else:
            self.nanos += posting.nanos
        if posting.correction:
            return
        self.billed_us += posting.billed_us
        self.life_us += row.length_us
        self.busy_us += dict(row.record.states).get(WorkerState.BUSY, 0)
        self.calls += row.record.calls
        self.workers.add(row.record.worker)


def day_of(until_us: int) -> str:
    """The day (UTC) in which a stretch ended."""
    return datetime.fromtimestamp(until_us / 1e6, UTC).strftime("%Y-%m-%d")


GROUPINGS: Mapping[str, Callable[[UsageRow], str]] = {
    "worker": lambda row: row.record.worker,
    "function": lambda row: f"{row.record.by.app}/{row.record.by.function}",
    "app": lambda row: row.record.by.app,
    "version": lambda row: row.record.by.version,
    "environment": lambda row: row.record.by.environment,
    "kind": lambda row: row.record.by.kind.value,
    "node": lambda row: row.node,
    "gpu": lambda row: ", ".join(row.gpus) or "none",
    "workspace": lambda row: row.record.by.workspace,
    "day": lambda row: day_of(row.record.until_us),
}
"""What costs are told by."""


class Costs:
    """Sums by one grouping, and what each would have cost on other cards."""

    def __init__(self, by: str, against: Sequence[Card] = ()) -> None:
        self._key = GROUPINGS[by]
        self._against = tuple(against)
        self.groups: dict[str, Sum] = {}
        self.total = Sum()
        self._used: dict[tuple[str, str], tuple[UsageRow, Before]] = {}

    def add(self, entries: Iterable[Entry]) -> Costs:
        """Take postings in."""
        for entry in entries:
            key = self._key(entry.row)
            self.groups.setdefault(key, Sum()).add(entry)
            self.total.add(entry)
            if self._against and not entry.posting.correction:
                self._note(key, entry.row)
        return self

    def elsewhere(self) -> dict[str, dict[str, int | None]]:
        """What each group would have cost on each card: None where one of its workers has no price there.

        Each worker is priced as a whole for what it used within the group, so a card's rounding is done once for each.
        """
        costs: dict[str, dict[str, int | None]] = {key: {card.key: 0 for card in self._against} for key in self.groups}
        for (key, _), (row, used) in self._used.items():
            for card in self._against:
                known, more = costs[key][card.key], price(card, use_of(row, used)).nanos
                costs[key][card.key] = None if known is None or more is None else known + more
        return costs

    def _note(self, key: str, row: UsageRow) -> None:
        _, before = self._used.get((key, row.record.worker), (row, Before()))
        self._used[key, row.record.worker] = (row, after(row, before))


def post(card: Card, row: UsageRow, before: Before) -> Posting:
    """What a stretch costs: its worker's price up to the end of it, less that up to its beginning."""
    earlier, whole = price(card, use_of(row, before)), price(card, use_of(row, after(row, before)))
    is_known = whole.nanos is not None and earlier.nanos is not None
    return Posting(
        card=card.key,
        nanos=(whole.nanos or 0) - (earlier.nanos or 0) if is_known else None,
        billed_us=whole.billed_us - earlier.billed_us,
    )


def after(row: UsageRow, before: Before) -> Before:
    """All that a worker used up to the end of a stretch."""
    return Before(
        times=add_times(before.times, row.record.states),
        calls=before.calls + row.record.calls,
        egress_bytes=before.egress_bytes + (row.record.egress_bytes or 0),
    )


def use_of(row: UsageRow, used: Before) -> Use:
    """What a worker used, as it is priced."""
    return Use(
        kind=row.record.by.kind,
        times=used.times,
        cpu_millis=row.cpu_millis,
        memory_mib=row.memory_mib,
        gpus=row.gpus,
        calls=used.calls,
        egress_bytes=used.egress_bytes,
    )


def replay(entries: Iterable[Entry], cards: Mapping[str, Card]) -> int:
    """What the stretches of a ledger cost when each is posted anew, by the card that it was posted by: its total, corrections
    as they were.  Postings without a price are left out."""
    total = 0
    used: dict[str, Before] = {}
    for entry in entries:
        row, posting = entry.row, entry.posting
        if posting.correction:
            total += posting.nanos or 0
            continue
        before = used.get(row.record.worker, Before())
        total += post(cards[posting.card], row, before).nanos or 0
        used[row.record.worker] = after(row, before)
    return total


def gaps(rows: Iterable[UsageRow]) -> list[tuple[str, int]]:
    """Where the stretches of a worker do not meet: the worker, and by how many microseconds (negative where they overlap)."""
    ends: dict[str, int] = {}
    found = []
    for row in sorted(rows, key=lambda row: (row.record.worker, row.record.n)):
        record = row.record
        apart = record.since_us - ends.get(record.worker, record.since_us)
        if apart:
            found.append((record.worker, apart))
        ends[record.worker] = record.until_us
    return found


def call_cost(card: Card, use: Use, used_us: int) -> int | None:
    """What a call cost that had so much of a worker's time: that time, priced alone."""
    times: StateTimes = ((WorkerState.BUSY, used_us),) if used_us else ()
    alone = Use(
        kind=use.kind, times=times, cpu_millis=use.cpu_millis, memory_mib=use.memory_mib, gpus=use.gpus, calls=1
    )
    return price(card, alone).nanos
