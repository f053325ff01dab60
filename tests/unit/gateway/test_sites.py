"""Who asks a user's app, by whose word, and where it is."""

from __future__ import annotations

import pytest

from relight.gateway.exchange import Ask, Body, Head, Limits, Peer, RawAnswer
from relight.gateway.problems import HttpProblem
from relight.gateway.sites import Proxies, _allowed, _as_problem, _without_cookies
from relight.gateway.writing import raw_stream_head, raw_whole
from relight.protocol.errors import InvalidRequest, Unavailable, WorkerLost

PROXIES = Proxies.of(("10.0.0.0/8", "::1"))


def ask(peer: str, *headers: tuple[bytes, bytes]) -> Ask:
    return Ask(Head("GET", "/", b"/", headers=headers), Body(), Peer(host=peer, port=5), Limits())


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", b"203.0.113.9", b"192.0.2.1"),
        ("10.0.0.1", b"203.0.113.9", b"203.0.113.9"),
        ("10.0.0.1", b"198.51.100.1, 203.0.113.9", b"203.0.113.9"),
        ("10.0.0.1", b"203.0.113.9, 10.0.0.2", b"203.0.113.9"),
        ("10.0.0.1", b"", b"10.0.0.1"),
    ],
    ids=["a stranger's word", "a proxy's word", "what is before it is nobody's", "two proxies", "no word"],
)
def test_who_asks_is_believed_of_trusted_proxies_alone(peer: str, forwarded: bytes, client: bytes) -> None:
    asked = ask(peer, (b"x-forwarded-for", forwarded), (b"x-forwarded-proto", b"https"))

    host, _, scheme = PROXIES.client(asked)

    assert host == client
    assert scheme == (b"https" if peer.startswith("10.") else b"http")


def test_what_is_no_address_cannot_be_trusted() -> None:
    with pytest.raises(InvalidRequest, match="trusted_proxies"):
        Proxies.of(("proxy.example",))


def test_pages_may_ask_where_they_are_named() -> None:
    assert _allowed("https://a.example", ("https://a.example",)) == b"https://a.example"
    assert _allowed("https://b.example", ("https://a.example",)) == b""
    assert _allowed("https://b.example", ("*",)) == b"*"
    assert _allowed("", ("*",)) == b""


def test_a_path_sets_no_cookies() -> None:
    assert list(_without_cookies([(b"set-cookie", b"a=1"), (b"x", b"1")])) == [(b"x", b"1")]


def test_who_only_waited_is_told_to_ask_again() -> None:
    waited, lost = _as_problem(Unavailable("no worker")), _as_problem(WorkerLost("gone"))

    assert isinstance(waited, HttpProblem)
    assert (waited.status, waited.headers) == (503, (("retry-after", "1"),))
    assert isinstance(lost, WorkerLost)


HEAD = Head("GET", "/")


def test_an_answer_keeps_its_headers_and_not_those_of_the_connection() -> None:
    answer = RawAnswer(
        status=200,
        fields=[(b"x", b"1"), (b"content-length", b"9"), (b"connection", b"close"), (b"x", b"2"), (b"date", b"then")],
        body=b"body",
    )

    assert raw_whole(answer, HEAD, b"now", closes=False) == (
        b"HTTP/1.1 200 OK\r\nx: 1\r\nx: 2\r\ndate: then\r\ncontent-length: 4\r\n\r\nbody"
    )


def test_an_answer_to_head_or_without_a_body_has_none() -> None:
    said = RawAnswer(status=200, fields=[(b"content-length", b"9")], body=b"")
    nothing = RawAnswer(status=204, fields=(), body=b"")

    assert raw_whole(said, Head("HEAD", "/"), b"now", closes=False).endswith(b"content-length: 9\r\n\r\n")
    assert b"content-length" not in raw_whole(nothing, HEAD, b"now", closes=False)


def test_a_streamed_answer_is_sent_by_its_length_or_in_chunks() -> None:
    sized = raw_stream_head(RawAnswer(status=200, fields=[(b"content-length", b"9")]), HEAD, b"now", closes=False)
    unknown = raw_stream_head(RawAnswer(status=200, fields=()), HEAD, b"now", closes=False)
    old = raw_stream_head(RawAnswer(status=200, fields=()), Head("GET", "/", is_old=True), b"now", closes=True)
    tunnel = raw_stream_head(RawAnswer(status=101, fields=[(b"upgrade", b"websocket")]), HEAD, b"now", closes=True)

    assert (sized.length, sized.is_chunked) == (9, False)
    assert (unknown.length, unknown.is_chunked) == (None, True)
    assert (old.length, old.is_chunked) == (None, False)
    assert b"upgrade: websocket" in tunnel.lines
    assert b"connection: close" not in tunnel.lines
