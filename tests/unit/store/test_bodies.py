"""Blocks of lines come back as they were packed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relight.store.bodies import (
    Lines,
    Origin,
    Written,
    begins_of,
    cut,
    join,
    line_at,
    lines_of,
    pack_head,
    pack_text,
    places_of,
    unpack,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n"), max_size=12)
ORIGIN = st.builds(Origin, *[st.sampled_from(["", "a", "ü"])] * 6)
WRITTEN = st.lists(
    st.builds(Written, origin=ORIGIN, at=st.floats(0, 1e10), texts=st.lists(TEXT, min_size=1, max_size=4).map(tuple)),
    max_size=6,
)


def plain(lines: Lines) -> list[tuple[Origin, float, str]]:
    return [
        (lines.origins[number], at, text)
        for number, at, text in zip(lines.numbers, lines.times, lines.texts, strict=True)
    ]


@given(WRITTEN)
def test_lines_come_back_as_they_were_written(written: list[Written]) -> None:
    lines = lines_of(written)

    again = unpack(pack_head(lines), pack_text(lines))

    assert plain(again) == [(group.origin, group.at, text) for group in written for text in group.texts]


@given(WRITTEN, WRITTEN, st.integers(0, 8))
def test_what_is_joined_and_cut_is_still_in_order(one: list[Written], two: list[Written], at: int) -> None:
    first, second = lines_of(one), lines_of(two)

    whole = join([first, second])
    parts = [part for part in (cut(whole, 0, at), cut(whole, at, len(whole))) if len(part)]

    assert plain(whole) == plain(first) + plain(second)
    assert [line for part in parts for line in plain(part)] == plain(whole)
    assert [line for part in parts for line in plain(unpack(pack_head(part), pack_text(part)))] == plain(whole)


@given(st.lists(st.text("ab", max_size=5), min_size=1), st.text("ab", min_size=1, max_size=2))
def test_each_line_that_holds_a_text_is_found_once(texts: list[str], needle: str) -> None:
    text = "\n".join(texts).encode()

    found = list(places_of(text, needle.encode()))
    begins = list(begins_of(text))

    assert [line for line, _ in found] == [at for at, text in enumerate(texts) if needle in text]
    assert [begin for _, begin in found] == [begins[line] for line, _ in found]
    assert [line_at(text, begin) for begin in begins] == texts


def test_text_that_is_not_unicode_is_kept_as_far_as_it_is() -> None:
    written = Written(origin=Origin("a", "", "", "", "", ""), at=1.0, texts=("a\udc80b",))

    assert lines_of([written]).texts == ["a?b"]
