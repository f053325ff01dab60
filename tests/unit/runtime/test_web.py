"""What answers web requests in a worker, without a server: WebSocket frames, and arguments of typed functions."""

from __future__ import annotations

import asyncio
import json
import socket
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.protocol.web import AnswerHead, Kind, RequestHead, part, unpack_answer
from relight.runtime.web.asgi import AsgiHandler
from relight.runtime.web.endpoint import EndpointHandler
from relight.runtime.web.exchange import Exchange
from relight.runtime.web.handlers import Web
from relight.runtime.web.proxy import ProxyHandler
from relight.runtime.web.websocket import MESSAGE_BYTES, Reader, Violation
from relight.sdk.options import method_of


def masked(kind: int, data: bytes, *, is_final: bool = True) -> bytes:
    """A frame of a client."""
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    mask = b"\x01\x02\x03\x04"
    return bytes([is_final << 7 | kind]) + length + mask + bytes(one ^ mask[at % 4] for at, one in enumerate(data))


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
def test_messages_come_whole_however_their_bytes_come(messages: list[bytes], step: int) -> None:
    sent = b"".join(masked(2, one) for one in messages)
    reader = Reader()

    came = [one for at in range(0, len(sent), step) for one in reader.feed(sent[at : at + step])]

    assert came == [(2, one) for one in messages]


def test_a_message_in_parts_is_one_and_a_ping_may_come_between_them() -> None:
    sent = masked(1, b"hel", is_final=False) + masked(9, b"?") + masked(0, b"lo")

    assert list(Reader().feed(sent)) == [(9, b"?"), (1, b"hello")]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x81\x05hello", 1002),
        (b"\xc1\x80\0\0\0\0", 1002),
        (masked(3, b""), 1002),
        (masked(0, b"x"), 1002),
        (masked(1, b"a", is_final=False) + masked(1, b"b"), 1002),
        (masked(9, b"x", is_final=False), 1002),
        (b"\x82\xff" + (MESSAGE_BYTES + 1).to_bytes(8, "big") + b"mask", 1009),
    ],
    ids=["not masked", "an extension", "no kind", "goes on with nothing", "two at once", "a ping in parts", "too long"],
)
def test_what_breaks_the_protocol_ends_it(sent: bytes, code: int) -> None:
    with pytest.raises(Violation) as raised:
        list(Reader().feed(sent))

    assert raised.value.code == code


class Server:
    """Hears what a worker says."""

    def __init__(self) -> None:
        self.said: list[tuple[Kind, bytes]] = []

    def send(self, kind: Kind, request: int, data: bytes | memoryview = b"") -> None:
        self.said.append((kind, data))

    @property
    def whole(self) -> tuple[AnswerHead, bytes]:
        """The one answer."""
        [(kind, data)] = self.said
        assert kind is Kind.WHOLE
        head, body = part(data)
        return unpack_answer(head), body


def request(method: bytes = b"GET", query: bytes = b"") -> RequestHead:
    return RequestHead._make([method, b"/", query, b"", b"http", b"h", b"80", b"::1", b"1", b"1.1", []])


async def ask(function: Callable[..., Any], query: bytes = b"", body: bytes = b"", method: bytes = b"GET") -> Any:
    """What a function answers: the status, and the JSON of it."""
    server = Server()
    handler = EndpointHandler(function, method_of(function).input_schema, ("GET", "POST"), ThreadPoolExecutor(1))
    await handler(Exchange(server, 1, request(method, query), body))
    head, said = server.whole
    return head.status, json.loads(said)


async def test_a_query_means_what_the_annotations_ask() -> None:
    def f(n: int, x: float, yes: bool, text: str, many: list[int], maybe: int | None = None) -> Any:
        return [n, x, yes, text, many, maybe]

    status, said = await ask(f, b"n=1&x=2.5&yes=true&text=7&many=1&many=2&unasked=1")

    assert (status, said) == (200, [1, 2.5, True, "7", [1, 2], None])
    assert (await ask(f, b"n=one&x=1&yes=no&text=&many=1"))[0] == 422


async def test_a_body_is_the_one_argument_that_is_no_scalar() -> None:
    def f(item: dict[str, int], times: int = 1) -> Any:
        return [item, times]

    assert await ask(f, b"times=2", b'{"a": 1}', b"POST") == (200, [{"a": 1}, 2])
    assert await ask(f, b"", b'{"item": {"a": 1}, "times": 3}', b"POST") == (200, [{"a": 1}, 3])
    assert (await ask(f, b"", b"{", b"POST"))[0] == 422


async def test_an_exception_of_the_webs_own_says_its_status() -> None:
    class Teapot(Exception):
        status_code, detail = 418, "short and stout"

    async def f() -> None:
        raise Teapot

    assert await ask(f) == (418, {"detail": "short and stout"})


async def test_an_asgi_app_that_answers_at_once_is_one_frame() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive()) == {"type": "http.request", "body": b"in", "more_body": False}
        await send({"type": "http.response.start", "status": 201, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"out"})

    server = Server()
    await AsgiHandler(app)(Exchange(server, 1, request(), b"in"))

    assert server.whole == (AnswerHead(201, [(b"a", b"b")]), b"out")


async def test_an_app_without_a_lifespan_needs_none_and_one_that_fails_to_start_says_so() -> None:
    async def none(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    await AsgiHandler(none).start()
    with pytest.raises(RuntimeError, match="no database"):
        await AsgiHandler(fails).start()


async def test_a_program_that_has_closed_a_kept_connection_is_asked_over_another() -> None:
    asked: list[bytes] = []
    heard, closed = asyncio.Queue[None](), asyncio.Queue[None]()

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heard.put_nowait(None)
        asked.append(await reader.readuntil(b"0\r\n\r\n") if b"chunked" in head else b"")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")  # as if more could be asked
        writer.close()
        closed.put_nowait(None)

    program = await asyncio.start_server(answer_once, "127.0.0.1", 0)
    handler = ProxyHandler(program.sockets[0].getsockname()[1])
    await handler(Exchange(Server(), 1, request(), b""))
    await heard.get()
    await closed.get()
    server = Server()
    exchange = Exchange(server, 2, request(b"POST"), None)
    asking = asyncio.ensure_future(handler(exchange))
    await asyncio.wait((asking, asyncio.ensure_future(heard.get())), return_when=asyncio.FIRST_COMPLETED)
    exchange.on_body(b"half")
    exchange.on_end()
    await asking

    assert server.whole[0].status == 200
    assert asked == [b"", b"4\r\nhalf\r\n0\r\n\r\n"]
    let_go(handler)
    program.close()


async def test_what_a_web_server_returns_is_kept_for_as_long_as_its_worker_lives() -> None:
    programs = [socket.create_server(("127.0.0.1", 0))]
    kept = weakref.ref(programs[0])
    port = programs[0].getsockname()[1]
    web = Web(programs.pop)

    let_go(await web.handler({"kind": "server", "port": port, "startup_timeout": 5}))

    program = kept()
    assert program is not None
    program.close()


def let_go(handler: ProxyHandler) -> None:
    """Close the connections that it keeps."""
    for way in handler._kept:
        way.close()
