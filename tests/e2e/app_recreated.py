"""An app that is made anew for each version, whose answers say which one gave them."""

from __future__ import annotations

import threading

import relight


def version(number: int) -> relight.App:
    """The version of that number."""
    app = relight.App("recreated")

    @app.function(name="hold", serialized=True, max_workers=1)
    def hold(seconds: float) -> int:
        threading.Event().wait(seconds)
        return number

    @app.function(name="outer", serialized=True, max_workers=1)
    def outer(seconds: float) -> list[int]:
        threading.Event().wait(seconds)
        inner: relight.Function[[float], int] = relight.Function.from_name("recreated", "hold")
        return [number, inner.remote(0.0)]

    @app.function(name="page", serialized=True)
    @relight.web_endpoint()
    def page() -> int:
        return number

    return app
