"""The bytes on the wire, and what breaks them, against a scripted listener."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relight.protocol.errors import InvalidRequest
from relight.sdk.http import Address, BadAnswer, Http, Unreachable, address_of
from relight.sdk.requests import Request

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"
Script = list[list[bytes]]


class Listener:
    """Takes connections one after the other; for each a list of answers, one for each request, then hangs up."""

    def __init__(self, path: str, script: Script) -> None:
        self.heard: list[bytes] = []
        self._script = script
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for answers in self._script:
            connection, _ = self._socket.accept()
            with connection:
                for answer in answers:
                    self.heard.append(connection.recv(1_000_000))
                    connection.sendall(answer)

    def close(self) -> None:
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Callable[[Script], tuple[Listener, Http]]]:
    made: list[tuple[Listener, Http]] = []

    def start(script: Script) -> tuple[Listener, Http]:
        path = str(tmp_path / "s")
        made.append((Listener(path, script), Http(Address(path=path, token="t0k"))))
        return made[-1]

    yield start
    for listener, http in made:
        http.close()
        listener.close()


def get(path: str = "/v1/x") -> Request:
    return Request(method="GET", path=path)


def test_head_and_body_leave_together_and_the_connection_is_kept(
    listen: Callable[[Script], tuple[Listener, Http]],
) -> None:
    listener, http = listen([[OK, OK]])

    replies = [http.exchange(Request(method="POST", path="/a", body=b"body", content_type="x/y")) for _ in range(2)]

    assert [reply.body for reply in replies] == [b"ok", b"ok"]
    assert listener.heard[0] == (
        b"POST /a HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nAuthorization: Bearer t0k\r\n"
        b"Content-Type: x/y\r\nContent-Length: 4\r\n\r\nbody"
    )


def test_an_idle_connection_that_the_server_closed_says_so_and_is_made_anew(
    listen: Callable[[Script], tuple[Listener, Http]],
) -> None:
    listener, http = listen([[OK], [OK]])
    http.exchange(get())

    with pytest.raises(Unreachable):  # it cannot know whether the server closed before or after it read
        http.exchange(get())

    assert http.exchange(get()).body == b"ok"
    assert len(listener.heard) == 2


def test_an_answer_that_breaks_off_is_no_answer(listen: Callable[[Script], tuple[Listener, Http]]) -> None:
    _, http = listen([[OK[:-1]]])

    with pytest.raises(Unreachable, match="broke off"):
        http.exchange(get())


def test_nobody_there_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        Http(Address(path=str(tmp_path / "none"))).exchange(get())


def test_lines_come_as_they_are_sent_whatever_the_chunks(listen: Callable[[Script], tuple[Listener, Http]]) -> None:
    chunks = b'3\r\n{"a\r\n4\r\n":1}\r\n1\r\n\n\r\n3\r\n{}\n\r\n0\r\n\r\n'
    _, http = listen([[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks]])

    assert list(http.lines(get())) == [b'{"a":1}\n', b"{}\n"]


def test_a_stream_that_is_refused_says_why(listen: Callable[[Script], tuple[Listener, Http]]) -> None:
    _, http = listen([[b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"]])

    with pytest.raises(BadAnswer) as caught:
        list(http.lines(get()))

    assert caught.value.reply.status == 404


def test_a_socket_with_a_long_name_is_reached(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    short = tmp_path / "short"
    short.symlink_to(folder)
    listener = Listener(str(short / "s"), [[OK]])
    http = Http(Address(path=str(folder / "s")))

    assert http.exchange(get()).body == b"ok"

    http.close()
    listener.close()


@pytest.mark.parametrize(
    ("url", "host", "port", "is_tls"),
    [("http://127.0.0.1:8700", "127.0.0.1", 8700, False), ("https://relight.example/", "relight.example", 443, True)],
)
def test_an_address_is_read_from_a_url(url: str, host: str, port: int, is_tls: bool) -> None:
    address = address_of(url, "t")

    assert (address.host, address.port, address.is_tls, address.token) == (host, port, is_tls, "t")


@pytest.mark.parametrize("url", ["127.0.0.1:8700", "ftp://x", "http://x/path", ""])
def test_an_address_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot use the URL"):
        address_of(url, "")
