"""Decorators of what answers web requests, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import relight
from relight.protocol.manifest import Concurrency, FunctionSpec, WebSpec


def spec_of(decorate: Callable[..., Any], function: Callable[..., Any]) -> FunctionSpec:
    """What a deploy says of a function that is decorated so."""
    app = relight.App("a")
    app.function(serialized=True)(decorate(function))
    return app.specs()[0]


def web_of(decorate: Callable[..., Any], function: Callable[..., Any]) -> WebSpec:
    """What it says of its web."""
    web = spec_of(decorate, function).methods[0].web
    assert web is not None
    return web


def test_what_waits_takes_many_requests_at_once_and_what_computes_takes_one() -> None:
    def plain() -> None: ...

    async def waits() -> None: ...

    assert web_of(relight.web_endpoint(), plain).max_inputs == 1
    assert web_of(relight.web_endpoint(), waits).max_inputs == 100
    assert web_of(relight.asgi_app(), plain).max_inputs == 100
    assert web_of(relight.wsgi_app(max_inputs=3), plain).max_inputs == 3


def test_concurrent_says_how_many_requests_and_no_worker_has_several_sessions() -> None:
    def f() -> None: ...

    spec = spec_of(lambda raw: relight.concurrent(max_inputs=7)(relight.asgi_app()(raw)), f)

    assert spec.methods[0].web is not None
    assert spec.methods[0].web.max_inputs == 7
    assert spec.concurrency == Concurrency()


def test_what_others_call_a_token_is_one() -> None:
    def f() -> None: ...

    assert web_of(relight.fastapi_endpoint(method="POST", requires_proxy_auth=True), f).needs_token
    assert web_of(relight.web_server(8000, startup_timeout=5), f).startup_timeout_seconds == 5.0


@pytest.mark.parametrize(
    ("decorate", "says"),
    [
        (lambda f: relight.web_endpoint(f), "call it"),
        (lambda f: relight.web_endpoint(method="FETCH")(f), "method='FETCH'"),
        (lambda f: relight.asgi_app(label="No_Host")(f), "label='No_Host'"),
        (lambda f: relight.asgi_app(max_inputs=0)(f), "max_inputs=0"),
        (lambda f: relight.asgi_app(labels="x")(f), "'labels' is not an option"),
        (lambda f: relight.asgi_app(custom_domains=["a.example"])(f), "custom_domains"),
        (lambda f: relight.web_server(0), "port=0"),
        (lambda f: relight.asgi_app()(relight.App("a").function(serialized=True)(f)), "put it above"),
    ],
)
def test_what_cannot_be_is_refused_in_words(decorate: Callable[..., Any], says: str) -> None:
    def f() -> None: ...

    with pytest.raises(relight.InvalidRequest, match=says):
        decorate(f)
