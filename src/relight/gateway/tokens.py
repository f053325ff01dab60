"""Tokens over HTTP: who asks, and for an admin every token there is."""

from __future__ import annotations

from importlib.metadata import version

from relight.gateway.exchange import Answer, Ask, json_answer
from relight.gateway.platform import Platform
from relight.gateway.render import plain
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Json
from relight.protocol.views import Scope, TokenRequest

_FIELDS = ("name", "scope", "app", "expires_seconds")


async def show_own(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/token"""
    principal = ask.principal
    return json_answer(
        {
            "workspace": principal.workspace,
            "scope": principal.scope.value,
            "app": principal.app,
            "version": version("relight"),
            "token": plain(platform.tokens.get(principal)),
        }
    )


async def list_tokens(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/tokens"""
    return json_answer({"tokens": plain(platform.tokens.list(ask.workspace))})


async def create(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/tokens"""
    _, said = await ask.json()
    token, secret = await platform.tokens.create(ask.workspace, read_request(said))
    return json_answer({"token": plain(token), "secret": secret}, 201)


async def revoke(platform: Platform, ask: Ask) -> Answer:
    """DELETE /v1/tokens/{token}"""
    return json_answer(plain(await platform.tokens.revoke(ask.workspace, ask.params["token"])))


def read_request(said: Json) -> TokenRequest:
    """The token that a body asks for.  Raises InvalidRequest."""
    if not isinstance(said, dict):
        raise InvalidRequest(
            'cannot make a token: the body is no object; send one such as {"name": "ci", "scope": "deploy"}'
        )
    unknown = [name for name in said if name not in _FIELDS]
    if unknown:
        raise InvalidRequest(
            f"cannot make a token with {str(unknown[0])[:40]!r}: there is no such field; fields are {', '.join(_FIELDS)}"
        )
    name, scope, app, seconds = (said.get(field) for field in _FIELDS)
    scopes = [one.value for one in Scope]
    if scope is not None and scope not in scopes:
        raise InvalidRequest(
            f"cannot make a token of scope {str(scope)[:40]!r}: scopes are {', '.join(scopes)}; choose one of them"
        )
    if not isinstance(name, str) or not isinstance(app or "", str):
        raise InvalidRequest(
            "cannot make a token: `name` and `app` must be text; give a name, and leave the app out for all"
        )
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, (int, float))):
        raise InvalidRequest("cannot make a token: `expires_seconds` must be a number; leave it out for none")
    return TokenRequest(
        name=name,
        scope=Scope(scope or Scope.CALL.value),
        app=str(app or ""),
        expires_seconds=seconds,
    )
