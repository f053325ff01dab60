"""Calls over HTTP by programs that know nothing of relight, on a real server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from e2e.app_http_calls import app
from servers import Server


@pytest.fixture(autouse=True, scope="module")
def _deployed(server: Server) -> Iterator[None]:
    app.deploy()
    yield
    assert app._session is not None
    app._session.connection.close()


def post(server: Server, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
    """The status, and the answer."""
    request = urllib.request.Request(
        f"{server.url}/v1/apps/http-calls/functions/{path}",
        b"" if body is None else json.dumps(body).encode(),
        {
            "Authorization": f"Bearer {server.token}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def events(body: bytes) -> list[tuple[str, Any]]:
    """The events of a stream."""
    blocks = [block.split("\n", 1) for block in body.decode().split("\n\n") if block.startswith("event: ")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_many_who_ask_at_once_under_one_key_make_one_call(server: Server) -> None:
    with ThreadPoolExecutor(16) as threads:
        answers = list(
            threads.map(lambda _: post(server, "once/call", {"name": "a"}, Idempotency_Key="at-once"), range(32))
        )

    assert {status for status, _ in answers} == {200}
    assert len({json.loads(body)["id"] for _, body in answers}) == 1
    assert {json.loads(body)["result"] for _, body in answers} == {1}
    assert json.loads(post(server, "once/call", {"name": "a"})[1])["result"] == 2


def test_a_key_gives_a_failed_call_again_and_refuses_another_body(server: Server) -> None:
    failed = [post(server, "fail/call", {"why": "so"}, Idempotency_Key="failed") for _ in range(2)]
    other = post(server, "fail/call", {"why": "other"}, Idempotency_Key="failed")

    assert [status for status, _ in failed] == [500, 500]
    assert failed[0] == failed[1]
    assert (other[0], json.loads(other[1])["code"]) == (422, "key_reused")


def test_a_stream_tells_lines_before_the_end_and_nothing_after_it(server: Server) -> None:
    status, body = post(server, "talk/stream", {"words": ["a", "b"]})

    told = events(body)
    names = [name for name, _ in told]
    assert (status, names[0], names[-1]) == (200, "start", "completed")
    assert [data["text"] for name, data in told if name == "log"] == ["a", "b"]
    assert told[-1][1] == {"id": told[0][1]["id"], "state": "succeeded", "result": 2}
    assert any(name == "progress" and data["state"] in ("queued", "running") for name, data in told)


def test_a_stream_of_a_generator_has_its_items(server: Server) -> None:
    _, body = post(server, "count/stream", {"to": 40})

    told = events(body)
    assert [data for name, data in told if name == "output"] == list(range(40))
    assert [data["text"] for name, data in told if name == "log"] == [f"made {number}" for number in range(40)]
    assert told[-1][1]["items"] == 40


def test_a_stream_of_a_call_that_fails_ends_with_its_problem(server: Server) -> None:
    status, body = post(server, "fail/stream", {"why": "so"})

    name, data = events(body)[-1]
    assert (status, name, data["state"], data["error"]["code"]) == (200, "completed", "failed", "function_failed")
    assert data["error"]["exception"] == "ValueError"


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        ("missing/call", {}, {}, 404, "not_found"),
        ("once/call", {"nme": "a"}, {}, 422, "invalid_input"),
        ("odd/call", None, {}, 406, "value_is_python"),
        ("once/call", {"name": "a"}, {"Relight_Affinity": "sticky"}, 400, "invalid_request"),
        ("once/call", {"name": "x" * 20_000_000}, {}, 413, "too_large"),
    ],
)
def test_what_cannot_be_is_told_by_its_status(
    server: Server, path: str, body: object, headers: dict[str, str], status: int, code: str
) -> None:
    answer = post(server, path, body, **headers)

    assert (answer[0], json.loads(answer[1])["code"]) == (status, code)


def test_bytes_are_answered_as_bytes_where_they_are_asked_for(server: Server) -> None:
    assert post(server, "raw/call", None, Accept="application/octet-stream") == (200, b"\x89PNG" + bytes(300_000))
    assert post(server, "once/call", {"name": "z"}, Accept="application/octet-stream") == (200, b"1")


def test_who_waits_no_longer_is_told_where_to_ask(server: Server) -> None:
    status, body = post(server, "slow/call", None, Prefer="wait=1")

    assert (status, json.loads(body)["state"]) == (202, "running")
    result = server.get(f"/v1/calls/{json.loads(body)['id']}/result?wait=30")
    assert result == "slow"
