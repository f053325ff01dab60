"""Generators over HTTP: frames for the SDK, lines and events for everybody else."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from relight.protocol.api import Items, ReadItems
from relight.protocol.calls import CallState, CallView
from relight.protocol.codec import pack, unpack
from relight.protocol.errors import Failure
from relight.protocol.manifest import FunctionSpec, HostImage, MethodSpec
from relight.protocol.payload import Payload

if TYPE_CHECKING:
    from conftest import Api

FRAME = "application/x-relight"
CALL = "/v1/apps/a/functions/count/call"
IMAGE = HostImage(python="/usr/bin/python3", prefix="/usr", base_prefix="/usr", version="3.11.7")
DONE = (CallState.SUCCEEDED, None)
FAILED = (CallState.FAILED, Failure(code="function_failed", message="it broke", type_name="Odd", traceback="at 3"))


def value(data: bytes) -> Payload:
    return Payload(format="json", data=data, size=len(data))


class Generating:
    """Calls that make `items`, one for each time they are asked, then end; or do not end, where `end` is None."""

    def __init__(self, api: Api, items: Sequence[Payload], end: tuple[CallState, Failure | None] | None) -> None:
        self._calls: Any = api.platform.calls
        self._items, self._end = tuple(items), end
        self.taken: list[int] = []
        self.pauses = 0
        self.is_waited_for, self.is_cancelled = asyncio.Event(), asyncio.Event()
        api.platform.calls = self  # type: ignore[assignment]  # the part of calls that is asked for here
        api.platform.deploys = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calls, name)

    async def function(self, workspace: str, app: str, environment: str, name: str) -> FunctionSpec:
        methods = (MethodSpec(is_generator=True), MethodSpec(name="plain"), MethodSpec(name="read", is_generator=True))
        return FunctionSpec(name=name, module="m", qualname=name, image=IMAGE, methods=methods)

    async def items(self, workspace: str, query: ReadItems, /, *, worker: str = "") -> Items:
        self.taken.append(query.taken)
        view: CallView = replace((await self._calls.show(workspace, query.call)).call, state=CallState.RUNNING)
        if self.pauses:
            self.pauses -= 1
            return Items(call=view)
        if query.taken < len(self._items):
            return Items(call=view, items=(self._items[query.taken],))
        if self._end is None:
            self.is_waited_for.set()
            await asyncio.Event().wait()
        assert self._end is not None
        return Items(call=replace(view, state=self._end[0], failure=self._end[1]))

    async def cancel(self, workspace: str, call_id: str, /) -> CallView:
        self.is_cancelled.set()
        return await self._calls.cancel(workspace, call_id)


def lines(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


async def test_the_sdk_reads_items_in_frames(api: Api) -> None:
    calls = Generating(api, [value(b"1"), value(b"2")], DONE)
    api.platform.calls.put(CallView(id="call-1", app="a", environment="main", version="v", function="count"))

    body = pack(ReadItems(call="call-1", taken=1, wait_seconds=5.0))
    reply = await api.ask("POST", "/v1/calls/items", body, content_type=FRAME)

    answer = unpack(reply.body, Items)
    assert (answer.items, answer.call.state) == ((value(b"2"),), CallState.RUNNING)
    assert calls.taken == [1]


async def test_a_reader_of_frames_that_hangs_up_is_forgotten_and_its_call_goes_on(api: Api) -> None:
    calls = Generating(api, [], None)
    api.platform.calls.put(CallView(id="call-1", app="a", environment="main", version="v", function="count"))
    body = pack(ReadItems(call="call-1", wait_seconds=60.0))
    _, writer = await api.open()

    head = f"POST /v1/calls/items HTTP/1.1\r\nhost: x\r\ncontent-type: {FRAME}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await asyncio.wait_for(calls.is_waited_for.wait(), 10)
    writer.close()
    await writer.wait_closed()
    await api.ask("GET", "/v1/calls/call-1")

    assert not calls.is_cancelled.is_set()


async def test_items_are_lines_and_the_last_says_how_many_there_were(api: Api) -> None:
    calls = Generating(api, [value(b"1"), value(b'{"a": [2]}'), value(b"null")], DONE)

    reply = await api.ask("POST", CALL, b"{}")

    *items, end = lines(reply.body)
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert items == [{"item": 1}, {"item": {"a": [2]}}, {"item": None}]
    assert (end["end"]["items"], end["end"]["id"][:5]) == (3, "call-")
    assert calls.taken == [0, 1, 2, 3], "what was not sent is not taken"


async def test_items_are_events_where_those_are_asked_for(api: Api) -> None:
    Generating(api, [value(b'"a\\nb"'), value(b"2")], DONE)

    reply = await api.ask("POST", CALL, b"{}", accept="text/event-stream")

    *items, end, rest = reply.body.decode().split("\n\n")
    assert reply.headers["content-type"] == "text/event-stream"
    assert (items, rest) == (['data: "a\\nb"', "data: 2"], "")
    assert end.startswith('event: end\ndata: {"id":"call-')


async def test_a_stream_of_events_says_that_it_lives_while_nothing_comes(api: Api) -> None:
    calls = Generating(api, [value(b"1")], DONE)
    calls.pauses = 2

    reply = await api.ask("POST", CALL, b"{}", accept="text/event-stream")

    assert reply.body.startswith(b": nothing yet\n\n: nothing yet\n\ndata: 1\n\nevent: end\n")


async def test_the_generators_of_a_class_stream_and_its_other_methods_do_not(api: Api) -> None:
    Generating(api, [value(b"1")], DONE)
    api.platform.calls._calls.result = value(b"49")

    stream = await api.ask("POST", "/v1/apps/a/functions/Reader.read/call", b"{}")
    plain = await api.ask("POST", "/v1/apps/a/functions/Reader.plain/call", b"{}")

    assert lines(stream.body)[0] == {"item": 1}
    assert plain.json.result == 49


async def test_an_item_that_only_python_can_read_is_shown(api: Api) -> None:
    Generating(api, [Payload(format="pickle5", data=b"\x80", size=1, preview="{1}")], DONE)

    by_line = await api.ask("POST", CALL, b"{}")
    by_event = await api.ask("POST", CALL, b"{}", accept="text/event-stream")

    assert lines(by_line.body)[0] == {"preview": "{1}", "format": "pickle5"}
    assert by_event.body.startswith(b'data: {"preview":"{1}","format":"pickle5"}\n\n')


async def test_a_large_item_is_a_value_like_any_other_within_the_limit(api: Api) -> None:
    blobs = api.platform.blobs
    text, too_long = json.dumps("x" * 300_000).encode(), json.dumps("y" * 500_000).encode()
    digests = [hashlib.sha256(data).hexdigest() for data in (text, too_long)]
    blobs.kept.update(zip(digests, (text, too_long), strict=True))
    Generating(api, [Payload(format="json", blob=one, size=300_000, preview="…") for one in digests], DONE)

    reply = await api.ask("POST", CALL, b"{}")

    assert lines(reply.body)[:2] == [{"item": "x" * 300_000}, {"preview": "…", "format": "json"}]


async def test_a_failure_before_the_first_item_has_its_status(api: Api) -> None:
    Generating(api, [], FAILED)

    reply = await api.ask("POST", CALL, b"{}")

    assert (reply.status, reply.headers["content-type"]) == (500, "application/problem+json")
    assert (reply.json.code, reply.json.exception) == ("function_failed", "Odd")


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_a_failure_after_items_is_told_in_the_stream(api: Api, accept: str) -> None:
    Generating(api, [value(b"1")], FAILED)

    reply = await api.ask("POST", CALL, b"{}", accept=accept)

    last = reply.body.splitlines()[-1] if accept == "application/json" else reply.body.split(b"\n\n")[-2]
    text = last.removeprefix(b"event: error\ndata: ")
    problem = json.loads(text).get("error") or json.loads(text)
    assert (reply.status, problem["code"], problem["traceback"]) == (200, "function_failed", "at 3")


async def test_a_generator_without_items_answers_with_its_end(api: Api) -> None:
    Generating(api, [], DONE)

    (end,) = lines((await api.ask("POST", CALL, b"{}")).body)

    assert end["end"]["items"] == 0


@pytest.mark.parametrize("items", [[], [value(b"1")]], ids=["before the first item", "after it"])
async def test_a_caller_that_hangs_up_cancels_its_generator(api: Api, items: list[Payload]) -> None:
    calls = Generating(api, items, None)
    _, writer = await api.open()

    writer.write(f"POST {CALL} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}".encode())
    await asyncio.wait_for(calls.is_waited_for.wait(), 10)
    assert not calls.is_cancelled.is_set()
    writer.close()

    await asyncio.wait_for(calls.is_cancelled.wait(), 10)


async def test_a_server_that_stops_cancels_no_generator(api: Api) -> None:
    calls = Generating(api, [value(b"1")], None)
    reader, writer = await api.open()
    writer.write(f"POST {CALL} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}".encode())
    await asyncio.wait_for(reader.readuntil(b'{"item":1}'), 10)
    await asyncio.wait_for(calls.is_waited_for.wait(), 10)

    api.server.stop()
    await asyncio.wait_for(api.serving, 10)

    assert not calls.is_cancelled.is_set()
    writer.close()


async def test_a_caller_that_does_not_wait_is_told_where_to_ask(api: Api) -> None:
    calls = Generating(api, [value(b"1")], DONE)

    reply = await api.ask("POST", CALL, b"{}", prefer="respond-async")

    assert (reply.status, calls.taken) == (202, [])
