"""The OpenAPI 3.1 document, made from the route table and the types of the protocol."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from enum import Enum

from relight.gateway.exchange import BYTES_TYPE, EVENTS_TYPE, JSON_TYPE, NDJSON_TYPE
from relight.gateway.problems import PROBLEM_TYPE, problem_schema
from relight.gateway.routes import Route
from relight.protocol.api import MEDIA_TYPE, CallDetail
from relight.protocol.calls import CallView
from relight.protocol.manifest import FunctionSpec, Json
from relight.protocol.payload import Payload
from relight.protocol.startviews import StartSummary, StartView
from relight.protocol.views import AppView, LogRecord, NodeView, TokenView
from relight.protocol.workers import WorkerView

_SHOWN = (
    *(CallView, CallDetail, AppView, WorkerView, NodeView, FunctionSpec, LogRecord, TokenView),
    *(StartView, StartSummary),
)
_LISTS = {
    "list_calls": CallView,
    "list_apps": AppView,
    "list_workers": WorkerView,
    "list_nodes": NodeView,
    "list_starts": StartView,
    "list_tokens": TokenView,
}
_WHOLE = {
    "show_call": CallDetail,
    "cancel_call": CallView,
    "show_function": FunctionSpec,
    "summarize_starts": StartSummary,
    "revoke_token": TokenView,
}
_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def document(routes: Sequence[Route]) -> dict[str, Json]:
    """The whole document."""
    paths: dict[str, Json] = {}
    for route in routes:
        at = paths.setdefault(route.path, {})
        assert isinstance(at, dict)
        at[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "relight",
            "version": "1",
            "description": "Calls, deploys, logs and workers of a relight server.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(route: Route) -> dict[str, Json]:
    names = [word[1:-1] for word in route.path.split("/") if word.startswith("{")]
    parameters: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    parameters += [
        {"name": name, "in": place, "description": says, "schema": {"type": "string"}}
        for place, said in (("query", route.query), ("header", route.headers))
        for name, says in said
    ]
    operation: dict[str, Json] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": parameters,
        "responses": {str(route.status): _answer(route), "default": _problem()},
    }
    if route.body:
        operation["requestBody"] = {"description": route.body, "content": _content(route.body)}
    operation["security"] = [] if route.is_open else [{"token": [route.scope.value]}]
    return operation


def _answer(route: Route) -> dict[str, Json]:
    said: dict[str, Json] = {"description": route.answer or "nothing"}
    if route.name in _LISTS:
        key = route.path.rpartition("/")[2]
        items: Json = {"type": "array", "items": _reference(_LISTS[route.name])}
        said["content"] = {JSON_TYPE: {"schema": {"type": "object", "properties": {key: items}}}}
    elif route.name in _WHOLE:
        said["content"] = {JSON_TYPE: {"schema": _reference(_WHOLE[route.name])}}
    elif route.answer:
        said["content"] = _content(route.answer)
    return said


def _content(what: str) -> dict[str, Json]:
    if what == "bytes":
        return {BYTES_TYPE: {}}
    if what == "events":
        return {EVENTS_TYPE: {}}
    if what == "lines":
        return {NDJSON_TYPE: {}}
    if what.isidentifier() and what[0].isupper():
        return {MEDIA_TYPE: {"schema": {"description": f"one {what} message of relight.protocol"}}}
    return {JSON_TYPE: {"schema": {}}}


def _problem() -> dict[str, Json]:
    return {"description": "an error", "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _schemas() -> dict[str, Json]:
    schemas: dict[str, Json] = {"Problem": problem_schema()}
    for kind in _SHOWN:
        _add(kind, schemas)
    call = schemas["CallView"]
    assert isinstance(call, dict)
    assert isinstance(call["properties"], dict)
    call["properties"]["result"] = {"description": "the value when result_format is json, else its format and preview"}
    call["properties"]["result_format"] = {"type": "string"}
    return schemas


def _add(kind: type[object], schemas: dict[str, Json]) -> None:
    if kind.__name__ in schemas or not dataclasses.is_dataclass(kind):
        return
    schemas[kind.__name__] = {}  # its place, should a field lead back here
    hints = typing.get_type_hints(kind)
    properties: dict[str, Json] = {
        field.name: _schema(hints[field.name], schemas) for field in dataclasses.fields(kind)
    }
    said: dict[str, Json] = {"type": "object", "description": (kind.__doc__ or "").strip(), "properties": properties}
    schemas[kind.__name__] = said


def _schema(kind: object, schemas: dict[str, Json]) -> Json:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        present = [argument for argument in arguments if argument is not type(None)]
        return {"anyOf": [_schema(present[0], schemas), {"type": "null"}]} if len(present) == 1 else {}
    if origin is tuple:
        items = _schema(arguments[0], schemas) if arguments[-1] is Ellipsis else {}
        return {"type": "array", "items": items}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [str(member.value) for member in kind]}
    if kind is Payload:
        return {}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        _add(kind, schemas)
        return _reference(kind)
    return {"type": _SCALARS[kind]} if isinstance(kind, type) and kind in _SCALARS else {}


def _reference(kind: type[object]) -> dict[str, Json]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
