"""What the server and a worker say of web requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.protocol.errors import ProtocolError
from relight.protocol.web import (
    FRAME,
    FRAME_BYTES,
    AnswerHead,
    Frames,
    Kind,
    RequestHead,
    frame,
    join,
    pack_answer,
    pack_request,
    part,
    unpack_answer,
    unpack_count,
    unpack_request,
)

VALUE = st.binary(max_size=40).filter(lambda value: not set(value) & set(b"\0\r\n"))
NAME = st.from_regex(r"[a-z0-9!#$%&'*+.^_`|~-]+", fullmatch=True).map(str.encode)


@given(st.lists(VALUE, min_size=10, max_size=10), st.lists(st.tuples(NAME, VALUE), max_size=8))
def test_a_request_comes_as_it_was_sent(fields: list[bytes], headers: list[tuple[bytes, bytes]]) -> None:
    head = RequestHead._make([*fields, headers])

    assert unpack_request(pack_request(head)) == head


@given(st.integers(100, 599), st.lists(st.tuples(NAME, VALUE), max_size=8))
def test_an_answer_comes_as_it_was_sent(status: int, headers: list[tuple[bytes, bytes]]) -> None:
    head = unpack_answer(pack_answer(AnswerHead(status, headers)))

    assert (head.status, list(head.headers)) == (status, headers)


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        pack_answer(AnswerHead(99, ())),
        pack_answer(AnswerHead(200, [(b"a", b"1\r\nset-cookie: b")])),
        pack_answer(AnswerHead(200, [(b"a b", b"1")])),
        pack_answer(AnswerHead(200, [(b"", b"1")])),
        pack_answer(AnswerHead(200, [(b"a", b"1\x00b")])),
    ],
)
def test_an_answer_that_would_be_no_http_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_answer(data)


@given(
    st.lists(st.tuples(st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.binary(max_size=50)), max_size=6), st.data()
)
def test_frames_come_whole_however_their_bytes_come(frames: list[tuple[Kind, int, bytes]], data: st.DataObject) -> None:
    sent = b"".join(frame(*one) for one in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))
    reader = Frames()

    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    came = [one for piece in pieces for one in reader.feed(piece)]

    assert came == frames


def test_a_frame_that_is_too_long_is_refused_before_it_is_here() -> None:
    with pytest.raises(ProtocolError):
        list(Frames().feed(FRAME.pack(FRAME_BYTES + 1, Kind.BODY, 1)))


def test_a_head_and_its_body_are_told_apart() -> None:
    assert part(join(b"head", b"body")) == (b"head", b"body")
    for cut_off in (b"", b"\0\0\0\5head"):
        with pytest.raises(ProtocolError):
            part(cut_off)
    with pytest.raises(ProtocolError):
        unpack_count(b"12")
