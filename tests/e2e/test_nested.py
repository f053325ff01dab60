"""Calls made inside of calls, on a real server, by workers that have no token, and some no network."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import relight
from e2e import app_nested as nested
from relight.protocol.api import MEDIA_TYPE, Await, Submit
from relight.protocol.calls import CallRequest
from relight.protocol.codec import pack
from relight.protocol.ids import new_id
from relight.protocol.payload import Payload
from servers import Server, wait_until


@pytest.fixture(scope="module", autouse=True)
def deployed(server: Server) -> Iterator[None]:
    nested.app.deploy()
    yield
    assert nested.app._session is not None
    nested.app._session.connection.close()


def request(environment: str = "main", app: str = "nested") -> CallRequest:
    payload = Payload(format="json", data=b'{"args":[1,2],"kwargs":{}}', size=26)
    return CallRequest(
        id=new_id("call", 1), app=app, function="add", payload=payload, environment=environment, accept=("json",)
    )


def problem(answer: tuple[int, str]) -> tuple[int, str, str]:
    said = json.loads(answer[1])
    return answer[0], said["code"], said["detail"]


# -- what can be called


def test_a_worker_without_a_network_calls_another_function() -> None:
    assert nested.surroundings.remote() == {"network": "OSError"}
    assert nested.add_elsewhere.remote(1, 2) == 3


def test_a_thread_of_a_function_calls_another() -> None:
    assert nested.add_in_thread.remote(3, 4) == 7


def test_an_async_function_awaits_another() -> None:
    assert nested.add_async.remote(5, 6) == 11


def test_a_function_calls_one_of_another_app_in_its_environment() -> None:
    with pytest.raises(relight.NotFound, match="nested_elsewhere"):
        nested.add_by_another_app.remote(1, 2)

    nested.elsewhere.deploy()

    assert nested.add_by_another_app.remote(1, 2) == 3


def test_a_function_maps_another() -> None:
    assert nested.sum_of_squares.remote(100) == sum(n * n for n in range(100))


def test_a_function_reads_the_items_of_another() -> None:
    assert nested.sum_of_items.remote(50) == sum(range(50))


def test_calls_within_calls_go_deeper_than_the_machine_has_cpus() -> None:
    assert nested.depth.remote(30) == 30


def test_what_a_call_made_is_shown_below_it(server: Server) -> None:
    call = nested.depth.spawn(3)
    assert call.get(timeout=60) == 3

    tree = server.get(f"/v1/calls/{call.id}/tree")

    depths, at = [], tree["tree"]
    while at["children"]:
        assert len(at["children"]) == 1
        at = at["children"][0]
        depths.append(at["state"])
    assert (tree["tree"]["id"], tree["calls"], depths) == (call.id, 4, ["succeeded"] * 3)
    children = server.get(f"/v1/calls?parent={call.id}")["calls"]
    assert [one["id"] for one in children] == [tree["tree"]["children"][0]["id"]]


# -- circles


def test_a_recursion_that_needs_more_workers_than_there_may_be_ends() -> None:
    with pytest.raises(relight.Deadlock, match=r"its only worker runs a call that waits.*raise max_workers= of fib"):
        nested.fib.remote(3)


def test_a_function_can_go_on_after_a_deadlock() -> None:
    assert nested.survive.remote(3).startswith("Deadlock: cannot start fib")


def test_the_same_recursion_as_a_plain_function_needs_one_worker() -> None:
    assert nested.fib_here.remote(7) == 13


# -- ends


def children(server: Server, call: str) -> dict[str, str]:
    """The states of the calls that a call made, those it waits for apart from those it spawned."""
    said = server.get(f"/v1/calls/{call}/tree")["tree"]["children"]
    return {"awaited" if index else "spawned": one["state"] for index, one in enumerate(said)}


def test_what_a_call_waits_for_is_cancelled_with_it_and_what_it_spawned_goes_on(server: Server) -> None:
    call = nested.wait_for_others.spawn(3000.0)
    wait_until(lambda: children(server, call.id) == {"spawned": "running", "awaited": "running"}, server)

    call.cancel()

    with pytest.raises(relight.CallCancelled):
        call.get(timeout=30)
    wait_until(lambda: children(server, call.id)["awaited"] == "cancelled", server)
    assert children(server, call.id)["spawned"] == "running"
    spawned = server.get(f"/v1/calls/{call.id}/tree")["tree"]["children"][0]["id"]
    relight.Call.from_id(spawned).cancel()


def test_what_a_call_waits_for_is_cancelled_when_its_time_is_over(server: Server) -> None:
    call = nested.wait_too_long.spawn()

    with pytest.raises(relight.FunctionTimeout):
        call.get(timeout=60)

    wait_until(lambda: list(children(server, call.id).values()) == ["cancelled"], server)


@pytest.mark.slow
def test_a_call_within_a_call_outlives_the_death_of_its_server(server: Server) -> None:
    call = nested.wait_for_one.spawn(4.0)
    wait_until(lambda: list(children(server, call.id).values()) == ["running"], server)

    server.kill()
    server.start()

    assert call.get(timeout=60) == "woke"
    tree = server.get(f"/v1/calls/{call.id}/tree")
    assert (tree["calls"], tree["tree"]["attempts"], tree["tree"]["children"][0]["attempts"]) == (2, 1, 1)


# -- what a worker may not do


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/deploys"),
        ("POST", "/v1/apps/nested/stop"),
        ("GET", "/v1/apps"),
        ("GET", "/v1/tokens"),
        ("POST", "/v1/tokens"),
        ("DELETE", "/v1/tokens/x"),
        ("GET", "/v1/nodes"),
        ("GET", "/v1/workers"),
        ("GET", "/v1/logs"),
        ("POST", "/v1/runs/run-1/stop"),
        ("GET", "/v1/runs/run-1/attach"),
    ],
)
def test_a_worker_may_only_call_and_read_calls(method: str, path: str) -> None:
    status, code, detail = problem(nested.ask.remote(method, path, b"{}" if method == "POST" else b""))

    assert (status, code) == (403, "forbidden")
    assert "it was asked from inside a worker" in detail


def test_a_worker_sees_its_own_environment_alone(server: Server) -> None:
    here = nested.add.spawn(1, 2)
    here.get(timeout=30)
    with nested.elsewhere.run():
        there = {one["environment"] for one in server.get("/v1/apps")["apps"] if one["app"] == "nested_elsewhere"}
        (run,) = there - {"main"}
        submit = nested.ask.remote("POST", "/v1/calls", pack(Submit(calls=(request(run),))), MEDIA_TYPE)
        by_path = nested.ask.remote("POST", f"/v1/apps/nested/functions/add/call?environment={run}", b"[1,2]")
        listed = nested.ask.remote("GET", f"/v1/calls?environment={run}")

    for answer in (submit, by_path, listed):
        assert problem(answer)[:2] == (403, "forbidden")
        assert "the worker that asks runs in 'main'" in problem(answer)[2]
    assert nested.ask.remote("GET", f"/v1/calls/{here.id}")[0] == 200
    assert {one["environment"] for one in json.loads(nested.ask.remote("GET", "/v1/calls")[1])["calls"]} == {"main"}


def test_a_worker_calls_by_plain_http_too() -> None:
    status, body = nested.ask.remote("POST", "/v1/apps/nested/functions/add/call", b"[1,2]")

    assert (status, json.loads(body)["result"]) == (200, 3)


def test_a_worker_cannot_say_that_another_call_made_its_call(server: Server) -> None:
    foreign = nested.add.spawn(1, 1)
    foreign.get(timeout=30)
    claimed = request()
    forged = Submit(calls=(CallRequest(**{**_fields(claimed), "parent": foreign.id, "is_awaited": True}),))

    status, _ = nested.ask.remote("POST", "/v1/calls", pack(forged), MEDIA_TYPE)

    assert status == 200
    assert server.get(f"/v1/calls/{claimed.id}")["call"]["parent"] == ""


def test_a_wait_for_a_call_of_nobody_says_so() -> None:
    said = nested.ask.remote("POST", "/v1/calls/wait", pack(Await(ids=("call-x",), wait_seconds=5.0)), MEDIA_TYPE)

    assert problem(said)[:2] == (404, "not_found")


def _fields(call: CallRequest) -> dict[str, object]:
    return {name: getattr(call, name) for name in CallRequest.__dataclass_fields__}
