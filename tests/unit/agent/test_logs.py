"""Bytes of two pipes become lines that belong to calls, however they are cut."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from relight.agent.cable import Cable
from relight.agent.logs import LAST_LINES, LINE_BYTES, Line, Output, Owners, Splitter

MARK = "n0nce"


ANYBODY = Owners(lambda _: True, lambda: "")


def note(what: str, call: str = "call-1") -> bytes:
    """What a worker writes where a call begins or ends."""
    return f"\0{MARK} {what} {call}\n".encode()


def split(*chunks: bytes) -> list[Line]:
    """All lines of these bytes."""
    splitter = Splitter(MARK, Owners(lambda call: call.startswith("call-"), lambda: ""))
    return [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.finish()


def test_lines_within_a_calls_notes_are_its_own():
    lines = split(b"a\n" + note("begin") + b"b\n" + note("end") + b"c\n")

    assert lines == [Line("a"), Line("b", "call-1"), Line("c")]


def test_what_stands_outside_of_all_notes_is_of_the_call_that_runs():
    running = ["call-7"]
    splitter = Splitter(MARK, Owners(lambda _: True, lambda: running[0]))

    lines = splitter.feed(b"a\n" + note("begin") + b"b\n" + note("end") + b"c\nno end")
    lines += splitter.end_call()
    running[0] = ""
    lines += splitter.feed(b"d\n")

    of_seven = [Line(text, "call-7") for text in ("a", "c", "no end")]
    assert lines == [of_seven[0], Line("b", "call-1"), *of_seven[1:], Line("d")]


def test_what_a_call_with_a_note_has_begun_to_write_goes_on_when_another_ends():
    splitter = Splitter(MARK, Owners(lambda _: True, lambda: "call-7"))

    lines = splitter.feed(note("begin") + b"half ") + splitter.end_call() + splitter.feed(b"a line\n")

    assert lines == [Line("half a line", "call-1")]


def test_a_line_without_an_end_before_a_note_is_kept_under_its_call():
    assert split(note("begin") + b"no end" + note("end")) == [Line("no end", "call-1")]


def test_the_last_line_needs_no_end():
    assert split(b"a\nb") == [Line("a"), Line("b")]


def test_a_call_that_is_not_the_workers_own_is_not_believed():
    assert split(note("begin", "other-call") + b"a\n") == [Line("a")]


def test_a_note_with_another_mark_is_text():
    assert split(b"\0guess begin call-1\na\n") == [Line("\ufffdguess begin call-1"), Line("a")]


def test_a_long_line_is_cut_and_nothing_of_it_is_lost():
    lines = split(b"x" * (LINE_BYTES * 2 + 5) + b"\n")

    assert [len(line.text) for line in lines] == [LINE_BYTES, LINE_BYTES, 5]


def test_a_line_that_never_ends_is_not_kept_whole():
    splitter = Splitter(MARK, ANYBODY)

    lines = splitter.feed(b"x" * 10 * LINE_BYTES)

    assert len(lines) >= 9


def test_bytes_that_are_no_text_are_shown_as_such():
    assert split(b"\xff\xfe\n\r\nplain\r\n") == [Line("\ufffd\ufffd"), Line(""), Line("plain")]


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r\n", note("begin"), note("end"), "é".encode(), b"\0"])), st.data())
def test_how_the_bytes_are_cut_makes_no_difference(parts: list[bytes], data: st.DataObject):
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    chunks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    assert split(*chunks) == split(whole)


async def test_draining_reads_what_was_written_and_keeps_the_last_lines():
    heard: list[tuple[str, str]] = []
    cable = Cable.lay()
    output = Output(cable, ANYBODY, lambda source, lines: heard.extend((source, line.text) for line in lines))
    for number in range(LAST_LINES + 5):
        os.write(cable.stdout[1], f"{number}\n".encode())
    os.write(cable.stderr[1], b"oops")

    output.drain()
    drained = len(heard)
    output.close()

    cable.hand_over()
    cable.ours.close()
    assert drained == LAST_LINES + 5
    assert heard[-1] == ("stderr", "oops")
    assert output.last_lines == (*(str(number) for number in range(6, LAST_LINES + 5)), "oops")
