"""Calls over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from relight.protocol.api import MEDIA_TYPE, Await, CallDetail, CallViews, Cancel, Submit
from relight.protocol.calls import CallRequest, CallState, CallView
from relight.protocol.codec import pack, unpack
from relight.protocol.errors import Failure
from relight.protocol.payload import Payload
from relight.protocol.views import CallQuery

if TYPE_CHECKING:
    from conftest import Api

VIEW = CallView(id="call-1", app="a", environment="main", version="v", function="square", pending_reason="no_worker")
SQUARE = "/v1/apps/a/functions/square"


def done(**fields: object) -> CallView:
    """A call that has ended."""
    return replace(VIEW, state=CallState.SUCCEEDED, pending_reason="", **fields)  # type: ignore[arg-type]


async def test_a_frame_of_calls_is_answered_with_a_frame_of_views(api: Api) -> None:
    request = CallRequest(id="call-1", app="a", function="square", payload=Payload(format="pickle5", data=b"\x00\xff"))

    reply = await api.ask("POST", "/v1/calls", pack(Submit(calls=(request,))), Content_Type=MEDIA_TYPE)

    assert (reply.status, reply.headers["content-type"]) == (200, MEDIA_TYPE)
    assert [view.id for view in unpack(reply.body, CallViews).calls] == ["call-1"]
    assert api.platform.calls.payloads["call-1"].data == b"\x00\xff"


async def test_a_frame_under_another_type_is_415(api: Api) -> None:
    reply = await api.ask("POST", "/v1/calls", pack(Submit(calls=())), Content_Type="application/json")

    assert (reply.status, reply.json.code) == (415, "invalid_request")


async def test_a_broken_frame_is_refused(api: Api) -> None:
    reply = await api.ask("POST", "/v1/calls", b"\x00\x00\x00\x09nonsense!", Content_Type=MEDIA_TYPE)

    assert (reply.status, reply.json.code) == (400, "protocol_error")


async def test_a_wait_ends_when_its_caller_hangs_up(api: Api) -> None:
    api.platform.calls.put(VIEW)
    body = pack(Await(ids=("call-1",), wait_seconds=30))
    head = (
        f"POST /v1/calls/wait HTTP/1.1\r\nhost: x\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n\r\n"
    )

    _, writer = await api.open()
    writer.write(head.encode() + body)
    await asyncio.wait_for(api.platform.calls.waiting.wait(), 10)
    writer.close()

    await asyncio.wait_for(api.platform.calls.abandoned.wait(), 10)


async def test_a_wait_is_told_to_ask_again_when_the_server_stops(api: Api) -> None:
    api.platform.calls.put(VIEW)
    body = pack(Await(ids=("call-1",), wait_seconds=30))

    asking = asyncio.create_task(api.ask("POST", "/v1/calls/wait", body, Content_Type=MEDIA_TYPE))
    await asyncio.wait_for(api.platform.calls.waiting.wait(), 10)
    api.server.stop()
    reply = await asyncio.wait_for(asking, 10)

    assert (reply.status, reply.json.code, reply.json.retryable) == (503, "unavailable", True)
    await asyncio.wait_for(api.serving, 10)


async def test_calls_are_listed_as_asked(api: Api) -> None:
    api.platform.calls.put(VIEW)

    reply = await api.ask("GET", "/v1/calls?app=a&state=queued&limit=5&before=call-9")

    assert [(call.id, call.state, call.pending_reason) for call in reply.json.calls] == [
        ("call-1", "queued", "no_worker")
    ]
    assert api.platform.calls.asked == [CallQuery(app="a", state=CallState.QUEUED, limit=5, before="call-9")]


@pytest.mark.parametrize("query", ["state=sleeping", "limit=-1", "limit=1001", "limit=many"])
async def test_a_list_of_what_cannot_be_is_refused(api: Api, query: str) -> None:
    reply = await api.ask("GET", f"/v1/calls?{query}")

    assert (reply.status, reply.json.code) == (400, "invalid_request")


async def test_a_call_is_shown_whole_in_json_and_as_a_frame(api: Api) -> None:
    api.platform.calls.put(done(result=Payload(format="json", data=b'{"a": [1, 2]}')))

    shown = (await api.ask("GET", "/v1/calls/call-1")).json
    frame = await api.ask("GET", "/v1/calls/call-1", Accept=MEDIA_TYPE)

    assert (shown.call.state, shown.call.result.a, shown.call.result_format) == ("succeeded", [1, 2], "json")
    assert (shown.attempts, shown.worker_intervals) == ([], [])
    assert unpack(frame.body, CallDetail).call == api.platform.calls.views["call-1"]


async def test_a_python_result_is_shown_as_its_preview(api: Api) -> None:
    api.platform.calls.put(done(result=Payload(format="pickle5", data=b"...", preview="<Model>")))

    call = (await api.ask("GET", "/v1/calls/call-1")).json.call

    assert (call.result.format, call.result.preview) == ("pickle5", "<Model>")


async def test_a_worker_that_calls_nonsense_json_is_not_believed(api: Api) -> None:
    api.platform.calls.put(done(result=Payload(format="json", data=b'{"a": NaN', preview="?")))

    shown = await api.ask("GET", "/v1/calls/call-1")
    result = await api.ask("GET", "/v1/calls/call-1/result")

    assert (shown.status, shown.json.call.result.preview) == (200, "?")
    assert result.status == 406


async def test_a_call_that_is_not_there_is_404(api: Api) -> None:
    assert (await api.ask("GET", "/v1/calls/call-9")).status == 404
    assert (await api.ask("GET", "/v1/calls/call-9/result")).status == 404


async def test_a_result_is_the_value_itself(api: Api) -> None:
    api.platform.calls.put(done(result=Payload(format="json", data=b"[49, 12345678901234567890123]")))

    reply = await api.ask("GET", "/v1/calls/call-1/result")

    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.body == b"[49, 12345678901234567890123]"


async def test_a_large_result_is_streamed_from_its_blob(api: Api) -> None:
    data = json.dumps("x" * 300_000).encode()
    digest = hashlib.sha256(data).hexdigest()
    api.platform.blobs.kept[digest] = data
    api.platform.calls.put(done(result=Payload(format="json", blob=digest, size=len(data))))

    assert (await api.ask("GET", "/v1/calls/call-1/result")).body == data


async def test_a_raw_result_is_bytes(api: Api) -> None:
    api.platform.calls.put(done(result=Payload(format="raw", data=b"\x89PNG")))

    reply = await api.ask("GET", "/v1/calls/call-1/result")

    assert (reply.headers["content-type"], reply.body) == ("application/octet-stream", b"\x89PNG")


async def test_a_result_that_only_python_can_read_is_406_with_its_preview(api: Api) -> None:
    api.platform.calls.put(done(result=Payload(format="pickle5", data=b"...", preview="<Model>")))

    reply = await api.ask("GET", "/v1/calls/call-1/result")

    assert (reply.status, reply.json.code, reply.json.preview) == (406, "value_is_python", "<Model>")


async def test_a_result_that_is_not_there_yet_is_202_and_says_why(api: Api) -> None:
    api.platform.calls.put(VIEW)

    reply = await api.ask("GET", "/v1/calls/call-1/result")

    assert (reply.status, reply.headers["location"]) == (202, "/v1/calls/call-1/result")
    assert (reply.json.state, reply.json.pending_reason) == ("queued", "no_worker")


async def test_a_failed_call_is_a_problem_with_the_users_traceback(api: Api) -> None:
    failure = Failure(code="function_failed", message="bad", type_name="ValueError", traceback="File x.py, line 3")
    api.platform.calls.put(replace(VIEW, state=CallState.FAILED, failure=failure))

    reply = await api.ask("GET", "/v1/calls/call-1/result")

    assert (reply.status, reply.json.code, reply.json.exception) == (500, "function_failed", "ValueError")
    assert (reply.json.call, reply.json.traceback) == ("call-1", "File x.py, line 3")


@pytest.mark.parametrize(("code", "status"), [("timed_out", 504), ("worker_lost", 502), ("cancelled", 409)])
async def test_the_way_a_call_ended_is_its_status(api: Api, code: str, status: int) -> None:
    api.platform.calls.put(replace(VIEW, state=CallState.FAILED, failure=Failure(code=code, message="it ended")))

    reply = await api.ask("GET", "/v1/calls/call-1/result")

    assert (reply.status, reply.json.code) == (status, code)


async def test_a_call_is_cancelled(api: Api) -> None:
    api.platform.calls.put(VIEW)

    assert (await api.ask("POST", "/v1/calls/call-1/cancel")).json.state == "cancelled"


async def test_many_calls_are_cancelled_by_one_request(api: Api) -> None:
    for number in range(3):
        api.platform.calls.put(replace(VIEW, id=f"call-{number}", group="group-1" if number else ""))

    named = pack(Cancel(ids=("call-0", "call-gone"), group="group-1"))
    reply = await api.ask("POST", "/v1/calls/cancel", named, Content_Type=MEDIA_TYPE)

    assert reply.json.cancelled == 3
    assert {view.state for view in api.platform.calls.views.values()} == {CallState.CANCELLED}


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b'{"x": 7}', {"args": [], "kwargs": {"x": 7}}),
        (b"[7, 8]", {"args": [7, 8], "kwargs": {}}),
        (b"", {"args": [], "kwargs": {}}),
        (b'{"x": 12345678901234567890123}', {"args": [], "kwargs": {"x": 12345678901234567890123}}),
    ],
)
async def test_what_is_posted_becomes_the_arguments(api: Api, body: bytes, kept: object) -> None:
    api.platform.calls.result = Payload(format="json", data=b"49")

    reply = await api.ask("POST", f"{SQUARE}/call", body)

    assert (reply.status, reply.json.state, reply.json.result) == (200, "succeeded", 49)
    payload = api.platform.calls.payloads[reply.json.id]
    assert payload.format == "json"
    assert json.loads(payload.data or b"") == kept


@pytest.mark.parametrize("body", [b"7", b'"x"', b"{", b"\xff", b"[NaN]", b"null"])
async def test_what_is_no_argument_is_refused(api: Api, body: bytes) -> None:
    reply = await api.ask("POST", f"{SQUARE}/call", body)

    assert (reply.status, reply.json.code) == (400, "invalid_request")
    assert api.platform.calls.views == {}


async def test_large_arguments_travel_as_a_blob(api: Api) -> None:
    api.platform.calls.result = Payload(format="json", data=b"1")

    reply = await api.ask("POST", f"{SQUARE}/call", json.dumps(["x" * 300_000]))

    payload = api.platform.calls.payloads[reply.json.id]
    assert payload.data is None
    assert json.loads(api.platform.blobs.kept[payload.blob])["args"] == ["x" * 300_000]


async def test_a_method_of_a_class_is_named_with_a_dot(api: Api) -> None:
    api.platform.calls.result = Payload(format="json", data=b"1")

    reply = await api.ask("POST", "/v1/apps/a/functions/Reader.read/call?environment=staging", b"{}")

    view = api.platform.calls.views[reply.json.id]
    assert (view.function, view.method, view.environment) == ("Reader", "read", "staging")


async def test_who_does_not_wait_is_told_where_to_ask(api: Api) -> None:
    submitted = await api.ask("POST", f"{SQUARE}/submit", b"{}")
    impatient = await api.ask("POST", f"{SQUARE}/call", b"{}", Prefer="wait=0")

    for reply in (submitted, impatient):
        assert (reply.status, reply.json.state) == (202, "queued")
        assert reply.headers["location"] == f"/v1/calls/{reply.json.id}/result"


async def test_a_waiting_call_answers_when_it_ends(api: Api) -> None:
    asking = asyncio.create_task(api.ask("POST", f"{SQUARE}/call", b"{}"))
    await asyncio.wait_for(api.platform.calls.waiting.wait(), 10)

    (call,) = api.platform.calls.views.values()
    result = Payload(format="json", data=b"49")
    api.platform.calls.put(replace(call, state=CallState.SUCCEEDED, result=result))
    api.platform.calls.ended.set()

    assert (await asking).json.result == 49


async def test_an_unknown_function_is_404_as_control_says_it(api: Api) -> None:
    reply = await api.ask("POST", "/v1/apps/a/functions/missing/call", b"{}")

    assert (reply.status, reply.json.detail) == (404, "cannot find function 'missing' in app 'a': it has 'square'")
