"""Decorators of what answers web requests; they stand under `@app.function()`, or on a method of a class.

Each only marks the function with a `WebSpec`: all else is the server's and the worker's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar

from relight.protocol.errors import InvalidRequest
from relight.protocol.inside import WEB
from relight.protocol.manifest import WebSpec

F = TypeVar("F", bound=Callable[..., Any])

MANY = 100
"""How many requests at once one worker takes that waits for others rather than computes."""

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class WebOptions(TypedDict, total=False):
    """What may be said of anything that answers web requests.

    `label` is its name in host URLs (`http://LABEL.localhost:8700/`), made of the function's and the app's when not given.
    `requires_auth`: only with a token of this server.  `cors` are the origins whose pages may ask, `["*"]` for all.
    `max_inputs` is how many requests one worker takes at once.
    """

    label: str
    requires_auth: bool
    cors: Sequence[str]
    max_inputs: int


def web_endpoint(method: str | Sequence[str] = "GET", *, docs: bool = True, **given: Any) -> Callable[[F], F]:
    """Answer requests by this function: its parameters come from the query and a JSON body, its result goes as JSON.

    `method` is what it takes; `docs`: it has a page to try it on at `/docs`.  The others are those of `WebOptions`.
    A plain `def` takes one request at a time unless `max_inputs` says more; an `async def` takes 100.
    """
    if callable(method):
        raise InvalidRequest("cannot decorate with @relight.web_endpoint: call it; write @relight.web_endpoint()")
    methods = (method,) if isinstance(method, str) else tuple(method)

    def mark(raw: F) -> F:
        import inspect  # few modules have any of these

        is_async = inspect.iscoroutinefunction(raw) or inspect.isasyncgenfunction(raw)
        return _mark(raw, "endpoint", given, MANY if is_async else 1, methods=methods, has_docs=docs)

    return mark


def asgi_app(**given: Any) -> Callable[[F], F]:
    """Answer requests by the ASGI app that this function returns: FastAPI's, Starlette's, or any other.

    It is called once, before the first request, or in the template that workers are forked from.  A worker takes 100 requests
    at once unless `max_inputs` says otherwise.  The options are those of `WebOptions`.
    """
    return lambda raw: _mark(raw, "asgi", given, MANY)


def wsgi_app(**given: Any) -> Callable[[F], F]:
    """Answer requests by the WSGI app that this function returns: Flask's, Django's, or any other.

    Each request runs in a thread; one at a time, unless `max_inputs` says more.  The options are those of `WebOptions`.
    """
    return lambda raw: _mark(raw, "wsgi", given, 1)


def web_server(port: int, *, startup_timeout: float = 30.0, **given: Any) -> Callable[[F], F]:
    """Answer requests by whatever listens on `port` once this function has returned: a program that it started.

    It is called once, before a worker's first request; `startup_timeout` seconds are what the program then has to listen on
    127.0.0.1.  What the function returns is kept for as long as the worker lives, such as a server that listens in threads.
    A worker takes 100 requests at once.  The options are those of `WebOptions`.
    """
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise InvalidRequest(f"cannot serve port={port!r}: it is none; give a number from 1 to 65535")
    return lambda raw: _mark(raw, "server", given, MANY, port=port, startup_timeout_seconds=float(startup_timeout))


def _mark(raw: F, kind: str, given: dict[str, Any], most: int, **more: Any) -> F:
    name = getattr(raw, "__qualname__", repr(raw))
    cannot = f"cannot decorate {name}"
    unknown = set(given) - set(WebOptions.__annotations__) - {"requires_proxy_auth", "custom_domains"}
    if unknown:
        raise InvalidRequest(
            f"{cannot}: {min(unknown)!r} is not an option; there are {', '.join(sorted(WebOptions.__annotations__))}"
        )
    if given.get("custom_domains"):
        raise InvalidRequest(f"{cannot}: custom_domains= asks for what relight has not; put a proxy before it")
    if hasattr(raw, "callee"):
        raise InvalidRequest(f"{cannot}: @app.function() stands below; put it above @relight.{_NAMES[kind]}(…)")
    methods = more.get("methods", ())
    for method in methods:
        if method not in _METHODS:
            raise InvalidRequest(f"{cannot}: method={method!r} is none; use one of {', '.join(_METHODS)}")
    label = given.get("label") or ""
    if label and not _LABEL.fullmatch(label):
        raise InvalidRequest(
            f"{cannot}: label={label!r} cannot be part of a host's name; use up to 63 of a-z, 0-9 and '-'"
        )
    most = given.get("max_inputs", most)
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InvalidRequest(f"{cannot}: max_inputs={most!r} is no number of requests; use 1 or more")
    spec = WebSpec(
        kind=kind,
        max_inputs=most,
        label=label,
        cors=tuple(given.get("cors", ())),
        needs_token=bool(given.get("requires_auth", given.get("requires_proxy_auth", False))),
        **more,
    )
    setattr(raw, WEB, spec)
    return raw


_NAMES = {"endpoint": "web_endpoint", "asgi": "asgi_app", "wsgi": "wsgi_app", "server": "web_server"}
