"""Deploys from Git: branches whose pushes are deployed, and what forges send about them."""

from __future__ import annotations

from relight.control.sources import Delivery
from relight.gateway.exchange import Answer, Ask, json_answer
from relight.gateway.platform import Platform
from relight.gateway.render import plain
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Json
from relight.protocol.sources import SourceRequest

PUSH_BYTES = 25 * 1024 * 1024
"""The longest that a forge says of a push: GitHub sends no longer ones."""

_FIELDS = ("url", "branch", "file", "environment", "status_url", "status_token")


async def list_sources(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/sources"""
    return json_answer({"sources": plain(await platform.sources.list(ask.workspace))})


async def create(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/sources"""
    _, said = await ask.json()
    token = platform.tokens.get(ask.principal)
    made_by = token.name if token is not None else ""
    source, secret = await platform.sources.create(ask.workspace, read_request(said), made_by)
    return json_answer({"source": plain(source), "secret": secret, "path": f"/v1/sources/{source.id}/push"}, 201)


async def remove(platform: Platform, ask: Ask) -> Answer:
    """DELETE /v1/sources/{source}"""
    return json_answer(plain(await platform.sources.remove(ask.workspace, ask.params["source"])))


async def pushes(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/sources/{source}/pushes"""
    return json_answer({"pushes": plain(await platform.sources.pushes(ask.workspace, ask.params["source"]))})


async def redeploy(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/sources/{source}/deploy"""
    return json_answer(plain(await platform.sources.redeploy(ask.workspace, ask.params["source"])), 202)


async def push(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/sources/{source}/push"""
    body = await ask.body(PUSH_BYTES)
    headers = {str(name, "latin-1"): str(value, "latin-1") for name, value in ask.head.headers}
    taken = await platform.sources.receive(ask.params["source"], Delivery(headers=headers, body=body))
    return json_answer({"ignored": taken}) if isinstance(taken, str) else json_answer({"push": plain(taken)}, 202)


def read_request(said: Json) -> SourceRequest:
    """The source that a body asks for.  Raises InvalidRequest."""
    if not isinstance(said, dict):
        raise InvalidRequest(
            'cannot deploy from Git: the body is no object; send one such as {"url": "https://…", "file": "app.py"}'
        )
    for name, value in said.items():
        if name not in _FIELDS:
            raise InvalidRequest(
                f"cannot deploy from Git with {name[:40]!r}: there is no such field; fields are {', '.join(_FIELDS)}"
            )
        if not isinstance(value, str):
            raise InvalidRequest(f"cannot deploy from Git with {name}={value!r}: that is no text; send a string")
    if "url" not in said:
        raise InvalidRequest("cannot deploy from Git: it has no url; say what git fetches from")
    return SourceRequest(**said)  # type: ignore[arg-type]  # texts by the names of its fields, as looked at above
