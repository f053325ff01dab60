"""Functions that answer web requests while their workers are killed, their app is deployed again, and their agent restarts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import relight

app = relight.App("fire")


async def _answer(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    if scope["type"] == "lifespan":
        raise ValueError("no lifespan")
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            break
    await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.005)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["query_string"] + body})


@app.function()
@relight.asgi_app()
def steady() -> Any:
    return _answer


@app.function(scaledown_window=0)
@relight.asgi_app()
def bursts() -> Any:
    return _answer


@app.function(scaledown_window=0)
@relight.web_endpoint()
def one(x: int) -> int:
    threading.Event().wait(0.002)
    return x
