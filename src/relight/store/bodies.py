"""Blocks of lines as bytes: what is said of them in a head, their texts one after another, both compressed.

Few workers write many lines, so the head names each origin once, and for each line its number and its time.  The texts
are searched as they stand; only the lines that were asked for are taken apart.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_NUMBER, _TIME = struct.Struct("<I"), struct.Struct("<d")
_LEVEL = 1  # three times smaller at 100 MB a second; level 6 saves a tenth more and takes four times as long


class Origin(NamedTuple):
    """Where lines come from."""

    app: str
    environment: str
    function: str
    worker: str
    call: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Lines that one worker wrote one after another; `at` is seconds since 1970."""

    origin: Origin
    at: float
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """A block taken apart: each origin once, and for each line its origin's number, its time and its text."""

    origins: tuple[Origin, ...]
    numbers: tuple[int, ...]
    times: tuple[float, ...]
    text: bytes

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def texts(self) -> list[str]:
        """The text of each line."""
        return self.text.decode().split("\n") if self.numbers else []


def lines_of(written: Sequence[Written]) -> Lines:
    """What was written, as one block.  A line end inside a text would make two lines of it, and is shown instead."""
    known: dict[Origin, int] = {}
    numbers: list[int] = []
    times: list[float] = []
    texts: list[str] = []
    for group in written:
        number = known.setdefault(group.origin, len(known))
        numbers += [number] * len(group.texts)
        times += [group.at] * len(group.texts)
        texts += group.texts
    joined = "\n".join(texts)
    if joined.count("\n") >= len(texts):
        joined = "\n".join([text.replace("\n", "\N{SYMBOL FOR NEWLINE}") for text in texts])
    return Lines(tuple(known), tuple(numbers), tuple(times), joined.encode("utf-8", "replace"))


def cut(lines: Lines, begin: int, end: int) -> Lines:
    """The lines from `begin` on, before `end`."""
    texts = lines.text.split(b"\n")[begin:end]
    return Lines(lines.origins, lines.numbers[begin:end], lines.times[begin:end], b"\n".join(texts))


def join(parts: Sequence[Lines]) -> Lines:
    """Blocks one after another, as one."""
    known: dict[Origin, int] = {}
    numbers: list[int] = []
    times: list[float] = []
    for part in parts:
        new = [known.setdefault(origin, len(known)) for origin in part.origins]
        numbers += [new[number] for number in part.numbers]
        times += part.times
    return Lines(tuple(known), tuple(numbers), tuple(times), b"\n".join([part.text for part in parts if len(part)]))


def pack_head(lines: Lines) -> bytes:
    """All of a block but its texts."""
    used = sorted(set(lines.numbers))
    new = {number: at for at, number in enumerate(used)}
    names = json.dumps([lines.origins[number] for number in used], ensure_ascii=False, separators=(",", ":")).encode()
    count = len(lines)
    numbers = [new[number] for number in lines.numbers]
    columns = struct.pack(f"<II{count}I{count}d", len(names), count, *numbers, *lines.times)
    return zlib.compress(columns + names, _LEVEL)


def pack_text(lines: Lines) -> bytes:
    """The texts of a block."""
    return zlib.compress(lines.text, _LEVEL)


def unpack(head: bytes, text: bytes) -> Lines:
    """The block that was packed."""
    opened = Head(head)
    lines = range(len(opened))
    numbers, times = tuple(map(opened.number_of, lines)), tuple(map(opened.time_of, lines))
    return Lines(opened.origins, numbers, times, unpack_text(text))


class Head:
    """What `pack_head` made: taken apart no further than it is asked for."""

    def __init__(self, head: bytes) -> None:
        self._data = zlib.decompress(head)
        size, count = struct.unpack_from("<II", self._data)
        names = json.loads(self._data[len(self._data) - size :])
        self.origins = tuple(Origin(*name) for name in names)
        """Where its lines come from."""
        self._count = int(count)

    def __len__(self) -> int:
        return self._count

    def number_of(self, line: int) -> int:
        """Which of the origins a line has."""
        number: int = _NUMBER.unpack_from(self._data, 8 + 4 * line)[0]
        return number

    def time_of(self, line: int) -> float:
        """When it was written."""
        at: float = _TIME.unpack_from(self._data, 8 + 4 * self._count + 8 * line)[0]
        return at


def unpack_text(text: bytes) -> bytes:
    """The texts, a line end between each two."""
    return zlib.decompress(text)


def places_of(text: bytes, needle: bytes) -> Iterator[tuple[int, int]]:
    """The lines that hold `needle`, which has no line end: the number of each, and where it begins."""
    line = begin = 0
    at = text.find(needle)
    while at >= 0:
        line += text.count(b"\n", begin, at)
        yield line, text.rfind(b"\n", 0, at) + 1
        begin = text.find(b"\n", at) + 1
        if not begin:
            return
        line += 1
        at = text.find(needle, begin)


def begins_of(text: bytes) -> Iterator[int]:
    """Where each line begins."""
    begin = 0
    while True:
        yield begin
        begin = text.find(b"\n", begin) + 1
        if not begin:
            return


def line_at(text: bytes, begin: int) -> str:
    """The line that begins there."""
    end = text.find(b"\n", begin)
    return text[begin : end if end >= 0 else len(text)].decode()
