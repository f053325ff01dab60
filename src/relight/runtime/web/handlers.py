"""From what the user wrote to what answers requests: by its kind, which the server says as a session begins.

An app is made once: in the template where there is one, so that a fork has it, or else at a worker's first request.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

from relight.runtime.web.exchange import Handler

_NOT_MADE = object()
APPS = ("asgi", "wsgi")


class Web:
    """What one worker serves: of one function, or one method of its object.  `app` is there once it is made."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._app: Any = _NOT_MADE
        self._handler: Handler | None = None
        self._stop: Callable[[], Any] | None = None

    def make_app(self) -> Any:
        """Have the user's function make its app, as it is the same for all workers; None where only a loop can."""
        if inspect.iscoroutinefunction(self._function):
            return None
        if self._app is _NOT_MADE:
            self._app = self._function()
        return self._app

    async def handler(self, config: dict[str, Any]) -> Handler:
        """What answers, once it is ready to.  Raises what the user's code raises."""
        if self._handler is None:
            self._handler = await _MAKERS[config["kind"]](self, config)
        return self._handler

    async def stop(self) -> None:
        """The worker leaves."""
        if self._stop is not None:
            await self._stop()

    async def _made_app(self) -> Any:
        if self._app is _NOT_MADE:
            made = self._function()
            self._app = await made if inspect.isawaitable(made) else made
        return self._app

    async def _asgi(self, _config: dict[str, Any]) -> Handler:
        from relight.runtime.web.asgi import AsgiHandler  # each kind pays for its own alone

        handler = AsgiHandler(await self._made_app())
        await handler.start()
        self._stop = handler.stop
        return handler

    async def _wsgi(self, config: dict[str, Any]) -> Handler:
        from relight.runtime.web.wsgi import WsgiHandler

        return WsgiHandler(await self._made_app(), _threads(config))

    async def _endpoint(self, config: dict[str, Any]) -> Handler:
        from relight.runtime.web.endpoint import EndpointHandler

        return EndpointHandler(self._function, config["schema"], tuple(config["methods"]), _threads(config))

    async def _server(self, config: dict[str, Any]) -> Handler:
        from relight.runtime.web.proxy import ProxyHandler

        await self._made_app()  # the program, if it is an object of this process: kept, as it would end with that
        handler = ProxyHandler(int(config["port"]))
        await handler.wait_listening(float(config["startup_timeout"]))
        return handler


_MAKERS: dict[str, Callable[[Web, dict[str, Any]], Any]] = {
    "asgi": Web._asgi,
    "wsgi": Web._wsgi,
    "endpoint": Web._endpoint,
    "server": Web._server,
}


def prepare(kind: str) -> None:
    """Import what serves a kind, so that no fork has to."""
    import relight.runtime.web.session

    import_module(f"relight.runtime.web.{_MODULES[kind]}")
    if kind == "asgi":
        import relight.runtime.web.websocket  # noqa: F401


_MODULES = {"asgi": "asgi", "wsgi": "wsgi", "endpoint": "endpoint", "server": "proxy"}


def _threads(config: dict[str, Any]) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=int(config["max_inputs"]), thread_name_prefix="web")
