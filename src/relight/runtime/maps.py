"""What is mapped into this process: libraries, and memory that no file backs.

Reads /proc/self and decides nothing.  Where there is no /proc there is nothing mapped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

Ranges = Sequence[tuple[int, int]]
"""(start, end) of memory."""

HUGE_PAGE_BYTES = 2 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_PAGES = HUGE_PAGE_BYTES // _PAGE_BYTES
_ENTRY_BYTES = 8  # of /proc/self/pagemap, one entry for each page


@dataclass(frozen=True, slots=True)
class Mapping:
    """A line of /proc/self/maps."""

    start: int
    end: int
    permissions: str
    path: str


def read_maps() -> list[Mapping]:
    """Everything that is mapped now, in the order of addresses."""
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        return parse_maps(file)
    return []


def parse_maps(lines: Iterable[str]) -> list[Mapping]:
    """The lines of /proc/self/maps as values."""
    found = []
    for line in lines:
        addresses, permissions, _, _, _, *path = line.rstrip("\n").split(maxsplit=5)
        start, end = addresses.split("-")
        found.append(Mapping(int(start, 16), int(end, 16), permissions, path[0] if path else ""))
    return found


def libraries(maps: Iterable[Mapping]) -> list[str]:
    """The files whose code is mapped, each once."""
    return list(dict.fromkeys(each.path for each in maps if "x" in each.permissions and each.path.startswith("/")))


def dense_ranges(maps: Iterable[Mapping]) -> list[tuple[int, int]]:
    """Where huge pages would pay: (start, end) of anonymous memory that is in use by half at least, largest first."""
    found: list[tuple[int, int]] = []
    with suppress(OSError), open("/proc/self/pagemap", "rb", buffering=0) as file:
        for each in maps:
            if each.permissions == "rw-p" and each.path in ("", "[heap]"):
                found += _dense_in(each, file.fileno())
    return sorted(found, key=lambda each: each[0] - each[1])


def _dense_in(mapping: Mapping, pagemap: int) -> list[tuple[int, int]]:
    first = -(-mapping.start // HUGE_PAGE_BYTES)
    blocks = range(first, mapping.end // HUGE_PAGE_BYTES)
    if not blocks:
        return []
    entries = os.pread(pagemap, len(blocks) * _PAGES * _ENTRY_BYTES, first * _PAGES * _ENTRY_BYTES)
    return [(start * HUGE_PAGE_BYTES, end * HUGE_PAGE_BYTES) for start, end in dense_runs(entries, first)]


def without(ranges: Iterable[tuple[int, int]], settled: Ranges) -> Iterator[tuple[int, int]]:
    """What of the ranges is in none of those that are settled."""
    for start, end in ranges:
        for settled_start, settled_end in sorted(settled):
            if start < settled_end and settled_start < end:
                if start < settled_start:
                    yield start, settled_start
                start = settled_end
        if start < end:
            yield start, end


def dense_runs(entries: bytes, first: int) -> Sequence[tuple[int, int]]:
    """The runs of huge pages, numbered from `first`, of which half or more is present (bit 63 of an entry)."""
    runs: list[tuple[int, int]] = []
    size = _PAGES * _ENTRY_BYTES
    for number in range(len(entries) // size):
        tops = entries[number * size + 7 : (number + 1) * size : _ENTRY_BYTES]
        if sum(top >> 7 for top in tops) * 2 < _PAGES:
            continue
        block = first + number
        if runs and runs[-1][1] == block:
            runs[-1] = (runs[-1][0], block + 1)
        else:
            runs.append((block, block + 1))
    return runs
