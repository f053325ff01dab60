"""Lines of an event loop on real sockets: what is kept, what is made anew, and what is hung up."""

from __future__ import annotations

import asyncio
import gc
import socketserver
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from relight.clock import SystemClock
from relight.protocol.errors import InvalidRequest, Unavailable
from relight.sdk.aio import Pool
from relight.sdk.connection import Connection
from relight.sdk.http import Address, Unreachable
from relight.sdk.requests import Request

CERTIFICATE = Path(__file__).parent.parent.parent / "localhost.pem"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = Request(method="GET", path="/v1/x")


class Listener(socketserver.ThreadingUnixStreamServer):
    """Answers every request alike, in threads.  `opened` counts connections, `closed` has one for each that ended."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Connected)
        self.path = str(path)
        self.answer = OK
        self.will_hang_up = False
        self.heard: list[bytes] = []
        self.has_heard = threading.Event()
        self.opened = 0
        self.closed = threading.Semaphore(0)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    def end(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class Connected(socketserver.BaseRequestHandler):
    server: Listener

    def handle(self) -> None:
        self.server.opened += 1
        while head := self.request.recv(65_536):
            self.server.heard.append(head)
            self.request.sendall(self.server.answer)
            self.server.has_heard.set()
            if self.server.will_hang_up:
                return

    def finish(self) -> None:
        self.server.closed.release()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path / "s")
    yield made
    made.end()


@pytest.fixture
async def pool(listener: Listener) -> AsyncIterator[Pool]:
    made = Pool(Address(path=listener.path, token="t0k"), SystemClock().sleep, None)
    yield made
    made.close()


async def test_a_line_is_kept_and_head_and_body_leave_together(listener: Listener, pool: Pool) -> None:
    for _ in range(3):
        reply = await pool.exchange(Request(method="POST", path="/a", body=b"body"))

    assert (reply.status, reply.body, listener.opened) == (200, b"ok", 1)
    assert listener.heard[0] == (
        b"POST /a HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nAuthorization: Bearer t0k\r\n"
        b"Content-Length: 4\r\n\r\nbody"
    )


async def test_an_idle_line_that_the_server_closed_is_not_used_again(listener: Listener, pool: Pool) -> None:
    listener.will_hang_up = True
    await pool.exchange(GET)
    (idle,) = pool._idle
    await idle._reader.read()  # type: ignore[attr-defined]  # until the end has come

    assert not idle.is_open
    assert (await pool.exchange(GET)).body == b"ok"
    assert listener.opened == 2


@pytest.mark.parametrize("answer", [OK[:-1], b"", b"SSH-2.0\r\n\r\n"])
async def test_an_answer_that_breaks_off_is_no_answer(listener: Listener, pool: Pool, answer: bytes) -> None:
    listener.answer, listener.will_hang_up = answer, True

    with pytest.raises(Unreachable, match="broke off"):
        await pool.exchange(GET)

    assert pool._idle == []


async def test_a_line_whose_answer_nobody_awaits_any_more_is_hung_up(listener: Listener, pool: Pool) -> None:
    listener.answer = b""
    asking = asyncio.ensure_future(pool.exchange(GET))
    await asyncio.to_thread(listener.has_heard.wait, 20)

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert await asyncio.to_thread(listener.closed.acquire, timeout=20)
    assert pool._idle == []


async def test_a_server_that_closes_after_its_answer_is_not_asked_on_that_line(listener: Listener, pool: Pool) -> None:
    listener.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

    await pool.exchange(GET)

    assert pool._idle == []


async def test_a_silent_server_is_given_up_after_the_time_it_may_take(
    listener: Listener, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener.answer = b""
    monkeypatch.setattr("relight.sdk.aio.ANSWER_SECONDS", 0.01)

    with pytest.raises(Unreachable):
        await pool.exchange(GET)


async def test_nobody_there_does_not_answer(tmp_path: Path, unused_tcp_port: int) -> None:
    for address in (Address(path=str(tmp_path / "none")), Address(host="127.0.0.1", port=unused_tcp_port)):
        with pytest.raises(Unreachable, match="does not answer"):
            await Pool(address, SystemClock().sleep, None).exchange(GET)


async def test_certificates_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    address = Address(host="127.0.0.1", port=1, is_tls=True, ca=str(tmp_path / "none.pem"))

    with pytest.raises(InvalidRequest, match="cannot read certificates from"):
        await Pool(address, SystemClock().sleep, None).exchange(GET)


class Secure(socketserver.ThreadingTCPServer):
    """Answers over TLS, with a certificate of its own."""

    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        connection, address = super().get_request()
        try:
            return context.wrap_socket(connection, server_side=True), address
        except OSError:
            connection.close()
            raise


class SecureConnected(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while self.request.recv(65_536):
            self.request.sendall(OK)


@pytest.fixture
def secure() -> Iterator[int]:
    server = Secure(("127.0.0.1", 0), SecureConnected)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_server_with_a_certificate_of_its_own_is_trusted_when_it_is_named(secure: int) -> None:
    named = Pool(Address(host="localhost", port=secure, is_tls=True, ca=str(CERTIFICATE)), SystemClock().sleep, None)

    assert (await named.exchange(GET)).body == b"ok"
    named.close()

    with pytest.raises(Unavailable, match="cannot trust the server at https://localhost"):
        await Pool(Address(host="localhost", port=secure, is_tls=True), SystemClock().sleep, None).exchange(GET)


def test_a_loop_that_ends_hangs_up_without_a_warning(listener: Listener) -> None:
    connection = Connection(Address(path=listener.path))
    loops = []

    async def main() -> None:
        await asyncio.gather(*(connection.pool().exchange(GET) for _ in range(3)))
        assert connection.pool() is connection.pool()
        loops.append(asyncio.get_running_loop())

    for _ in range(2):
        asyncio.run(main())
        assert all(listener.closed.acquire(timeout=20) for _ in range(3))
    gc.collect()

    assert listener.opened == 6
    assert connection._pools.keys() == {loops[-1]}


async def test_a_connection_that_is_closed_on_its_loop_hangs_up(listener: Listener) -> None:
    connection = Connection(Address(path=listener.path))
    await connection.pool().exchange(GET)

    connection.close()

    assert await asyncio.to_thread(listener.closed.acquire, timeout=20)


def test_a_way_there_without_a_loop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        Connection(Address(path=str(tmp_path / "s"))).pool()
