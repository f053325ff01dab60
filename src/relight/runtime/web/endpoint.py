"""A function with typed parameters as what answers a request: arguments from the query and the body, its result as JSON.

What JSON schema says of the parameters is checked here, in the worker, so that a request costs the server nothing more;
conversion to what the annotations ask is that of every call in JSON (`runtime/inputs.py`).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl

from relight.protocol.errors import InputFault, InvalidInput
from relight.protocol.schema import check, resolve
from relight.protocol.web import Fields
from relight.runtime.inputs import Inputs
from relight.runtime.web.asgi import AsgiHandler
from relight.runtime.web.exchange import Exchange
from relight.runtime.web.threads import run_in

BODY_BYTES = 16 * 1024 * 1024
"""A longer body is refused, with 413: what streams is an app's, not an endpoint's."""

_JSON: Fields = ((b"content-type", b"application/json"),)
_TEXT: Fields = ((b"content-type", b"text/plain; charset=utf-8"),)
_BYTES: Fields = ((b"content-type", b"application/octet-stream"),)
_EVENTS: Fields = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"))
_PROBLEM: Fields = ((b"content-type", b"application/problem+json"),)
_WITH_BODY = (b"POST", b"PUT", b"PATCH")
_SCALARS: Mapping[str, Callable[[str], Any]] = {
    "integer": int,
    "number": float,
    "boolean": lambda text: {
        "true": True,
        "1": True,
        "on": True,
        "yes": True,
        "false": False,
        "0": False,
        "off": False,
        "no": False,
    }[text.lower()],
    "null": lambda text: {"": None, "null": None}[text],
    "string": str,
}


class EndpointHandler:
    """Answers by one function.  `schema` is that of its arguments, as deployed."""

    def __init__(
        self, function: Callable[..., Any], schema: Any, methods: tuple[str, ...], threads: ThreadPoolExecutor
    ) -> None:
        self._function = function
        self._schema: dict[str, Any] = schema if isinstance(schema, dict) else {}
        self._properties: dict[str, Any] = self._schema.get("properties", {})
        self._kinds = {name: _kinds(one, self._schema) for name, one in self._properties.items()}
        self._lists = {name for name, kinds in self._kinds.items() if "array" in kinds}
        self._wholes = [name for name, kinds in self._kinds.items() if not kinds or "object" in kinds]
        self._methods = tuple(method.encode() for method in methods)
        self._threads = threads
        self._inputs = Inputs()
        self._inputs.prepare(function)
        self._is_async = inspect.iscoroutinefunction(function)
        self._yields = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)

    async def __call__(self, exchange: Exchange) -> None:
        method = exchange.head.method
        if method not in self._methods and not (method == b"HEAD" and b"GET" in self._methods):
            allowed = b", ".join(self._methods)
            exchange.answer(405, (*_TEXT, (b"allow", allowed)), b"this endpoint takes " + allowed)
            return
        try:
            arguments = await self._arguments(exchange)
            if arguments is None:
                exchange.answer(413, _TEXT, b"the body is longer than %d bytes" % BODY_BYTES)
                return
            _, named = self._inputs.arguments(self._function, (), arguments)
        except InvalidInput as error:
            _refuse(exchange, error)
            return
        try:
            await self._run(exchange, named)
        except Exception as error:
            if not _is_http_exception(error):
                raise
            said = json.dumps({"detail": error.detail}).encode()  # type: ignore[attr-defined]  # as Starlette's has
            exchange.answer(error.status_code, _JSON, said)  # type: ignore[attr-defined]

    async def _run(self, exchange: Exchange, named: dict[str, Any]) -> None:
        if self._yields:
            await self._stream(exchange, self._function(**named))
            return
        if self._is_async:
            value = await self._function(**named)
        else:
            value = await run_in(self._threads, lambda: self._function(**named))
        await self._say(exchange, value)

    async def _stream(self, exchange: Exchange, items: Any) -> None:
        """Each item as a server-sent event."""
        exchange.begin(200, _EVENTS)
        if hasattr(items, "__aiter__"):
            async for item in items:
                await exchange.write(self._event(item))
        else:
            nothing = object()
            while (item := await run_in(self._threads, lambda: next(items, nothing))) is not nothing:
                await exchange.write(self._event(item))
        exchange.end()

    def _event(self, item: Any) -> bytes:
        said = item if isinstance(item, str) else json.dumps(self._inputs.result(self._function, item))
        return b"".join(b"data: %b\n" % line.encode() for line in said.split("\n")) + b"\n"

    async def _say(self, exchange: Exchange, value: Any) -> None:
        if isinstance(value, (bytes, bytearray, memoryview)):
            await exchange.answer_all(200, _BYTES, bytes(value))
        elif hasattr(value, "status_code") and callable(value):  # a response of Starlette's, which is an app
            await AsgiHandler(value)(exchange)
        else:
            said = json.dumps(self._inputs.result(self._function, value), separators=(",", ":")).encode()
            await exchange.answer_all(200, _JSON, said)

    # -- arguments

    async def _arguments(self, exchange: Exchange) -> dict[str, Any] | None:
        """By name, as JSON; None when the body is too long.  Raises InvalidInput."""
        said: dict[str, Any] = {}
        if exchange.head.method in _WITH_BODY:
            body = await exchange.read_all(BODY_BYTES)
            if body is None:
                return None
            if body.strip():
                said = self._of_body(body)
        if exchange.head.query_string:
            said = {**self._of_query(exchange.head.query_string), **said}
        if self._schema:
            faults = check(self._schema, said)
            if faults:
                raise InvalidInput(f"cannot take the request: {faults[0].detail}", tuple(faults))
        return said

    def _of_body(self, body: bytes) -> dict[str, Any]:
        try:
            said = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"cannot read the body: {error}", (InputFault(pointer="", detail=str(error)),)) from None
        if len(self._wholes) == 1 and not (isinstance(said, dict) and self._wholes[0] in said):
            return {self._wholes[0]: said}  # the one argument that is no scalar is the body itself
        if not isinstance(said, dict):
            raise InvalidInput(
                "cannot read the body: it is no object; send one with the arguments by their names",
                (InputFault(pointer="", detail="it must be an object"),),
            )
        return said

    def _of_query(self, query: bytes) -> dict[str, Any]:
        said: dict[str, Any] = {}
        for name, text in parse_qsl(str(query, "latin-1"), keep_blank_values=True, max_num_fields=1000):
            if name not in self._properties and self._schema.get("additionalProperties") is False:
                continue  # as on the rest of the web: what nobody asked for says nothing
            if name in self._lists:
                said.setdefault(name, []).append(_meant(text, _items(self._properties[name], self._schema)))
            else:
                said[name] = _meant(text, self._kinds.get(name, ("string",)))
        return said


def _kinds(schema: Any, whole: dict[str, Any]) -> tuple[str, ...]:
    """The types that a value may be of, by name; none when it may be anything."""
    found: Any = resolve(schema, whole)
    if "anyOf" in found:
        return tuple(kind for one in found["anyOf"] for kind in _kinds(one, whole))
    if "enum" in found or "const" in found:
        values = found.get("enum", [found.get("const")])
        return tuple({"string" if isinstance(one, str) else "integer" for one in values})
    kind = found.get("type", ())
    return (kind,) if isinstance(kind, str) else tuple(kind)


def _items(schema: Any, whole: dict[str, Any]) -> tuple[str, ...]:
    found: Any = resolve(schema, whole)
    if "anyOf" in found:
        found = next((resolve(one, whole) for one in found["anyOf"] if "array" in _kinds(one, whole)), {})
    return _kinds(found.get("items", {}), whole)


def _meant(text: str, kinds: tuple[str, ...]) -> Any:
    """What a text of a query means where one of `kinds` is asked for; the text itself where it is none of them."""
    for kind in _SCALARS:
        if kind in kinds:
            try:
                return _SCALARS[kind](text)
            except (ValueError, KeyError):
                continue
    return text


def _refuse(exchange: Exchange, error: InvalidInput) -> None:
    problem = {
        "type": f"urn:relight:error:{error.code}",
        "title": "Unprocessable Content",
        "status": error.status,
        "detail": str(error),
        "code": error.code,
        "retryable": False,
        "errors": [{"pointer": fault.pointer, "detail": fault.detail} for fault in error.errors],
    }
    exchange.answer(error.status, _PROBLEM, json.dumps(problem).encode()[: 60 * 1024])


def _is_http_exception(error: Exception) -> bool:
    """Whether it is Starlette's, or FastAPI's, by what those have."""
    return isinstance(getattr(error, "status_code", None), int) and hasattr(error, "detail")
