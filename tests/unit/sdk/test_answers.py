"""An answer is the same, however its bytes come apart; what is no answer is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.sdk.http import MAX_HEAD_BYTES, Answer, Unreachable

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nContent-Type: text/plain\r\n\r\nhello world"
CHUNKED = (
    b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5;a=b\r\nworld\r\n0\r\nX: y\r\n\r\n"
)
EARLY = b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


def read(*parts: bytes, method: str = "GET") -> Answer:
    answer = Answer(method)
    for part in parts:
        answer.feed(part)
    return answer


@given(whole=st.sampled_from([PLAIN, CHUNKED, EARLY]), cuts=st.lists(st.integers(0, 150)))
def test_an_answer_may_come_in_any_pieces(whole: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})

    answer = read(*(whole[start:end] for start, end in itertools.pairwise(edges)))

    assert (answer.is_whole, answer.will_close, answer.take()) == (True, False, b"hello world")
    assert answer.status == (201 if whole is CHUNKED else 200)


@pytest.mark.parametrize("whole", [PLAIN, CHUNKED])
def test_an_answer_is_not_whole_before_its_last_byte(whole: bytes) -> None:
    answer = read(whole[:-1])

    assert not answer.is_whole
    with pytest.raises(Unreachable, match="hung up"):
        answer.end()


def test_the_body_is_there_as_far_as_it_came() -> None:
    before, _, after = CHUNKED.partition(b"rld")
    answer = read(before)

    assert answer.take() == b"hello wo"
    answer.feed(b"rld" + after)
    assert (answer.is_whole, answer.take()) == (True, b"rld")


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    answer = read(b"HTTP/1.1 200 OK\r\n\r\nhello ", b"world")

    assert (answer.is_whole, answer.will_close) == (False, True)
    answer.end()
    assert (answer.is_whole, answer.take()) == (True, b"hello world")


@pytest.mark.parametrize(
    ("whole", "method"),
    [
        (EMPTY, "GET"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD"),
        (PLAIN[:-11].replace(b"11", b"0"), "GET"),
    ],
)
def test_an_answer_without_a_body_is_whole_at_once(whole: bytes, method: str) -> None:
    answer = read(whole, method=method)

    assert (answer.is_whole, answer.will_close, answer.take()) == (True, False, b"")


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"]
)
def test_a_connection_that_will_close_says_so(head: bytes) -> None:
    assert read(head).will_close


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 ok\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\n",
        PLAIN + b"more",
        b"x" * (MAX_HEAD_BYTES + 1),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(Unreachable, match=r"is no HTTP; is this a relight server\?"):
        read(data)
