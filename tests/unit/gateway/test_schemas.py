"""Schemas over HTTP: arguments are looked at, and what a function takes is told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from relight.gateway.schemas import SMALL_BODY
from relight.protocol.errors import NotFound
from relight.protocol.manifest import FunctionSpec, HostImage
from relight.protocol.views import AppView
from relight.sdk.inputs import Input
from relight.sdk.options import method_of

if TYPE_CHECKING:
    from conftest import Api

IMAGE = HostImage(python="/usr/bin/python3", prefix="/usr", base_prefix="/usr", version="3.11.7")
DRAW = "/v1/apps/shop/functions/draw"


@dataclasses.dataclass
class Size:
    width: Annotated[int, Input(ge=1)]


def draw(prompt: str, size: Size | None = None) -> Size:
    """Draw a picture.

    With a pen.
    """
    return Size(1)


class Reader:
    def read(self, text: str) -> Iterator[str]:
        yield text


SPECS = {
    "draw": FunctionSpec(name="draw", module="m", qualname="draw", image=IMAGE, methods=(method_of(draw),)),
    "Reader": FunctionSpec(
        name="Reader",
        module="m",
        qualname="Reader",
        image=IMAGE,
        is_class=True,
        methods=(method_of(Reader.read, "read", is_bound=True),),
    ),
}


@pytest.fixture
def shop(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The gateway before an app with a function and a class."""

    async def function(_workspace: str, app: str, environment: str, name: str, /) -> FunctionSpec:
        if app != "shop" or name not in SPECS:
            raise NotFound(f"cannot find {name!r} in {app!r}")
        return dataclasses.replace(SPECS[name], timeout_seconds=1.0 if environment == "staging" else 2.0)

    async def apps(_workspace: str, /) -> tuple[AppView, ...]:
        return (AppView(app="shop", environment="main", version="v", functions=tuple(SPECS), deployed_at=1.0),)

    monkeypatch.setattr(api.platform.deploys, "function", function)
    monkeypatch.setattr(api.platform.deploys, "apps", apps)
    return api


@pytest.mark.parametrize("verb", ["call", "submit"])
async def test_arguments_that_do_not_fit_are_refused_before_a_call_is_kept(shop: Api, verb: str) -> None:
    reply = await shop.ask("POST", f"{DRAW}/{verb}", '{"prompt": 3, "size": {"width": 0}, "szie": 1}')

    problem = json.loads(reply.body)
    assert (reply.status, problem["code"]) == (422, "invalid_input")
    assert problem["errors"] == [
        {"pointer": "/prompt", "detail": "3 is not a string"},
        {"pointer": "/size/width", "detail": "0 is less than 1"},
        {"pointer": "/szie", "detail": "there is no 'szie'; did you mean 'size'?"},
    ]
    assert problem["detail"].endswith("`relight schema shop/draw` shows what it takes")
    assert shop.platform.calls.views == {}


async def test_arguments_that_fit_become_a_call_with_their_text_as_it_came(shop: Api) -> None:
    reply = await shop.ask("POST", f"{DRAW}/submit", '{"prompt":  "a cat"}')

    assert reply.status == 202
    assert [one.data for one in shop.platform.calls.payloads.values()] == [b'{"args":[],"kwargs":{"prompt":  "a cat"}}']


async def test_a_long_body_is_looked_at_too(shop: Api) -> None:
    reply = await shop.ask("POST", f"{DRAW}/submit", json.dumps({"prompt": "x" * SMALL_BODY, "size": 3}))

    assert reply.status == 422
    assert json.loads(reply.body)["errors"][0]["pointer"] == "/size"


async def test_the_methods_of_a_class_have_schemas_of_their_own(shop: Api) -> None:
    wrong = await shop.ask("POST", "/v1/apps/shop/functions/Reader.read/submit", '{"txt": "a"}')
    right = await shop.ask("POST", "/v1/apps/shop/functions/Reader.read/submit", '["a"]')

    assert (wrong.status, right.status) == (422, 202)


async def test_a_schema_is_shown(shop: Api) -> None:
    shown = json.loads((await shop.ask("GET", f"{DRAW}/schema")).body)

    assert (shown["app"], shown["function"], shown["streams"]) == ("shop", "draw", False)
    assert shown["input"] == method_of(draw).input_schema
    assert shown["output"] == method_of(draw).output_schema
    streams = json.loads((await shop.ask("GET", "/v1/apps/shop/functions/Reader.read/schema")).body)
    assert (streams["function"], streams["streams"], streams["output"]) == ("Reader.read", True, {"type": "string"})


async def test_the_schema_of_what_is_not_there_says_what_there_is(shop: Api) -> None:
    reply = await shop.ask("GET", "/v1/apps/shop/functions/Reader/schema")

    assert reply.status == 404
    assert "there is 'Reader.read'" in json.loads(reply.body)["detail"]


async def test_an_app_is_described_as_openapi_whose_references_resolve(shop: Api) -> None:
    document = json.loads((await shop.ask("GET", "/v1/apps/shop/openapi.json")).body)

    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == {f"{DRAW}/call", "/v1/apps/shop/functions/Reader.read/call"}
    operation = document["paths"][f"{DRAW}/call"]["post"]
    assert operation["summary"] == "Draw a picture."
    assert operation["requestBody"]["content"]["application/json"]["schema"]["required"] == ["prompt"]
    gives = operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["result"]
    assert gives == {"$ref": "#/components/schemas/draw.output.Size"}
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known
    stream = document["paths"]["/v1/apps/shop/functions/Reader.read/call"]["post"]["responses"]["200"]["content"]
    assert stream == {"application/x-ndjson": {"schema": {"type": "string"}}}


async def test_an_app_that_is_not_there_has_no_document(shop: Api) -> None:
    assert (await shop.ask("GET", "/v1/apps/other/openapi.json")).status == 404


def references(part: Any) -> Iterator[str]:
    """Every reference in a document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    if isinstance(part, list):
        for value in part:
            yield from references(value)
