"""ASGI 3: an app sees each request as its scope and two channels; its lifespan is the worker's.

A WebSocket is a tunnel whose bytes are read and written here (`websocket.py`).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from relight.protocol.web import PART_BYTES, Fields
from relight.runtime.web.exchange import Exchange, Gone

Message = MutableMapping[str, Any]
App = Callable[[Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_ASGI = {"version": "3.0", "spec_version": "2.4"}


class AsgiHandler:
    """Answers by an app.  `start` runs its lifespan up to the start, `stop` to its end."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._state: dict[str, Any] = {}
        self._lifespan: _Lifespan | None = None

    async def start(self) -> None:
        """Raises what the app raises as it starts up."""
        lifespan = _Lifespan(self._app, self._state)
        if await lifespan.start():
            self._lifespan = lifespan

    async def stop(self) -> None:
        """Let it shut down."""
        if self._lifespan is not None:
            await self._lifespan.stop()

    async def __call__(self, exchange: Exchange) -> None:
        scope = scope_of(exchange, self._state)
        if exchange.head.is_upgrade and _asks_for_websocket(exchange.head.headers):
            from relight.runtime.web.websocket import WebSocket  # few apps have any

            await WebSocket(exchange, scope).run(self._app)
            return
        response = _Response(exchange)
        try:
            await self._app(scope, response.receive, response.send)
        finally:
            response.close()


def scope_of(exchange: Exchange, state: dict[str, Any]) -> dict[str, Any]:
    """What ASGI says of a request."""
    head = exchange.head
    path = str(head.raw_path, "latin-1")
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": str(head.version, "latin-1"),
        "method": str(head.method, "latin-1"),
        "scheme": str(head.scheme, "latin-1"),
        "path": unquote(path) if "%" in path else path,
        "raw_path": head.raw_path,
        "query_string": head.query_string,
        "root_path": str(head.root_path, "latin-1"),
        "headers": list(head.headers),
        "client": (str(head.client, "latin-1"), int(head.client_port or b"0")) if head.client else None,
        "server": (str(head.host, "latin-1"), int(head.port or b"0")),
        "state": state.copy(),
        "extensions": {},
    }


class _Response:
    """The two channels of one request."""

    __slots__ = ("_exchange", "_headers", "_is_said", "_status")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._status = 0
        self._headers: Fields = ()
        self._is_said = False

    async def receive(self) -> Message:
        exchange = self._exchange
        if not self._is_said:
            try:
                body = exchange.take() if exchange.is_body_whole else await exchange.read()
            except Gone:
                return {"type": "http.disconnect"}
            self._is_said = exchange.is_body_whole and not exchange.has_more
            return {"type": "http.request", "body": body, "more_body": not self._is_said}
        await exchange.wait_gone()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        kind = message["type"]
        exchange = self._exchange
        if kind == "http.response.body":
            body = message.get("body", b"")
            more = message.get("more_body", False)
            if not exchange.has_begun:
                if not self._status:
                    raise RuntimeError("the app sent a body before http.response.start")
                if not more and len(body) <= PART_BYTES:
                    exchange.answer(self._status, self._headers, bytes(body))
                    return
                exchange.begin(self._status, self._headers)
            if exchange.is_over:
                return
            if body:
                await exchange.write(bytes(body))
            if not more:
                exchange.end()
        elif kind == "http.response.start":
            self._status = int(message["status"])
            self._headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]

    def close(self) -> None:
        """The app has returned."""
        exchange = self._exchange
        if self._status and not exchange.has_begun and not exchange.is_gone and sys.exc_info()[0] is None:
            exchange.answer(self._status, self._headers, b"")


class _Lifespan:
    """The app's own view of when its worker starts and ends.  One that knows nothing of it raises at once, and may."""

    def __init__(self, app: App, state: dict[str, Any]) -> None:
        self._app = app
        self._state = state
        self._asked: asyncio.Queue[Message] = asyncio.Queue()
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> bool:
        """Whether the app has a lifespan."""
        scope = {"type": "lifespan", "asgi": _ASGI, "state": self._state}
        self._task = asyncio.get_running_loop().create_task(
            self._app(scope, self._asked.get, self._said.put),  # type: ignore[arg-type]  # an app's call is a coroutine
            name="web.lifespan",
        )
        message = await self._ask("lifespan.startup")
        if message is None:
            self._task.exception()  # seen: an app without a lifespan says so by raising
            return False
        if message["type"] == "lifespan.startup.failed":
            raise RuntimeError(f"the app failed to start up: {message.get('message') or 'see its traceback above'}")
        return True

    async def stop(self) -> None:
        """Until the app has shut down."""
        await self._ask("lifespan.shutdown")

    async def _ask(self, what: str) -> Message | None:
        assert self._task is not None, "it was started"
        await self._asked.put({"type": what})
        hearing = asyncio.ensure_future(self._said.get())
        await asyncio.wait((hearing, self._task), return_when=asyncio.FIRST_COMPLETED)
        if hearing.done():
            return hearing.result()
        hearing.cancel()
        return None


def _asks_for_websocket(headers: Fields) -> bool:
    return any(name == b"upgrade" and value.lower() == b"websocket" for name, value in headers)
