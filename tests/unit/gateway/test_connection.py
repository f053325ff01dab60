"""Connections as they come: cut up, pipelined, half dead, and while the server stops."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import weakref
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from relight.gateway import connection
from relight.gateway.exchange import Answer, StreamAnswer
from relight.protocol.api import MEDIA_TYPE, Await, CallViews, Submit
from relight.protocol.calls import CallRequest, CallState, CallView
from relight.protocol.codec import pack, unpack
from relight.protocol.payload import Payload

if TYPE_CHECKING:
    from conftest import Api

HEALTH = b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\n\r\n"
VIEW = CallView(id="call-1", app="a", environment="main", version="v", function="f")
REQUEST = CallRequest(id="call-1", app="a", function="square", payload=Payload(format="json", data=b"1"))


def post(path: str, body: bytes, *more: str) -> bytes:
    """A request with a message in it."""
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-type: {MEDIA_TYPE}", *more]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


SUBMIT = post("/v1/calls", pack(Submit(calls=(REQUEST,))))


def waiting_for(call: str) -> bytes:
    return post("/v1/calls/wait", pack(Await(ids=(call,), wait_seconds=30.0)))


class Line:
    """A bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next one."""
        async with asyncio.timeout(10):
            top = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = top.decode().rstrip().split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(fields.get("content-length", "0")))
        return int(first.split()[1]), fields, body

    async def rest(self) -> bytes:
        """All that comes until the server hangs up."""
        async with asyncio.timeout(10):
            return await self.reader.read()


@pytest.fixture
async def line(api: Api) -> AsyncIterator[Line]:
    reader, writer = await api.open()
    yield Line(reader, writer)
    writer.close()


def answered_by(api: Api, answer: Answer | StreamAnswer) -> None:
    """Have the next request answered by this."""
    connections = api.server._callers
    before = connections.answering

    async def say(_: object) -> Answer | StreamAnswer:
        connections.answering = before
        return answer

    connections.answering = say


async def test_a_request_that_comes_byte_by_byte_is_answered(line: Line) -> None:
    for at in range(len(SUBMIT)):
        line.write(SUBMIT[at : at + 1])
        await line.writer.drain()

    status, fields, body = await line.answer()

    assert (status, fields["content-type"]) == (200, MEDIA_TYPE)
    assert [view.id for view in unpack(body, CallViews).calls] == ["call-1"]


async def test_requests_that_come_at_once_are_answered_in_their_order(api: Api, line: Line) -> None:
    api.platform.calls.put(VIEW)
    line.write(HEALTH + waiting_for("call-1") + SUBMIT + HEALTH)

    first = await line.answer()
    await asyncio.wait_for(api.platform.calls.waiting.wait(), 10)
    api.platform.calls.put(replace(VIEW, state=CallState.SUCCEEDED))
    api.platform.calls.ended.set()
    second, third, fourth = [await line.answer() for _ in range(3)]

    assert (first[0], fourth[2]) == (200, b'{"status":"ok"}')
    assert unpack(second[2], CallViews).calls[0].state is CallState.SUCCEEDED
    assert unpack(third[2], CallViews).calls[0].state is CallState.QUEUED


async def test_thousands_of_requests_may_come_at_once(line: Line) -> None:
    line.write(HEALTH * 3000)

    assert [(await line.answer())[0] for _ in range(3000)] == [200] * 3000


async def test_what_is_no_http_is_told_after_the_answers_before_it(line: Line) -> None:
    line.write(HEALTH + b"nonsense\r\n\r\n")

    assert (await line.answer())[0] == 200
    status, fields, _ = await line.answer()
    assert (status, fields["connection"], await line.rest()) == (400, "close", b"")


async def test_a_body_that_cannot_be_read_is_a_bad_request(line: Line) -> None:
    head = SUBMIT.partition(b"content-length")[0]
    line.write(head + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n")

    assert (await line.answer())[0] == 400
    assert await line.rest() == b""


async def test_a_body_in_chunks_is_one_message(line: Line) -> None:
    head, _, body = SUBMIT.partition(b"\r\n\r\n")
    head = head.rpartition(b"\r\n")[0] + b"\r\ntransfer-encoding: chunked\r\n\r\n"
    line.write(head + b"5\r\n" + body[:5] + b"\r\n%x\r\n" % (len(body) - 5))
    await line.writer.drain()
    line.write(body[5:] + b"\r\n0\r\n\r\n")

    assert (await line.answer())[0] == 200


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_message_over_the_limit_is_413_and_the_next_request_is_answered(line: Line, is_chunked: bool) -> None:
    head = SUBMIT.partition(b"content-length")[0]
    body = b"x" * 1_000_001
    if is_chunked:
        line.write(head + b"transfer-encoding: chunked\r\n\r\n" + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
    else:
        line.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
    line.write(HEALTH)

    assert [(await line.answer())[0], (await line.answer())[0]] == [413, 200]


async def test_a_refusal_reaches_even_a_client_that_sends_on_and_closes(line: Line) -> None:
    length = 5_000_000
    line.write(post("/v1/calls", b"", "connection: close")[:-5].rpartition(b"\r\n")[0])
    line.write(b"\r\ncontent-length: %d\r\n\r\n" % length)
    status, fields, _ = await line.answer()
    for _ in range(50):
        line.write(b"x" * (length // 50))
        await line.writer.drain()

    assert (status, fields["connection"], await line.rest()) == (413, "close", b"")


async def test_a_client_that_closes_and_sends_no_more_is_not_waited_for_long(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.02)
    line.write(b"POST /v1/nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\n")

    assert (await line.answer())[0] == 404
    assert await line.rest() == b""


async def test_a_sender_that_waits_for_a_word_is_told_to_go_on(line: Line) -> None:
    body = pack(Submit(calls=(REQUEST,)))
    whole = post("/v1/calls", body, "expect: 100-continue")
    line.write(whole.removesuffix(body))

    assert (await line.answer())[0] == 100
    line.write(body)
    status, fields, _ = await line.answer()
    assert (status, "connection" in fields) == (200, False)


async def test_a_sender_that_waits_for_a_word_and_is_refused_is_hung_up_on(line: Line) -> None:
    line.write(b"POST /v1/nothing HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")

    status, fields, _ = await line.answer()

    assert (status, fields["connection"], await line.rest()) == (404, "close", b"")


async def test_a_bad_token_is_401_before_the_body_is_there(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    line = Line(reader, writer)
    head = b"POST /v1/calls HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer wrong\r\ncontent-length: 4\r\n\r\n"
    line.write(head)

    assert (await line.answer())[0] == 401
    line.write(b"body" + head.replace(b"wrong", b"rl_test") + b"body")
    assert (await line.answer())[0] == 415
    writer.close()


@pytest.mark.parametrize("head", [b"connection: close\r\n\r\n", b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"])
async def test_a_connection_ends_with_the_last_answer(line: Line, head: bytes) -> None:
    line.write(HEALTH.removesuffix(b"\r\n") + head + HEALTH)

    status, fields, _ = await line.answer()

    assert (status, fields["connection"], await line.rest()) == (200, "close", b"")


async def test_an_old_client_gets_a_stream_that_ends_with_the_connection(line: Line) -> None:
    line.write(b"GET /v1/runs/run-01kb0000000000000000000000/attach HTTP/1.0\r\nhost: localhost\r\n\r\n")

    head, _, body = (await line.rest()).partition(b"\r\n\r\n")

    assert b"connection: close" in head
    assert b"transfer-encoding" not in head
    assert body.splitlines()[-1] == b'{"event":"ended"}'


async def test_a_call_whose_caller_hangs_up_goes_on(api: Api, line: Line) -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def submit(workspace: str, submit: Submit, /, *, worker: str = "") -> CallViews:
        begun.set()
        await may_end.wait()
        ended.set()
        return CallViews(calls=())

    api.platform.calls.submit = submit  # type: ignore[method-assign]  # one that waits
    line.write(SUBMIT)
    await asyncio.wait_for(begun.wait(), 10)
    line.writer.close()
    await line.writer.wait_closed()
    assert (await api.ask("GET", "/v1/health")).status == 200  # so the server has heard that it hung up
    may_end.set()

    await asyncio.wait_for(ended.wait(), 10)


async def test_a_call_that_waits_is_told_to_ask_again_though_its_caller_may_not_hear_it(api: Api, line: Line) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def submit(workspace: str, submit: Submit, /, *, worker: str = "") -> CallViews:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return CallViews(calls=())

    api.platform.calls.submit = submit  # type: ignore[method-assign]  # one that waits
    line.write(SUBMIT)
    await asyncio.wait_for(begun.wait(), 10)
    other = Line(*await api.open())
    other.write(SUBMIT)
    line.writer.close()
    await line.writer.wait_closed()
    assert (await api.ask("GET", "/v1/health")).status == 200

    api.server.stop()

    assert (await other.answer())[0] == 503
    await asyncio.wait_for(api.serving, 10)
    assert cancelled.is_set()
    other.writer.close()


async def test_what_was_begun_is_answered_before_the_server_has_stopped(api: Api, line: Line) -> None:
    data = b"0123456789" * 20_000
    digest = hashlib.sha256(data).hexdigest()
    line.write(f"PUT /v1/blobs/{digest} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode())
    line.write(data[:100_000])
    idle = Line(*await api.open())
    idle.write(HEALTH)
    await idle.answer()

    api.server.stop()
    assert await idle.rest() == b""
    line.write(data[100_000:])

    status, fields, _ = await line.answer()
    assert (status, fields["connection"]) == (201, "close")
    assert await line.rest() == b""
    await asyncio.wait_for(api.serving, 10)
    with pytest.raises(OSError, match=r"refused|No such file"):
        await api.open()
    idle.writer.close()


async def test_what_takes_longer_than_the_server_waits_is_cut_off(api: Api, line: Line) -> None:
    line.write(b"PUT /v1/blobs/%b HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf" % (b"0" * 64))
    assert (await api.ask("GET", "/v1/health")).status == 200
    api.server._stop_seconds = 0.05

    api.server.stop()

    await asyncio.wait_for(api.serving, 10)
    assert api.platform.blobs.broken_off.is_set()


async def test_a_connection_that_rests_too_long_is_closed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.02)
    monkeypatch.setattr(connection, "KEEP_ALIVE_SECONDS", 0.1)
    line = Line(*await api.open())
    line.write(HEALTH)

    assert (await line.answer())[0] == 200
    assert await line.rest() == b""
    line.writer.close()


async def test_a_second_head_that_does_not_come_is_408_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.05)
    line = Line(*await api.open())
    line.write(HEALTH + HEALTH[:20])

    assert (await line.answer())[0] == 200
    assert (await line.answer())[0] == 408
    line.writer.close()


async def test_an_answer_that_takes_long_is_waited_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.01)
    monkeypatch.setattr(connection, "KEEP_ALIVE_SECONDS", 0.01)
    looked = asyncio.Event()
    times = 0
    look = connection.HttpConnection._look_at_the_time

    def count(self: connection.HttpConnection) -> None:
        nonlocal times
        times += 1
        if times == 3:
            looked.set()
        look(self)

    monkeypatch.setattr(connection.HttpConnection, "_look_at_the_time", count)
    api.platform.calls.put(VIEW)
    line = Line(*await api.open())
    line.write(waiting_for("call-1"))
    await asyncio.wait_for(looked.wait(), 10)

    api.platform.calls.ended.set()

    assert (await line.answer())[0] == 200
    line.writer.close()


async def test_nothing_of_a_connection_is_left_when_it_has_ended(api: Api) -> None:
    line = Line(*await api.open())
    line.write(SUBMIT)
    await line.answer()
    [one] = api.server._callers._open
    left = weakref.ref(one)
    gc.disable()
    try:
        del one
        line.writer.close()
        await line.writer.wait_closed()
        assert (await api.ask("GET", "/v1/health")).status == 200

        assert left() is None
    finally:
        gc.enable()


async def test_a_stream_shorter_than_it_said_breaks_the_connection(api: Api, line: Line) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"half"

    answered_by(api, StreamAnswer(parts=parts(), length=9))
    line.write(HEALTH)

    head, _, body = (await line.rest()).partition(b"\r\n\r\n")

    assert (b"content-length: 9" in head, body) == (True, b"half")


async def test_a_stream_that_fails_half_way_does_not_look_whole(api: Api, line: Line) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"half"
        raise ZeroDivisionError

    answered_by(api, StreamAnswer(parts=parts()))
    line.write(HEALTH)

    assert (await line.rest()).endswith(b"\r\n\r\n4\r\nhalf\r\n")


async def test_a_stream_waits_for_a_reader_that_is_slow(api: Api, line: Line) -> None:
    sent = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 100_000

    answered_by(api, StreamAnswer(parts=parts(), length=100_000_000))
    line.write(HEALTH)
    async with asyncio.timeout(10):
        await line.reader.readuntil(b"\r\n\r\n")
    assert (await api.ask("GET", "/v1/health")).status == 200
    at_rest = sent

    assert at_rest < 200
    assert len(await asyncio.wait_for(line.reader.readexactly(100_000_000), 60)) == 100_000_000


async def test_what_would_end_a_header_is_left_out_of_it(api: Api, line: Line) -> None:
    answered_by(api, Answer(status=202, headers=(("location", "/a\r\nx: y\x00é✓"),)))
    line.write(HEALTH)

    head, _, _ = (await asyncio.wait_for(line.reader.readuntil(b"\r\n\r\n"), 10)).partition(b"\r\n\r\n")

    assert b"location: /ax: y\xe9?" in head.split(b"\r\n")


async def test_every_answer_has_its_date(line: Line) -> None:
    line.write(HEALTH)

    assert (await line.answer())[1]["date"].endswith("gmt")
