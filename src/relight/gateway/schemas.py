"""What deployed functions take and give: a schema for one, an OpenAPI document for all of an app's."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from relight.control.inputs import check_arguments
from relight.gateway.exchange import JSON_TYPE, NDJSON_TYPE, Answer, Ask, json_answer
from relight.gateway.platform import Platform
from relight.gateway.problems import PROBLEM_TYPE, problem_schema
from relight.protocol.errors import NotFound
from relight.protocol.manifest import FunctionSpec, Json, MethodSpec

SMALL_BODY = 64 * 1024
"""A longer body is looked at beside the loop, which has others to serve."""


async def show(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps/{app}/functions/{function}/schema"""
    spec, method = await _find(platform, ask)
    if method is None:
        names = ", ".join(repr(f"{spec.name}.{one.name}") for one in spec.methods)
        raise NotFound(f"cannot find {ask.params['function']!r} in app {ask.params['app']!r}: there is {names}")
    return json_answer(schema_of(ask.params["app"], spec, method))


async def describe(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps/{app}/openapi.json"""
    app, environment = ask.params["app"], environment_of(ask)
    views = await platform.deploys.apps(ask.workspace)
    names = next((view.functions for view in views if (view.app, view.environment) == (app, environment)), ())
    specs = [await platform.deploys.function(ask.workspace, app, environment, name) for name in names or ("",)]
    return json_answer(document(app, environment, specs))


async def check_body(platform: Platform, ask: Ask, body: bytes, said: Json) -> None:
    """Raise InvalidInput when a body is not what the function takes; what is not there is told by whoever calls it."""
    spec, method = await _find(platform, ask)
    if method is None or method.input_schema is None:
        return
    if len(body) <= SMALL_BODY:
        check_arguments(ask.params["app"], spec, method, said)
    else:
        await asyncio.to_thread(check_arguments, ask.params["app"], spec, method, said)


def environment_of(ask: Ask) -> str:
    """Which environment is asked for: a worker's own, `main` where nothing is said.  Raises Forbidden."""
    environment = ask.query("environment") or ask.environment or "main"
    ask.check_environment(environment)
    return environment


def schema_of(app: str, spec: FunctionSpec, method: MethodSpec) -> dict[str, Json]:
    """The one document of a function: what it takes, what it gives, and whether that comes in parts."""
    return {
        "app": app,
        "function": _name(spec, method),
        "description": method.doc,
        "input": {} if method.input_schema is None else method.input_schema,
        "output": {} if method.output_schema is None else method.output_schema,
        "streams": method.is_generator,
    }


def document(app: str, environment: str, specs: list[FunctionSpec]) -> dict[str, Json]:
    """An app's functions as OpenAPI 3.1."""
    schemas: dict[str, Json] = {"Problem": problem_schema()}
    paths: dict[str, Json] = {}
    query = "" if environment == "main" else f"?environment={quote(environment, safe='')}"
    for spec in specs:
        for method in spec.methods:
            name = _name(spec, method)
            path = f"/v1/apps/{quote(app, safe='')}/functions/{quote(name, safe='')}/call{query}"
            paths[path] = {"post": _operation(name, method, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {"title": app, "version": environment},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(name: str, method: MethodSpec, schemas: dict[str, Json]) -> dict[str, Json]:
    takes = lifted(method.input_schema, f"{name}.input", schemas)
    gives = lifted(method.output_schema, f"{name}.output", schemas)
    ended: Json = {
        "type": "object",
        "required": ["id", "state", "result"],
        "properties": {"id": {"type": "string"}, "state": {"const": "succeeded"}, "result": gives},
    }
    content: Json = {NDJSON_TYPE: {"schema": gives}} if method.is_generator else {JSON_TYPE: {"schema": ended}}
    problem: Json = {"$ref": "#/components/schemas/Problem"}
    return {
        "operationId": name,
        "summary": method.doc.partition("\n")[0] or name,
        "description": method.doc,
        "requestBody": {"required": True, "content": {JSON_TYPE: {"schema": takes}}},
        "responses": {
            "200": {"description": "what it yields" if method.is_generator else "what it returned", "content": content},
            "default": {"description": "an error", "content": {PROBLEM_TYPE: {"schema": problem}}},
        },
    }


def lifted(schema: Json, prefix: str, schemas: dict[str, Json]) -> Json:
    """A schema whose definitions stand among the document's own, under names of their own."""
    if not isinstance(schema, dict):
        return {}
    definitions = schema.get("$defs")
    for name, one in (definitions if isinstance(definitions, dict) else {}).items():
        schemas[f"{prefix}.{name}"] = _renamed(one, prefix)
    return _renamed({key: value for key, value in schema.items() if key != "$defs"}, prefix)


def _renamed(schema: Json, prefix: str) -> Json:
    if isinstance(schema, list):
        return [_renamed(one, prefix) for one in schema]
    if not isinstance(schema, dict):
        return schema
    said = {key: _renamed(value, prefix) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        said["$ref"] = f"#/components/schemas/{prefix}.{reference.removeprefix('#/$defs/')}"
    return said


async def _find(platform: Platform, ask: Ask) -> tuple[FunctionSpec, MethodSpec | None]:
    function, _, name = ask.params["function"].partition(".")
    spec = await platform.deploys.function(ask.workspace, ask.params["app"], environment_of(ask), function)
    return spec, spec.method(name)


def _name(spec: FunctionSpec, method: MethodSpec) -> str:
    return f"{spec.name}.{method.name}" if method.name else spec.name
