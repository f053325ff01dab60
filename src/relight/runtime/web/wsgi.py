"""WSGI: an app is called in a thread for each request; its body is read, and its answer written, as either end goes on."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_to_bytes

from relight.protocol.web import PART_BYTES, Fields
from relight.runtime.web.exchange import Exchange, Gone
from relight.runtime.web.threads import run_in

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class WsgiHandler:
    """Answers by an app, at most as many requests at once as `threads` has room for."""

    def __init__(self, app: App, threads: ThreadPoolExecutor) -> None:
        self._app = app
        self._threads = threads

    async def __call__(self, exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        await run_in(self._threads, _Call(self._app, exchange, loop).run)


class _Call:
    """One call of the app, in its thread."""

    def __init__(self, app: App, exchange: Exchange, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._exchange = exchange
        self._loop = loop
        self._status = 0
        self._headers: Fields = ()
        self._has_begun = False

    def run(self) -> None:
        parts = self._app(environ_of(self._exchange, self._wait), self._start)
        try:
            self._send_all(parts)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()

    def _send_all(self, parts: Iterable[bytes]) -> None:
        if isinstance(parts, Sequence) and sum(map(len, parts)) <= PART_BYTES and not self._has_begun:
            self._loop.call_soon_threadsafe(self._exchange.answer, self._status, self._headers, b"".join(parts))
            return
        for part in parts:
            if part:
                self._write(part)
        self._begin()
        self._loop.call_soon_threadsafe(self._exchange.end)

    def _start(self, status: str, headers: Sequence[tuple[str, str]], error: Any = None) -> Callable[[bytes], None]:
        if error is not None and self._has_begun:
            raise error[1].with_traceback(error[2])
        self._status = int(status[:3])
        self._headers = [(name.encode("latin-1").lower(), value.encode("latin-1")) for name, value in headers]
        return self._write

    def _write(self, data: bytes) -> None:
        self._begin()
        self._wait(self._exchange.write(data))

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._loop.call_soon_threadsafe(self._exchange.begin, self._status, self._headers)

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class Body(io.RawIOBase):
    """A request's body, read in a thread."""

    def __init__(self, exchange: Exchange, wait: Callable[[Any], Any]) -> None:
        self._exchange = exchange
        self._wait = wait
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            with suppress(Gone):
                self._rest = self._wait(self._exchange.read())
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def environ_of(exchange: Exchange, wait: Callable[[Any], Any]) -> dict[str, Any]:
    """What WSGI says of a request."""
    head = exchange.head
    root = unquote_to_bytes(head.root_path)
    path = unquote_to_bytes(head.raw_path)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": str(head.method, "latin-1"),
        "SCRIPT_NAME": str(root, "latin-1"),
        "PATH_INFO": str(path[len(root) :] if path.startswith(root) else path, "latin-1"),
        "QUERY_STRING": str(head.query_string, "latin-1"),
        "SERVER_NAME": str(head.host, "latin-1"),
        "SERVER_PORT": str(head.port, "latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{str(head.version, 'latin-1')}",
        "REMOTE_ADDR": str(head.client, "latin-1"),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": str(head.scheme, "latin-1"),
        "wsgi.input": io.BufferedReader(Body(exchange, wait)),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in head.headers:
        said = str(value, "latin-1")
        key = str(name, "latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
            said = f"{environ[key]},{said}" if key in environ else said
        environ[key] = said
    return environ
