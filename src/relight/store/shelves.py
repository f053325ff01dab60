"""The index of the log: which blocks may hold a text.

256 blocks are a shelf.  A shelf has a table of bits, a row for each hash and a column for each block; a bit says that
the block holds a piece of text with that hash.  Pieces are the runs of four bytes in each word (what stands between
blanks), its ends marked by a line end; where two words meet, the last letters of one with the first of the other; and
shorter runs for short questions.  Letters count as small ones.  A question
reads the few rows of its pieces and takes what they have in common: mostly the right blocks, now and then one too many
(they are read afterwards in any case), never one too few.

Trigrams would not do: a block of hexadecimal ids holds all there are.  A full-text index of words finds no word by its
middle, and is larger than the text.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2s
from itertools import pairwise

from relight.protocol.views import LogQuery
from relight.store.bodies import Lines

SHELF_BLOCKS = 256
ROWS = 61_001
"""A prime for which 256, its square and its cube leave remainders far apart: a fifth of the bits are set as a rule."""

SLICE_ROWS = 125
"""So many rows are kept together: 4,000 bytes, which fit on one page of the database."""

_ROW_BYTES = SHELF_BLOCKS // 8
SLICE_BYTES = SLICE_ROWS * _ROW_BYTES
SHELF_BYTES = -(-ROWS // SLICE_ROWS) * SLICE_BYTES

SLICES_APART = 1024
"""Slice n of shelf s is kept as number s * 1024 + n."""

PAIR_LETTERS = 3
_MOST_ROWS = 16
_WORDS = re.compile(r"(\s+)")
_FIELDS = ("app", "environment", "function", "worker", "call", "source")


@dataclass(frozen=True, slots=True)
class Question:
    """The rows that a block must have to be looked at; with none, all are."""

    rows: tuple[int, ...] = ()


def question_of(workspace: str, query: LogQuery) -> Question:
    """What of a query the index can answer."""
    rows = [row for field in _FIELDS if (value := getattr(query, field)) for row in _rows_of_name(field, value)]
    rows += _rows_of_text(query.search)
    if not rows:
        return Question()
    return Question(tuple(dict.fromkeys((*rows, *_rows_of_name("workspace", workspace)))))


class Shelf:
    """A shelf's bits, filled block by block."""

    def __init__(self) -> None:
        self._bits = bytearray(SHELF_BYTES)

    def put(self, block: int, workspace: str, lines: Lines) -> None:
        """Note what a block holds."""
        at, bit = block % SHELF_BLOCKS // 8, 1 << block % 8
        rows = _rows_of_block(lines.text)
        rows.update(_rows_of_name("workspace", workspace))
        for field, values in zip(_FIELDS, zip(*lines.origins, strict=True), strict=False):
            for value in filter(None, set(values)):
                rows.update(_rows_of_name(field, value))
        bits = self._bits
        for row in rows:
            bits[row * _ROW_BYTES + at] |= bit

    @property
    def table(self) -> bytes:
        """All bits, `SHELF_BYTES` of them, row by row."""
        return bytes(self._bits)


def slice_of(shelf: int, row: int) -> int:
    """Under which number the slice with a row is kept."""
    return shelf * SLICES_APART + row // SLICE_ROWS


def row_in(piece: bytes, row: int) -> int:
    """A row of its slice: bit n stands for the shelf's block n."""
    at = row % SLICE_ROWS * _ROW_BYTES
    return int.from_bytes(piece[at : at + _ROW_BYTES], "little")


def blocks_in(shelf: int, bits: int) -> Iterator[int]:
    """The blocks whose bits are set, in order."""
    while bits:
        lowest = bits & -bits
        yield shelf * SHELF_BLOCKS + lowest.bit_length() - 1
        bits ^= lowest


# -- from text to rows


