"""Requests of workers: HTTP on a stream of a link, from somebody who shows no token and may do little."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from relight.gateway.table import ROUTES
from relight.protocol.api import MEDIA_TYPE, Await, CallViews, Submit
from relight.protocol.calls import CallRequest, CallState, CallView
from relight.protocol.codec import pack, unpack
from relight.protocol.errors import RelightError
from relight.protocol.payload import Payload
from relight.protocol.views import Principal, Scope
from relight.transport import Connection, Stream, connect_unix, listen_unix

if TYPE_CHECKING:
    from conftest import Api

WORKER = Principal(workspace="default", scope=Scope.CALL, environment="main", worker="worker-1")
VIEW = CallView(id="call-1", app="a", environment="main", version="v", function="f")
CLOSED = tuple(route for route in ROUTES if not route.for_workers and not route.is_open)


@dataclass
class Way:
    """A worker's way in: streams of a link, each of which is a connection."""

    link: Connection

    def open(self) -> Stream:
        return self.link.open("platform", "worker-1")

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = MEDIA_TYPE) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        stream = self.open()
        try:
            await stream.write(head(method, path, body, kind) + body)
            return await read_answer(stream)
        finally:
            stream.reset("done")

    async def problem(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        status, said = await self.ask(method, path, body)
        return status, json.loads(said)


def head(method: str, path: str, body: bytes, kind: str = MEDIA_TYPE) -> bytes:
    lines = (
        f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return lines.encode()


async def read_answer(stream: Stream) -> tuple[int, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += await part_of(stream)
    top, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in top.split(b"\r\n")[1:])
    while len(body) < int(fields[b"content-length"]):
        body += await part_of(stream)
    return int(top.split(b" ")[1]), body


async def part_of(stream: Stream) -> bytes:
    async with asyncio.timeout(10):
        data = await stream.read()
    assert data, "the answer broke off"
    return data


@pytest.fixture
async def way(api: Api, tmp_path: Path) -> AsyncIterator[Way]:
    ends: list[Connection] = []

    async def serve(stream: Stream) -> None:
        await api.server.serve_stream(stream, WORKER)

    def ignore(connection: Connection, data: bytes) -> None: ...

    path = str(tmp_path / "link")
    server = await listen_unix(path, on_message=ignore, on_stream=serve, on_connect=ends.append)
    link = await connect_unix(path, on_message=ignore)
    yield Way(link)
    link.close()
    for end in ends:
        end.close()
    server.close()


def request(**fields: str) -> CallRequest:
    return replace(CallRequest(id="call-1", app="a", function="f", payload=Payload(format="json", data=b"1")), **fields)


async def test_a_worker_needs_no_token_and_is_named_to_the_platform(api: Api, way: Way) -> None:
    asked: list[str] = []
    taken = api.platform.calls.submit

    async def submit(workspace: str, submit: Submit, /, *, worker: str = "") -> CallViews:
        asked.append(worker)
        return await taken(workspace, submit, worker=worker)

    api.platform.calls.submit = submit  # type: ignore[method-assign]  # to see who is said to ask

    status, body = await way.ask("POST", "/v1/calls", pack(Submit(calls=(request(),))))

    assert status == 200
    assert [view.id for view in unpack(body, CallViews).calls] == ["call-1"]
    assert asked == ["worker-1"]


@pytest.mark.parametrize("route", CLOSED, ids=lambda route: route.name)
async def test_what_is_not_for_workers_is_refused(api: Api, way: Way, route: Any) -> None:
    path = route.path.replace("{", "").replace("}", "")

    status, said = await way.problem(route.method, path)

    assert (status, said["code"]) == (403, "forbidden")
    assert said["detail"].startswith(f"cannot {route.method} {route.path}: it was asked from inside a worker")


def test_workers_may_do_these_things_and_no_others() -> None:
    assert {route.name for route in ROUTES if route.for_workers} == {
        *("submit_calls", "wait_calls", "read_items", "cancel_calls", "cancel_call", "list_calls", "show_call"),
        *(
            "call_tree",
            "call_result",
            "show_function",
            "function_schema",
            "function_stats",
            "report_metrics",
            "call_function",
            "submit_function",
            "stream_function",
        ),
        *("has_blob", "read_blob", "write_blob", "show_own_token", "app_urls"),
    }


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/calls", pack(Submit(calls=(request(environment="staging"),)))),
        ("POST", "/v1/calls/wait", pack(Await(ids=("call-2",), wait_seconds=5.0))),
        ("GET", "/v1/calls/call-2", b""),
        ("GET", "/v1/calls/call-2/result", b""),
        ("POST", "/v1/calls/call-2/cancel", b""),
        ("GET", "/v1/calls?environment=staging", b""),
        ("GET", "/v1/apps/a/functions/f?environment=staging", b""),
        ("POST", "/v1/apps/a/functions/f/submit?environment=staging", b""),
    ],
)
async def test_another_environment_is_closed_to_a_worker(
    api: Api, way: Way, method: str, path: str, body: bytes
) -> None:
    api.platform.calls.put(replace(VIEW, id="call-2", environment="staging"))

    status, said = await way.problem(method, path, body)

    assert (status, said["code"]) == (403, "forbidden")
    assert "the worker that asks runs in 'main'" in said["detail"]
    assert not api.platform.calls.waiting.is_set() or "wait" in path


