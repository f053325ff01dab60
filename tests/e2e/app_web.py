"""Everything that may answer web requests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import relight

app = relight.App("web")


@app.function()
@relight.web_endpoint()
def add(x: int, y: int = 1) -> dict[str, int]:
    """Adds two numbers."""
    return {"sum": x + y}


@app.function()
@relight.web_endpoint()
def fails() -> str:
    raise ValueError("on purpose")


@app.function()
@relight.web_endpoint()
def python() -> str:
    return sys.version


@app.function()
@relight.web_endpoint(method="POST", requires_auth=True)
async def greet(name: str, tags: list[str] = []) -> str:  # noqa: B006 - as people write it
    return f"hello {name}" + "".join(f" #{tag}" for tag in tags)


@app.function()
@relight.web_endpoint(cors=["https://shop.example"])
def count(to: int) -> Iterator[int]:
    yield from range(to)


async def _raw(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """An ASGI app without a framework."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                scope["state"]["started"] = os.getpid()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await _echo(receive, send)
        return
    path = scope["path"].removeprefix(scope["root_path"])
    if path == "/echo":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-pid", b"%d" % os.getpid())]})
        while True:
            message = await receive()
            await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})
            if not message["more_body"]:
                return
    if path == "/length":
        length = 0
        while True:
            message = await receive()
            length += len(message["body"])
            if not message["more_body"]:
                break
        await _say(send, b"%d" % length)
    elif path == "/zeros":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(int(scope["query_string"])):
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    elif path == "/events":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for number in range(5):
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
            await _take(0.05)
        await send({"type": "http.response.body", "body": b""})
    elif path == "/wait":
        try:
            await receive()
            print("waits", flush=True)
            message = await receive()
            print(f"told {message['type']}", flush=True)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise
    elif path == "/raise":
        raise ValueError("on purpose")
    elif path == "/break":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("on purpose")
    elif path == "/die":
        await _take(0.1)
        os._exit(3)
    elif path == "/slow":
        await _take(float(scope["query_string"] or b"0.2"))
        await _say(send, b"%d" % os.getpid())
    else:
        said = {"path": scope["path"], "root_path": scope["root_path"], "started": scope["state"].get("started")}
        cookie = b"cookie" in dict(scope["headers"])
        headers = [(b"set-cookie", b"a=1"), (b"x-cookie", b"%d" % cookie), (b"x-scheme", scope["scheme"].encode())]
        await _say(send, repr(said).encode(), headers)


async def _take(seconds: float) -> None:
    """Be at work for so long, and let others go on."""
    await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=seconds)


async def _say(send: Callable[[Any], Any], body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers or []})
    await send({"type": "http.response.body", "body": body})


async def _echo(receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print(f"gone {message['code']}", flush=True)
            return
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})


@app.function(timeout=2, grace=1)
@relight.asgi_app(label="raw", cors=["*"])
def raw() -> Any:
    return _raw


@app.function()
@relight.asgi_app()
def large() -> Any:
    return _raw


@app.function()
@relight.wsgi_app(max_inputs=4)
def wsgi() -> Any:
    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes] | list[bytes]:
        if environ["PATH_INFO"] == "/stream":
            start("200 OK", [("Content-Type", "text/plain")])
            return iter([b"a", b"b", b"c"])
        body = environ["wsgi.input"].read()
        start("200 OK", [("Content-Type", "text/plain")])
        return [environ["SCRIPT_NAME"].encode(), b" ", environ["PATH_INFO"].encode(), b" ", b"%d" % len(body)]

    return answer


@app.function()
@relight.web_server(8123)
def listens() -> None:
    subprocess.Popen([sys.executable, "-m", "http.server", "8123", "--bind", "127.0.0.1", "--directory", "/usr"])


@app.function(timeout=1, grace=0.5)
@relight.web_endpoint()
def sleeps(seconds: float) -> str:
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            threading.Event().wait(0.01)
    except BaseException as error:
        print(f"stopped by {type(error).__name__}", flush=True)
        raise
    return "slept"


def _work() -> Iterator[None]:
    """Be at work until stopped, and say until when: on the clock that this machine's processes share."""
    print("works", flush=True)
    try:
        while True:
            threading.Event().wait(0.005)
            yield
    finally:
        print(f"worked until {time.monotonic()}", flush=True)


@app.function()
@relight.web_endpoint()
def works() -> str:
    for _ in _work():
        pass
    return "never"


@app.function()
@relight.web_endpoint()
async def works_async() -> str:
    with contextlib.closing(_work()) as work:
        for _ in work:
            await _take(0.005)
    return "never"


@app.function()
@relight.web_endpoint()
def works_by_items() -> Iterator[str]:
    for _ in _work():
        yield "x" * 1000


@app.function()
@relight.wsgi_app()
def works_in_wsgi() -> Any:
    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])
        return (b"x" for _ in _work())

    return answer


@app.function()
@relight.asgi_app()
def broken() -> Any:
    raise RuntimeError("this app cannot be made")


@app.cls()
class Counter:
    @relight.enter()
    def begin(self) -> None:
        self.count = 0

    @relight.web_endpoint(method="POST")
    def more(self, by: int = 1) -> int:
        self.count += by
        return self.count