def _rows_of_block(text: bytes) -> set[int]:
    sequence = text.decode().casefold().split()
    words = set(sequence)
    # What stands between two words is the same everywhere, so that pieces across them add little.
    data = ("\n" + "\n\0\n".join(words) + "\n\0\0\0").encode()
    fours = set[int]()
    for offset in range(4):
        fours.update(struct.unpack_from(f"<{(len(data) - offset) // 4}I", data, offset))
    threes = {piece & 0xFFFFFF for piece in fours}
    twos = {piece & 0xFFFF for piece in threes}
    rows = {piece % ROWS for piece in fours}
    for piece in threes:
        rows.update(_rows_of_three(piece))
    for piece in twos:
        rows.update(_rows_of_two(piece))
    rows.update([_row_of_one(piece & 0xFF) for piece in twos])
    ends = {word: _ends_of(word) for word in words}
    for one, two in set(pairwise(sequence)):
        rows.update(_rows_of_pair(ends[one], ends[two]))
    return rows


def _rows_of_text(search: str) -> list[int]:
    """The rows of what is searched for; the words at its ends may be parts of longer ones."""
    parts = _WORDS.split(search.casefold())  # word, blank, word, …
    rows: list[int] = []
    for at in range(0, len(parts), 2):
        word = "\n" * (at > 0) + parts[at] + "\n" * (at < len(parts) - 1)
        rows += _rows_of_word(word.encode("utf-8", "replace"))
    return [*_some(list(_rows_of_pairs(parts[::2]))), *_some(rows)]  # pairs first: they say more


def _some(rows: list[int]) -> list[int]:
    """Not too many, evenly: more would say little more."""
    most = min(len(rows), _MOST_ROWS)
    return [rows[at * len(rows) // most] for at in range(most)]


def _rows_of_word(word: bytes) -> list[int]:
    size = len(word)
    rows = [int.from_bytes(word[at : at + 4], "little") % ROWS for at in range(size - 3)]
    if size in (3, 4):
        rows += [row for at in range(size - 2) for row in _rows_of_three(int.from_bytes(word[at : at + 3], "little"))]
    elif size == 2 and word != b"\n\n":
        rows += _rows_of_two(int.from_bytes(word, "little"))
    elif size == 1 and word != b"\n":
        rows.append(_row_of_one(word[0]))
    return rows


def _rows_of_three(piece: int) -> tuple[int, int]:
    return (piece ^ 0x5BD1E995) % ROWS, piece * 48_271 % ROWS


def _rows_of_pairs(words: list[str]) -> Iterator[int]:
    """The rows of each two words in a row; the first and the last are enough where they are long enough to have ends."""
    last = len(words) - 1
    for at in range(last):
        one, two = words[at], words[at + 1]
        has_end = len(one) >= PAIR_LETTERS or (one and at > 0)
        has_begin = len(two) >= PAIR_LETTERS or (two and at + 1 < last)
        if has_end and has_begin:
            yield from _rows_of_pair(_ends_of(one), _ends_of(two))


def _ends_of(word: str) -> tuple[int, int]:
    """Numbers for the first and the last letters of a word."""
    begin, end = word[:PAIR_LETTERS].encode("utf-8", "replace"), word[-PAIR_LETTERS:].encode("utf-8", "replace")
    return int.from_bytes(begin, "little"), int.from_bytes(end, "little")


def _rows_of_pair(one: tuple[int, int], two: tuple[int, int]) -> tuple[int, int]:
    return (one[1] * 69_069 + two[0] * 1_664_525) % ROWS, (one[1] * 22_695_477 + two[0] * 134_775_813) % ROWS


def _rows_of_two(piece: int) -> tuple[int, int, int]:
    return piece * 31 % ROWS, (piece ^ 0x2545F491) % ROWS, piece * 16_807 % ROWS


def _row_of_one(piece: int) -> int:
    return piece * 7_919 % ROWS


def _rows_of_name(field: str, value: str) -> list[int]:
    """Four: a name is asked for by itself, and one row would let a fifth of the blocks pass."""
    digest = blake2s(f"{field}={value}".encode("utf-8", "replace"), digest_size=16).digest()
    return [int.from_bytes(digest[at : at + 4], "little") % ROWS for at in range(0, 16, 4)]
