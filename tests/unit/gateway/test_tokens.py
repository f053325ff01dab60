"""What a token is good for: its scope, its app, and the paths about tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from relight.gateway.table import ROUTES
from relight.protocol.api import MEDIA_TYPE, Await, Deploy, Submit
from relight.protocol.calls import CallRequest, CallState, CallView
from relight.protocol.codec import pack
from relight.protocol.manifest import CodeBundle, Manifest
from relight.protocol.payload import Payload
from relight.protocol.views import Scope, TokenRequest

if TYPE_CHECKING:
    from conftest import Api

FUNCTION = "/v1/apps/a/functions/square"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def path_of(template: str) -> str:
    """A path of the table, with something in the place of each parameter."""
    return template.replace("{digest}", "0" * 64).replace("{", "").replace("}", "")


def view(app: str) -> CallView:
    return CallView(id=f"call-{app}", app=app, environment="main", version="v", function="f", state=CallState.CANCELLED)


@pytest.mark.parametrize("route", [route for route in ROUTES if not route.is_open], ids=lambda route: route.name)
async def test_every_path_refuses_a_token_of_the_scope_below_its_own(api: Api, route: object) -> None:
    below = [scope for scope in Scope if not scope.includes(route.scope)]

    answers = [await api.ask_tcp(route.method, path_of(route.path), **bearer(scope.value)) for scope in below]

    assert [answer.status for answer in answers] == [403] * len(below)
    if answers and route.method != "HEAD":
        assert f"it needs a token of scope {route.scope.value!r}, and this one is of scope" in answers[-1].json.detail
        assert f"`relight token create --scope {route.scope.value}`" in answers[-1].json.detail


@pytest.mark.parametrize(
    ("token", "method", "path", "status"),
    [
        ("read", "GET", "/v1/apps", 200),
        ("read", "POST", f"{FUNCTION}/submit", 403),
        ("call", "POST", f"{FUNCTION}/submit", 202),
        ("call", "GET", FUNCTION, 200),
        ("call", "POST", "/v1/apps/a/stop", 403),
        ("deploy", "POST", "/v1/apps/a/stop", 200),
        ("deploy", "GET", "/v1/tokens", 403),
        ("admin", "GET", "/v1/tokens", 200),
    ],
)
async def test_a_scope_opens_what_it_names_and_what_is_below(
    api: Api, token: str, method: str, path: str, status: int
) -> None:
    assert (await api.ask_tcp(method, path, **bearer(token))).status == status


@pytest.mark.parametrize(
    ("method", "path", "own", "other"),
    [
        ("POST", "/v1/apps/a/functions/square/submit", "call:a", "call:b"),
        ("POST", "/v1/apps/a/stop", "deploy:a", "deploy:b"),
        ("GET", "/v1/calls/call-a", "read:a", "read:b"),
        ("POST", "/v1/calls/call-a/cancel", "call:a", "call:b"),
        ("POST", "/v1/calls/call-a/retry", "call:a", "call:b"),
        ("GET", "/v1/calls?app=a", "read:a", "read:b"),
        ("GET", "/v1/logs?app=a", "read:a", "read:b"),
    ],
)
async def test_a_token_for_an_app_opens_that_app_alone(api: Api, method: str, path: str, own: str, other: str) -> None:
    api.platform.calls.put(view("a"))

    opened = await api.ask_tcp(method, path, **bearer(own))
    refused = await api.ask_tcp(method, path, **bearer(other))

    assert opened.status in (200, 202)
    assert (refused.status, refused.json.code) == (403, "forbidden")
    assert "this token is for app 'b' alone" in refused.json.detail


async def test_the_result_of_another_app_stays_hidden(api: Api) -> None:
    api.platform.calls.put(view("a"))

    assert (await api.ask_tcp("GET", "/v1/calls/call-a/result", **bearer("read:a"))).json.code == "cancelled"
    assert (await api.ask_tcp("GET", "/v1/calls/call-a/result", **bearer("read:b"))).status == 403


async def test_messages_of_the_sdk_are_held_to_the_app_too(api: Api) -> None:
    payload = Payload(format="json", data=b"{}")
    request = CallRequest(id="call-x", app="a", function="f", payload=payload)
    api.platform.calls.put(view("a"))
    manifest = Manifest(app="a", code=CodeBundle(digest="0" * 64, size=1, folder="/x"), functions=())
    messages = [
        ("/v1/calls", Submit(calls=(request,)), "call"),
        ("/v1/calls/wait", Await(ids=("call-a",)), "read"),
        ("/v1/deploys", Deploy(manifest=manifest), "deploy"),
    ]

    for path, message, scope in messages:
        answers = [
            await api.ask_tcp("POST", path, pack(message), Content_Type=MEDIA_TYPE, **bearer(f"{scope}:{app}"))
            for app in ("a", "b")
        ]
        assert [answer.status for answer in answers] == [200, 403], path


async def test_lists_hold_only_what_is_of_the_tokens_app(api: Api) -> None:
    own = [await api.ask_tcp("GET", path, **bearer("read:a")) for path in ("/v1/apps", "/v1/workers")]
    other = [await api.ask_tcp("GET", path, **bearer("read:b")) for path in ("/v1/apps", "/v1/workers")]
    await api.ask_tcp("GET", "/v1/calls", **bearer("read:b"))
    await api.ask_tcp("GET", "/v1/logs", **bearer("read:b"))

    assert [len(next(iter(json.loads(answer.body).values()))) for answer in own] == [1, 1]
    assert [len(next(iter(json.loads(answer.body).values()))) for answer in other] == [0, 0]
    assert (api.platform.calls.asked[-1].app, api.platform.logs.asked[-1].app) == ("b", "b")


async def test_what_is_about_all_apps_refuses_a_token_for_one(api: Api) -> None:
    refused = await api.ask_tcp("GET", "/v1/nodes", **bearer("read:a"))

    assert refused.status == 403
    assert "it is about all apps" in refused.json.detail


async def test_a_run_is_listened_to_and_ended_by_tokens_of_its_app(api: Api) -> None:
    run = "/v1/runs/run-01kb0000000000000000000000"
    stops = [
        await api.ask_tcp("POST", f"{run}/stop", b'{"cancel": true}', **bearer(f"deploy:{app}")) for app in ("a", "b")
    ]

    assert [answer.status for answer in stops] == [200, 403]
    assert (await api.ask_tcp("GET", f"{run}/attach", **bearer("deploy:b"))).status == 403


async def test_who_asks_is_told_what_their_token_is_good_for(api: Api) -> None:
    by_token = (await api.ask_tcp("GET", "/v1/token", **bearer("call:a"))).json
    by_socket = (await api.ask("GET", "/v1/token")).json

    assert (by_token.scope, by_token.app, by_token.token.name) == ("call", "a", "shown")
    assert (by_socket.scope, by_socket.app, by_socket.token) == ("admin", "", None)
    assert by_socket.version


async def test_a_token_is_made_listed_and_revoked(api: Api) -> None:
    body = json.dumps({"name": "ci", "scope": "deploy", "app": "a", "expires_seconds": 3600})

    made = await api.ask("POST", "/v1/tokens", body)
    listed = await api.ask("GET", "/v1/tokens")
    revoked = await api.ask("DELETE", "/v1/tokens/id-ci")
    missing = await api.ask("DELETE", "/v1/tokens/other")

    assert (made.status, made.json.secret, made.json.token.scope) == (201, "rl_secret", "deploy")
    assert api.platform.tokens.asked == [TokenRequest(name="ci", scope=Scope.DEPLOY, app="a", expires_seconds=3600)]
    assert [(one.name, hasattr(one, "secret"), hasattr(one, "hash")) for one in listed.json.tokens] == [
        ("ci", False, False)
    ]
    assert (revoked.status, missing.status) == (200, 404)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("[]", "send one such as"),
        ('{"name": "x", "colour": 1}', "there is no such field"),
        ('{"name": "x", "scope": "root"}', "scopes are read, call, deploy, admin"),
        ('{"scope": "read"}', "`name` and `app` must be text"),
        ('{"name": "x", "expires_seconds": "30d"}', "must be a number"),
        ('{"name": "x", "expires_seconds": true}', "must be a number"),
    ],
)
async def test_a_token_asked_for_wrongly_is_400_and_says_why(api: Api, body: str, says: str) -> None:
    refused = await api.ask("POST", "/v1/tokens", body)

    assert refused.status == 400
    assert says in refused.json.detail
    assert api.platform.tokens.asked == []


@pytest.mark.parametrize("since", ["yesterday", "-1", "nan", "1790000000000"])
async def test_a_time_that_is_none_is_refused(api: Api, since: str) -> None:
    assert (await api.ask("GET", f"/v1/calls?since={since}")).status == 400
