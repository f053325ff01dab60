"""All that happens to a call, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relight.gateway.events import merged
from relight.protocol.calls import CallState, CallView
from unit.gateway.test_items import DONE, FAILED, Generating, value

if TYPE_CHECKING:
    from conftest import Api
    from relight.gateway.events import Events

SQUARE = "/v1/apps/a/functions/square/stream"


def events(body: bytes) -> list[tuple[str, Any]]:
    """The events of a stream, without its comments."""
    blocks = [block.split("\n", 1) for block in body.decode().split("\n\n") if block.startswith("event: ")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


async def test_a_call_is_told_from_its_start_to_its_end(api: Api) -> None:
    asking = asyncio.create_task(api.ask("POST", SQUARE, b'{"x": 7}'))
    call = await ended(api.platform.calls, CallState.SUCCEEDED)
    reply = await asking

    said = events(reply.body)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
    assert said[0] == ("start", {"id": call.id, "app": "a", "function": "square", "environment": "main"})
    assert said[-1] == ("completed", {"id": call.id, "state": "succeeded", "result": 49})
    assert ("log", {"at": 1.0, "source": "stdout", "text": "line 1"}) in said


async def test_the_items_of_a_generator_are_outputs(api: Api) -> None:
    calls = Generating(api, [value(b"1"), value(b"2")], DONE)

    asking = asyncio.create_task(api.ask("POST", "/v1/apps/a/functions/count/stream", b"{}"))
    await ended(calls._calls, CallState.SUCCEEDED)
    said = events((await asking).body)

    assert [data for name, data in said if name == "output"] == [1, 2]
    assert said[-1][1]["items"] == 2


async def test_a_failure_is_the_problem_that_a_call_would_have_answered(api: Api) -> None:
    calls = Generating(api, [value(b"1")], FAILED)

    asking = asyncio.create_task(api.ask("POST", "/v1/apps/a/functions/count/stream", b"{}"))
    await ended(calls._calls, CallState.FAILED)
    name, data = events((await asking).body)[-1]

    assert (name, data["state"], data["error"]["code"]) == ("completed", "failed", "function_failed")


async def test_who_hangs_up_stops_a_generator(api: Api) -> None:
    calls = Generating(api, [value(b"1")], None)

    _, writer = await api.open()
    writer.write(b"POST /v1/apps/a/functions/count/stream HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
    await asyncio.wait_for(calls.is_waited_for.wait(), 10)
    writer.close()

    await asyncio.wait_for(calls.is_cancelled.wait(), 10)


async def test_streams_are_merged_until_those_that_lead_are_over() -> None:
    closed: list[str] = []

    async def endless() -> Events:
        try:
            yield "rest", 0
            await asyncio.Event().wait()
        finally:
            closed.append("rest")

    async def some(name: str, count: int) -> Events:
        for number in range(count):
            yield name, number

    said = [event async for event in merged((some("a", 2), some("b", 3)), endless())]

    assert [number for name, number in said if name == "a"] == [0, 1]
    assert [number for name, number in said if name == "b"] == [0, 1, 2]
    assert ("rest", 0) in said
    assert closed == ["rest"]


async def ended(calls: Any, state: CallState) -> CallView:
    """Let the call that the stream is of stand as ended, once it is there."""
    await asyncio.wait_for(calls.taken.wait(), 10)
    (call,) = calls.views.values()
    failure = FAILED[1] if state is CallState.FAILED else None
    calls.put(replace(call, state=state, result=value(b"49"), failure=failure, items=2))
    calls.ended.set()
    return call