async def test_a_list_is_of_the_workers_own_environment(api: Api, way: Way) -> None:
    assert (await way.ask("GET", "/v1/calls"))[0] == 200

    assert [query.environment for query in api.platform.calls.asked] == ["main"]


async def test_several_requests_share_a_connection(api: Api, way: Way) -> None:
    stream = way.open()

    answers = []
    for _ in range(3):
        await stream.write(head("GET", "/v1/health", b""))
        answers.append(await read_answer(stream))

    assert answers == [(200, b'{"status":"ok"}')] * 3
    stream.finish()
    assert await stream.read() == b""


async def test_values_larger_than_any_window_pass_both_ways(api: Api, way: Way) -> None:
    data = bytes(range(256)) * 3900
    digest = hashlib.sha256(data).hexdigest()

    kept, _ = await way.ask("PUT", f"/v1/blobs/{digest}", data, "application/octet-stream")
    status, body = await way.ask("GET", f"/v1/blobs/{digest}")

    assert (kept, status, body) == (201, 200, data)


async def test_a_wait_ends_when_the_worker_hangs_up(api: Api, way: Way) -> None:
    api.platform.calls.put(VIEW)
    stream = way.open()
    body = pack(Await(ids=("call-1",), wait_seconds=50.0))
    await stream.write(head("POST", "/v1/calls/wait", body) + body)
    await within(api.platform.calls.waiting.wait)

    stream.reset("the worker is gone")

    await within(api.platform.calls.abandoned.wait)


async def test_an_answer_comes_while_another_connection_waits(api: Api, way: Way) -> None:
    api.platform.calls.put(VIEW)
    waiting = way.open()
    body = pack(Await(ids=("call-1",), wait_seconds=50.0))
    await waiting.write(head("POST", "/v1/calls/wait", body) + body)
    await within(api.platform.calls.waiting.wait)

    assert (await way.ask("GET", "/v1/health"))[0] == 200

    api.platform.calls.put(replace(VIEW, state=CallState.SUCCEEDED))
    api.platform.calls.ended.set()
    assert (await read_answer(waiting))[0] == 200


async def test_what_is_no_http_is_said_and_the_connection_ends(api: Api, way: Way) -> None:
    stream = way.open()
    await stream.write(b"\x00\x01 nonsense\r\n\r\n")

    assert (await read_answer(stream))[0] == 400
    assert await stream.read() == b""


async def test_workers_keep_nobody_else_out(api: Api, way: Way) -> None:
    streams = [way.open() for _ in range(20)]  # as many connections as the server takes
    for stream in streams:
        await stream.write(head("GET", "/v1/health", b""))
    assert [(await read_answer(stream))[0] for stream in streams] == [200] * 20

    assert (await way.ask("GET", "/v1/health"))[0] == 503
    assert (await api.ask("GET", "/v1/health")).status == 200


async def test_connections_that_rest_are_closed_when_the_server_stops(api: Api, way: Way) -> None:
    stream = way.open()
    await stream.write(head("GET", "/v1/health", b""))
    await read_answer(stream)

    api.server.stop()

    assert await stream.read() == b""


async def test_a_server_that_stops_takes_no_more_of_them(api: Api, way: Way) -> None:
    api.server.stop()

    with pytest.raises((AssertionError, RelightError), match="broke off"):
        await way.ask("GET", "/v1/health")


async def within(what: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(10):
        await what()
