"""A session with the web, played in the template before any worker is forked (as `runtime/rehearsal.py` plays a worker's life).

What a first request does for the first time costs most of it: a loop, codecs, bytecode that is specialised once it has run, pages
that a fork must copy to write to.  So sessions are run here by the worker's own code, with an app of ours; where the user's is
FastAPI's or Starlette's, with an empty one of that kind.  Nothing of the user's runs in it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from relight.protocol.web import Frames, Kind, RequestHead, frame, join, pack_request
from relight.runtime.web.session import serve

_LIVES = 9  # Python looks at bytecode once it has run eight times, and specialises it then
_HEAD = RequestHead._make(
    [
        b"GET",
        b"/w/a/b/",
        b"",
        b"/w/a/b",
        b"http",
        b"h",
        b"80",
        b"::1",
        b"1",
        b"1.1",
        [(b"host", b"h"), (b"accept", b"*/*")],
    ]
)


def play(app: Any) -> None:
    """Have it all done once, for workers that answer by this app."""
    settle(app)
    for make in (_plain, *([_like(app)] if _is_starlette(app) else [])):
        with suppress(Exception):  # a library of another version: what was not played is done by each worker
            for _ in range(_LIVES):
                _live(make)


def settle(app: Any) -> None:
    """Have a Starlette app, or one made of it, put its middleware together: it does so when it is first called."""
    if _is_starlette(app) and hasattr(app, "middleware_stack") and app.middleware_stack is None:
        app.middleware_stack = app.build_middleware_stack()


def _is_starlette(app: Any) -> bool:
    return type(app).__module__.partition(".")[0] in ("fastapi", "starlette")


def _live(make: Callable[[], Any]) -> None:
    """One session of two requests, from the loop to its end."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(
            frame(Kind.CONFIG, 0, json.dumps({"kind": "asgi"}).encode())
            + b"".join(frame(Kind.OPEN_WHOLE, number, join(pack_request(_HEAD), b"")) for number in (1, 2))
            + frame(Kind.FINISH, 0)
        )
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(_be(theirs.detach(), make()))
        finally:
            loop.close()
        list(Frames().feed(ours.recv(1 << 16)))


async def _be(descriptor: int, app: Any) -> None:
    """A worker that serves, and leaves."""
    from relight.runtime.web.handlers import Web  # which imports this one

    web = Web(lambda: app)
    await serve(descriptor, web.handler, lambda _: None)
    await web.stop()


def _plain() -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for word in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{word}.complete"})
            return
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"x"})

    return app


def _like(app: Any) -> Callable[[], Any]:
    """Makes an app of the same kind, with one route: FastAPI's where that is loaded, else Starlette's."""
    kind = sys.modules.get("fastapi") or sys.modules["starlette.applications"]

    async def answer() -> dict[str, int]:
        return {"x": 1}

    async def respond(request: Any) -> Any:
        return sys.modules["starlette.responses"].PlainTextResponse("x")

    def make() -> Any:
        made: Any = kind.FastAPI() if hasattr(kind, "FastAPI") else kind.Starlette()
        if hasattr(made, "add_api_route"):
            made.add_api_route("/", answer)
        else:
            made.add_route("/", respond)
        return made

    return make
