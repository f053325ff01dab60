"""Requests as they are put together from bytes, however these are cut."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.gateway.exchange import Ask, ClientGone, Limits, Peer
from relight.gateway.problems import HttpProblem
from relight.gateway.reading import HEAD_BYTES, Reader

GET = b"GET /v1/calls?app=a%20b&limit=2 HTTP/1.1\r\nHost: localhost\r\nX-Tag: One\r\n\r\n"
POST = b"POST /v1/apps/a%2Fb/stop HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"PUT /v1/blobs/1 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


def reader_of(*parts: bytes) -> Reader:
    reader = Reader(Peer(), Limits(), lambda _: None)
    for part in parts:
        reader.feed(part)
    return reader


def asks_of(reader: Reader) -> list[Ask]:
    asks = list(reader.asks)
    assert all(isinstance(one, Ask) for one in asks), asks
    return [one for one in asks if isinstance(one, Ask)]


def problem_of(reader: Reader) -> HttpProblem:
    problem = reader.asks[-1]
    assert isinstance(problem, HttpProblem)
    return problem


async def turn() -> None:
    """Let the loop go round."""
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    await turned


async def body_of(ask: Ask) -> bytes:
    return b"".join([part async for part in ask.stream(1000)])


@given(st.lists(st.integers(0, len(GET + POST + CHUNKED + GET)), max_size=12))
def test_it_does_not_matter_how_the_bytes_are_cut(cuts: list[int]) -> None:
    data = GET + POST + CHUNKED + GET
    at = sorted({0, len(data), *cuts})

    asks = asks_of(reader_of(*(data[one:two] for one, two in pairwise(at))))
    bodies = asyncio.run(_bodies(asks))

    heads = [(ask.head.method, ask.head.path, ask.head.raw_path, ask.head.query_string) for ask in asks]
    assert heads == [
        ("GET", "/v1/calls", b"/v1/calls", b"app=a%20b&limit=2"),
        ("POST", "/v1/apps/a/b/stop", b"/v1/apps/a%2Fb/stop", b""),
        ("PUT", "/v1/blobs/1", b"/v1/blobs/1", b""),
        ("GET", "/v1/calls", b"/v1/calls", b"app=a%20b&limit=2"),
    ]
    assert bodies == [b"", b"hello", b"abcde", b""]
    assert (asks[0].header(b"x-tag"), asks[0].query("app")) == ("One", "a b")


async def _bodies(asks: list[Ask]) -> list[bytes]:
    return [await body_of(ask) for ask in asks]


@pytest.mark.parametrize(
    ("head", "keeps_alive", "is_old"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True, False),
        (b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n", False, False),
        (b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", False, True),
        (b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", False, False),
    ],
)
def test_whether_another_request_may_follow_is_known_by_the_head(head: bytes, keeps_alive: bool, is_old: bool) -> None:
    [ask] = asks_of(reader_of(head))

    assert (ask.head.keeps_alive, ask.head.is_old) == (keeps_alive, is_old)


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"])
def test_what_follows_the_last_request_is_not_read(head: bytes) -> None:
    assert len(asks_of(reader_of(head + POST))) == 1
    assert len(asks_of(reader_of(head, POST, b"\0"))) == 1


def test_a_url_with_a_host_in_it_leads_to_its_path() -> None:
    [ask] = asks_of(reader_of(b"GET http://localhost:8700/v1/calls?limit=1 HTTP/1.1\r\nhost: localhost\r\n\r\n"))

    assert (ask.head.raw_path, ask.head.query_string) == (b"/v1/calls", b"limit=1")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01 hello\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_problem_after_the_requests_before_it(data: bytes) -> None:
    reader = reader_of(GET + data + GET, GET)

    assert (len(reader.asks), problem_of(reader).status) == (2, 400)


async def test_a_body_that_cannot_be_read_breaks_off() -> None:
    head, _, _ = CHUNKED.partition(b"3\r\n")
    reader = reader_of(head + b"3\r\nabc\r\n", b"nonsense\r\n")
    ask = reader.asks[0]
    assert isinstance(ask, Ask)

    with pytest.raises(ClientGone):
        await body_of(ask)

    assert problem_of(reader).status == 400


@pytest.mark.parametrize("end", [b"\r\n\r\n", b""], ids=["in a line that ends", "in a line without end"])
def test_a_head_has_a_longest_length(end: bytes) -> None:
    part = b"y" * 10_000

    reader = reader_of(b"GET / HTTP/1.1\r\nx: ", *(part for _ in range(HEAD_BYTES // len(part) + 1)), end)

    assert (problem_of(reader).status, len(reader.asks)) == (431, 1)


def test_a_long_body_before_a_head_does_not_count_for_it() -> None:
    body = b"x" * HEAD_BYTES * 2
    post = b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body)

    assert len(asks_of(reader_of(post + body + GET[:20], GET[20:]))) == 2


async def test_a_sender_that_waits_for_a_word_is_given_one_when_its_body_is_wanted() -> None:
    told: list[bool] = []
    reader = Reader(Peer(), Limits(), told.append)
    reader.feed(b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
    [ask] = asks_of(reader)
    assert reader.is_held_back

    reading = asyncio.ensure_future(ask.body(10))
    await turn()
    was_held_back = reader.is_held_back
    reader.feed(b"ab")
    await turn()
    reader.feed(b"cd")

    assert await reading == b"abcd"
    assert (told, was_held_back) == ([True, False], False)
