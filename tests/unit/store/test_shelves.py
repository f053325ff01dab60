"""The index of the log rules out most blocks, and never one that holds what is searched for."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from relight.protocol.views import LogQuery
from relight.store.bodies import Origin, Written, lines_of
from relight.store.shelves import (
    ROWS,
    SHELF_BLOCKS,
    SLICE_BYTES,
    SLICES_APART,
    Shelf,
    blocks_in,
    question_of,
    row_in,
    slice_of,
)

ORIGIN = Origin(app="a", environment="main", function="f", worker="w1", call="c1", source="stdout")
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n\0"), max_size=30)


def shelf_of(*blocks: list[str], shelf: int = 3, **origin: str) -> bytes:
    table = Shelf()
    for at, texts in enumerate(blocks):
        written = Written(origin=ORIGIN._replace(**origin), at=1.0, texts=tuple(texts))
        table.put(shelf * SHELF_BLOCKS + at, "default", lines_of([written]))
    return table.table


def likely(table: bytes, query: LogQuery, workspace: str = "default", shelf: int = 3) -> list[int]:
    """Which blocks would be looked at."""
    bits = (1 << SHELF_BLOCKS) - 1
    for row in question_of(workspace, query).rows:
        at = slice_of(shelf, row) - shelf * SLICES_APART
        bits &= row_in(table[at * SLICE_BYTES : (at + 1) * SLICE_BYTES], row)
    return [block - shelf * SHELF_BLOCKS for block in blocks_in(shelf, bits)]


@settings(max_examples=300, deadline=None)
@given(before=TEXT, text=TEXT, after=TEXT)
def test_no_block_is_ruled_out_that_holds_the_text(before: str, text: str, after: str) -> None:
    table = shelf_of(["another"], [f"{before}{text}{after}", "more"])

    assert 1 in likely(table, LogQuery(search=text))
    assert 1 in likely(table, LogQuery(search=text.swapcase().casefold(), ignore_case=True)) or (
        text.swapcase().casefold() not in f"{before}{text}{after}".casefold()
    )


def test_a_block_is_found_by_any_part_of_a_word_and_others_are_not() -> None:
    table = shelf_of(*[[f"request {number * 7_919_777:016x} took {number} ms"] for number in range(SHELF_BLOCKS)])
    whole = f"{77 * 7_919_777:016x}"

    found = [
        likely(table, LogQuery(search=search))
        for search in (whole, whole[6:], f"{whole} took 77 ms", "absent", "TOOK", "request")
    ]

    assert found[:4] == [[77], [77], [77], []]
    assert found[4] == found[5] == list(range(SHELF_BLOCKS))


def test_a_whole_word_is_told_from_part_of_one() -> None:
    table = shelf_of(["an error here"], ["terrors here"])

    assert likely(table, LogQuery(search="error")) == [0, 1]
    assert likely(table, LogQuery(search=" error ")) == [0]


def test_a_block_is_found_by_who_wrote_it() -> None:
    table = shelf_of(["text"], call="call-1")

    assert likely(table, LogQuery(call="call-1")) == [0]
    assert likely(table, LogQuery(call="call-2")) == []
    assert likely(table, LogQuery(call="call-1"), workspace="other") == []


def test_a_question_that_the_index_cannot_answer_asks_for_every_block() -> None:
    assert question_of("default", LogQuery(search="  ", since=4.0)).rows == ()


def test_a_long_question_asks_for_a_bounded_number_of_rows() -> None:
    assert 0 < len(question_of("default", LogQuery(search="lorem ipsum dolor " * 500)).rows) < 40


def test_the_remainders_of_the_powers_of_256_lie_far_apart() -> None:
    assert [256**power % ROWS for power in (1, 2, 3)] == [256, 4535, 1941]
    assert all(ROWS % divisor for divisor in range(2, 248))
