"""Web requests among calls, as the API tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relight.protocol.calls import CallState, CallView, WebRequest
from relight.protocol.ids import new_id

if TYPE_CHECKING:
    from conftest import Api


def request(at_ms: int) -> CallView:
    return CallView(
        id=new_id("req", at_ms),
        app="a",
        environment="main",
        version="v",
        function="f",
        state=CallState.SUCCEEDED,
        worker="worker-1",
        submitted_at=at_ms / 1000,
        started_at=at_ms / 1000,
        ended_at=at_ms / 1000 + 1,
        request=WebRequest(verb="GET", path="/a", status=200, client="10.0.0.1", bytes_out=3),
    )


def put(api: Api) -> tuple[str, str, str]:
    """A request, a call and a request again; their ids, newest first."""
    old, new = request(1000), request(3000)
    call = CallView(id=new_id("call", 2000), app="a", environment="main", version="v", function="f")
    api.platform.traffic.views = {old.id: old, new.id: new}
    api.platform.calls.put(call)
    return new.id, call.id, old.id


async def test_calls_and_requests_are_listed_together_newest_first(api: Api) -> None:
    ids = put(api)

    both = (await api.ask("GET", "/v1/calls")).json.calls
    newest = (await api.ask("GET", "/v1/calls?limit=1")).json.calls

    assert tuple(one.id for one in both) == ids
    assert [one.id for one in newest] == [ids[0]]
    assert vars(both[0].request) == {"verb": "GET", "path": "/a", "status": 200, "client": "10.0.0.1", "bytes_out": 3}
    assert both[1].request is None


async def test_either_kind_can_be_asked_for_alone(api: Api) -> None:
    new, call, old = put(api)

    requests = (await api.ask("GET", "/v1/calls?kind=request")).json.calls
    calls = (await api.ask("GET", "/v1/calls?kind=call")).json.calls
    refused = await api.ask("GET", "/v1/calls?kind=other")

    assert [one.id for one in requests] == [new, old]
    assert [one.id for one in calls] == [call]
    assert (refused.status, refused.json.code) == (400, "invalid_request")


async def test_a_request_is_shown_and_its_lines_are_those_of_its_worker_meanwhile(api: Api) -> None:
    new, _, _ = put(api)

    shown = (await api.ask("GET", f"/v1/calls/{new}")).json
    await api.ask("GET", f"/v1/logs?call={new}")
    (asked,) = api.platform.logs.asked

    assert shown.call.id == new
    assert (asked.call, asked.worker, asked.since) == ("", "worker-1", 3.0)
    assert 4.0 <= asked.until < 4.2
