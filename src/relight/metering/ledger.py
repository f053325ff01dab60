"""The ledger: what a stretch costs, what stretches come to together, and what the whole would cost on other cards.  Pure.

Everything is summed from the same integers, so the parts of any grouping add up to its total, and any two groupings have one
total.  What has no price is counted, never summed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from relight.metering.cards import Card
from relight.metering.pricing import Price, Use, price
from relight.protocol.errors import InvalidRequest
from relight.protocol.usage import StateTimes, add_times
from relight.protocol.workers import WorkerState
from relight.store.usage import Before, Entry, Posting, UsageRow


@dataclass(slots=True)
class Sum:
    """What some stretches come to: `unpriced` of their postings have no price, and `nanos` is what the others cost.

    `life_us` is how long workers were there, `billed_us` what of it was charged, `busy_us` how long they ran calls, `cpu_us` the
    CPU time that they took; the first was there at `since_us`.  What nobody counted is 0.
    """

    nanos: int = 0
    unpriced: int = 0
    billed_us: int = 0
    life_us: int = 0
    busy_us: int = 0
    cpu_us: int = 0
    egress_bytes: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    calls: int = 0
    since_us: int = 0
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
        self.since_us = min(self.since_us or row.record.since_us, row.record.since_us)
        self.billed_us += posting.billed_us
        self.life_us += row.length_us
        self.busy_us += dict(row.record.states).get(WorkerState.BUSY, 0)
        self.cpu_us += row.record.cpu_us or 0
        self.egress_bytes += row.record.egress_bytes or 0
        self.tokens_in += row.record.tokens_in
        self.tokens_out += row.record.tokens_out
        self.calls += row.record.calls
        self.workers.add(row.record.worker)


def day_of(until_us: int) -> str:
    """The day (UTC) in which a stretch ended."""
    return datetime.fromtimestamp(until_us / 1e6, UTC).strftime("%Y-%m-%d")


def tags_of(row: UsageRow) -> str:
    """All tags of a stretch, so that each is in one group."""
    return ", ".join(f"{name}={value}" for name, value in row.record.by.tags) or UNTAGGED


UNTAGGED = "untagged"
"""The group of what has no tag."""

Key = Callable[[UsageRow], str]
"""Which group a stretch is in."""

GROUPINGS: Mapping[str, Key] = {
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
    "tag": tags_of,
}
"""What costs are told by; by `tag:NAME`, too, which is the value of one tag."""


def grouping(by: str) -> Key:
    """What is asked for: one of `GROUPINGS`, the value of a tag (`tag:team`), or several of them (`tag:team,day`).

    Raises InvalidRequest for any other.
    """
    keys = [_one_grouping(part) for part in by.split(",")]
    return keys[0] if len(keys) == 1 else lambda row: " ".join(key(row) for key in keys)


def _one_grouping(by: str) -> Key:
    kind, _, tag = by.partition(":")
    if kind == "tag" and tag:
        return lambda row: dict(row.record.by.tags).get(tag, UNTAGGED)
    if by not in GROUPINGS:
        known = ", ".join(("call", *GROUPINGS, "tag:NAME"))
        raise InvalidRequest(f"cannot tell costs by {by[:40]!r}: they are told by {known}; name some of them")
    return GROUPINGS[by]


@dataclass(slots=True)
class Elsewhere:
    """What a group would have cost on another card: at the least `known_nanos`, as there is no price for what is `unknown`."""

    known_nanos: int = 0
    unknown: set[str] = field(default_factory=set)

    def add(self, priced: Price) -> None:
        """One worker more."""
        self.known_nanos += priced.known_nanos
        self.unknown.update(priced.unknown)


class Costs:
    """Sums by one grouping, and what each would have cost on other cards."""

    def __init__(self, by: str, against: Sequence[Card] = ()) -> None:
        self._key = grouping(by)
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

    def elsewhere(self) -> dict[str, dict[str, Elsewhere]]:
        """What each group would have cost on each card.

        Each worker is priced as a whole for what it used within the group, so a card's rounding is done once for each.
        """
        costs = {key: {card.key: Elsewhere() for card in self._against} for key in self.groups}
        for (key, _), (row, used) in self._used.items():
            for card in self._against:
                costs[key][card.key].add(price(card, use_of(row, used)))
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
        tokens_in=before.tokens_in + row.record.tokens_in,
        tokens_out=before.tokens_out + row.record.tokens_out,
    )


def use_of(row: UsageRow, used: Before) -> Use:
    """What a worker used, as it is priced."""
    return Use(
        kind=row.record.by.kind,
        times=used.times,
        cpu_millis=row.cpu_millis,
        memory_mib=row.memory_mib,
        gpus=row.gpus,
        gpu_micros=row.gpu_micros,
        calls=used.calls,
        egress_bytes=used.egress_bytes,
        tokens_in=used.tokens_in,
        tokens_out=used.tokens_out,
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


def call_price(card: Card, use: Use, used_us: int) -> Price:
    """What a call cost that had so much of a worker's time: that time, and the tokens of `use`, priced alone."""
    times: StateTimes = ((WorkerState.BUSY, used_us),) if used_us else ()
    return price(card, replace(use, times=times, calls=1))
