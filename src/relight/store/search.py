"""Reading the log: which blocks to look at, and which of their lines.

Pages go forward from a line (`after`), or back from the end (`tail`).  In both, blocks that the index rules out are
never touched, and a page ends as soon as it is full.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from relight.protocol.views import LogQuery, LogRecord
from relight.store.bodies import Head, Origin, begins_of, line_at, places_of, unpack_text
from relight.store.queries import queries
from relight.store.shelves import SHELF_BLOCKS, blocks_in, question_of, row_in, slice_of

_FIELDS = Origin._fields
_FOREVER = 1e18
_MANY_BLOCKS = 16


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines, oldest first; whoever goes on after line `upto` misses none and sees none twice."""

    records: tuple[LogRecord, ...]
    upto: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some lines in a row, compressed: a block, or a tail.  Its texts are read only where one of them may be wanted."""

    first: int
    head: Callable[[], bytes]
    text: Callable[[], bytes]


class Search:
    """One query of one workspace, on a connection of the reader's thread."""

    def __init__(self, connection: sqlite3.Connection, workspace: str, query: LogQuery) -> None:
        self._connection = connection
        self._sql = queries("logs")
        self._query = query
        self._question = question_of(workspace, query)
        self._wanted = tuple((_FIELDS.index(name), value) for name in _FIELDS if (value := getattr(query, name)))
        self._until = query.until or _FOREVER
        self._value: dict[str, str | int | float] = {
            "workspace": workspace,
            "after": query.after,
            "since": query.since,
            "until": self._until,
        }
        search = query.search.casefold() if query.ignore_case else query.search
        self._needle = search.encode("utf-8", "replace")

    def page(self) -> LogPage:
        """The next page, all of one moment."""
        self._connection.execute("BEGIN")
        try:
            return self._back() if self._query.tail else self._forward()
        finally:
            self._connection.execute("COMMIT")

    def _forward(self) -> LogPage:
        records = list(islice(self._records(is_back=False), self._query.limit))
        return LogPage(tuple(records), self._upto(records, self._query.limit))

    def _back(self) -> LogPage:
        records = list(islice(self._records(is_back=True), self._query.tail))
        return LogPage(tuple(reversed(records)), max(self._number("last_line"), self._query.after))

    def _upto(self, records: list[LogRecord], limit: int) -> int:
        if len(records) == limit and records:
            return records[-1].id
        return max(self._number("last_line"), self._query.after)

    def _records(self, *, is_back: bool) -> Iterator[LogRecord]:
        if b"\n" in self._needle:
            return  # no line holds a line end
        for piece in self._pieces(is_back=is_back):
            found = self._matches(piece)
            yield from reversed(found) if is_back else found

    # -- which blocks

    def _pieces(self, *, is_back: bool) -> Iterator[_Piece]:
        if is_back:
            yield from reversed(list(self._tails()))
            yield from self._blocks(is_back=True)
        else:
            yield from self._blocks(is_back=False)
            yield from self._tails()

    def _tails(self) -> Iterator[_Piece]:
        for first, _, oldest, newest, head, text in self._connection.execute(self._sql["tails"], self._value):
            if newest >= self._query.since and oldest <= self._until:
                yield _Piece(first, partial(bytes, head), partial(unpack_text, text))

    def _blocks(self, *, is_back: bool) -> Iterator[_Piece]:
        low = self._number("first_after")
        if not low:
            return
        shelves = range(low // SHELF_BLOCKS, self._number("last_block") // SHELF_BLOCKS + 1)
        indexed = self._number("indexed") if self._question.rows else 0
        for shelf in reversed(shelves) if is_back else shelves:
            rows = self._likely_blocks(shelf, low) if shelf < indexed else self._all_blocks(shelf, low)
            for block, first in reversed(rows) if is_back else rows:
                yield self._piece(block, first)

    def _all_blocks(self, shelf: int, low: int) -> list[tuple[int, int]]:
        bounds = {"low": max(low, shelf * SHELF_BLOCKS), "high": (shelf + 1) * SHELF_BLOCKS - 1}
        return self._connection.execute(self._sql["blocks"], {**self._value, **bounds}).fetchall()

    def _likely_blocks(self, shelf: int, low: int) -> list[tuple[int, int]]:
        bits = (1 << SHELF_BLOCKS) - 1
        for row in self._question.rows:
            bits &= row_in(self._slice(slice_of(shelf, row)), row)
            if not bits:
                return []
        blocks = [block for block in blocks_in(shelf, bits) if block >= low]
        if len(blocks) > _MANY_BLOCKS:
            there = dict(self._all_blocks(shelf, low))
            return [(block, there[block]) for block in blocks if block in there]
        found = (
            self._connection.execute(self._sql["block"], {**self._value, "id": block}).fetchone() for block in blocks
        )
        return [row for row in found if row is not None]

    def _piece(self, block: int, first: int) -> _Piece:
        return _Piece(
            first, lambda: self._part("body_head", block), lambda: unpack_text(self._part("body_text", block))
        )

    def _part(self, name: str, block: int) -> bytes:
        return bytes(self._connection.execute(self._sql[name], {"block": block}).fetchone()[0])

    def _slice(self, number: int) -> bytes:
        row = self._connection.execute(self._sql["slice"], {"id": number}).fetchone()
        return bytes(row[0]) if row is not None else b""  # all its blocks are forgotten

    def _number(self, name: str) -> int:
        row = self._connection.execute(self._sql[name], self._value).fetchone()
        return int(row[0]) if row is not None else 0

    # -- which lines

    def _matches(self, piece: _Piece) -> list[LogRecord]:
        text = b""
        if self._needle and not self._wanted:  # most of what is looked at does not hold it: find that out at once
            text = piece.text()
            if self._needle not in text and not self._query.ignore_case:
                return []
        head = Head(piece.head())
        fits = [all(origin[at] == value for at, value in self._wanted) for origin in head.origins]
        if not any(fits):
            return []
        text = text or piece.text()
        skip = self._query.after - piece.first + 1
        return [
            self._record(piece.first, line, head, line_at(text, begin))
            for line, begin in self._places(text, len(head))
            if line >= skip and fits[head.number_of(line)] and self._is_then(head.time_of(line))
        ]

    def _places(self, text: bytes, count: int) -> Iterable[tuple[int, int]]:
        """The lines that hold the text that is searched for, and where they begin."""
        if not self._needle:
            return zip(range(count), begins_of(text), strict=True)
        if not self._query.ignore_case:
            return places_of(text, self._needle)
        begins = list(begins_of(text))
        return ((line, begins[line]) for line, _ in places_of(text.decode().casefold().encode(), self._needle))

    def _is_then(self, at: float) -> bool:
        return self._query.since <= at <= self._until

    def _record(self, first: int, line: int, head: Head, text: str) -> LogRecord:
        app, environment, function, worker, call, source = head.origins[head.number_of(line)]
        return LogRecord(
            id=first + line,
            at=head.time_of(line),
            app=app,
            environment=environment,
            function=function,
            worker=worker,
            call=call,
            source=source,
            text=text,
        )
