"""What is mapped: read from text, and from this very process."""

from __future__ import annotations

import mmap
import sys

import pytest

from relight.runtime.maps import (
    HUGE_PAGE_BYTES,
    Mapping,
    dense_ranges,
    dense_runs,
    libraries,
    parse_maps,
    read_maps,
)

LINES = """\
5581d8a00000-5581d8a21000 rw-p 00000000 00:00 0                          [heap]
7f3c1c000000-7f3c1c021000 r-xp 00001000 fe:00 1234                       /usr/lib/my lib.so.1
7f3c1c021000-7f3c1c022000 rw-p 00022000 fe:00 1234                       /usr/lib/my lib.so.1
7f3c1d000000-7f3c1d021000 rw-p 00000000 00:00 0
7f3c1e000000-7f3c1e001000 r-xp 00000000 00:00 0                          [vdso]
""".splitlines()
PAGES = HUGE_PAGE_BYTES // mmap.PAGESIZE
PRESENT, ABSENT = (1 << 63).to_bytes(8, "little"), bytes(8)

only_on_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def test_a_line_is_a_range_with_its_permissions_and_its_file() -> None:
    maps = parse_maps(LINES)

    assert maps[0] == Mapping(0x5581D8A00000, 0x5581D8A21000, "rw-p", "[heap]")
    assert maps[1].path == "/usr/lib/my lib.so.1"
    assert maps[3].path == ""


def test_a_library_is_a_file_whose_code_is_mapped() -> None:
    assert libraries(parse_maps(LINES)) == ["/usr/lib/my lib.so.1"]


def test_a_huge_page_pays_where_half_of_it_is_in_use() -> None:
    half = PRESENT * (PAGES // 2) + ABSENT * (PAGES // 2)
    less = PRESENT * (PAGES // 2 - 1) + ABSENT * (PAGES // 2 + 1)

    assert dense_runs(half + less + PRESENT * PAGES + half, 7) == [(7, 8), (9, 11)]


def test_pages_at_the_end_that_fill_no_huge_one_are_left() -> None:
    assert dense_runs(PRESENT * (PAGES - 1), 0) == []


@only_on_linux
def test_memory_that_was_written_to_is_dense_and_what_was_only_asked_for_is_not() -> None:
    size = 8 * HUGE_PAGE_BYTES
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as used:
        before = sum(end - start for start, end in dense_ranges(read_maps()))

        for page in range(0, size, mmap.PAGESIZE):
            used[page] = 1
        after = sum(end - start for start, end in dense_ranges(read_maps()))

    assert after - before >= size - 2 * HUGE_PAGE_BYTES  # its two ends may lie in huge pages that are not all its own


@only_on_linux
def test_this_process_has_the_c_library_mapped() -> None:
    assert any("libc" in path for path in libraries(read_maps()))
