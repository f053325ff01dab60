"""The ASGI application: guard, authenticate, find the route, answer; and every error as a problem."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from relight.gateway import openapi
from relight.gateway.calls import CallProblem
from relight.gateway.exchange import (
    Answer,
    Ask,
    ClientGone,
    Limits,
    Receive,
    Scope,
    Send,
    StreamAnswer,
    json_answer,
    send_answer,
    send_stream,
)
from relight.gateway.guard import LOCAL_NAMES, Hosts, authenticate, authorize, check_source
from relight.gateway.platform import Platform
from relight.gateway.problems import PROBLEM_TYPE, HttpProblem, problem_of
from relight.gateway.routes import Route, RouteTable
from relight.gateway.table import ROUTES
from relight.protocol.errors import RelightError, Unavailable

log = logging.getLogger("relight.gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the gateway is told by the settings."""

    hosts: Hosts = field(default_factory=lambda: Hosts(names=LOCAL_NAMES))
    limits: Limits = field(default_factory=Limits)


def build(platform: Platform, options: Options | None = None) -> Gateway:
    """The native API of a platform, as an ASGI application."""
    return Gateway(platform, options or Options())


class Gateway:
    """The native API."""

    def __init__(self, platform: Platform, options: Options) -> None:
        self._platform = platform
        self._options = options
        describe = Route(
            method="GET",
            path="/openapi.json",
            name="openapi",
            handler=self._describe,
            summary="This API, as OpenAPI 3.1",
            answer="OpenAPI document",
            is_open=True,
        )
        self.table = RouteTable((*ROUTES, describe))
        self._waiting: set[asyncio.Task[object]] = set()
        self._is_stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise NotImplementedError(f"the gateway speaks http, not {scope['type']}")
        ask = Ask(scope, receive, self._options.limits)
        sender = _Sender(send)
        try:
            await self._serve(ask, sender)
        except ClientGone:
            return
        except (RelightError, HttpProblem) as error:
            await self._fail(ask, sender, error)
        except Exception as error:  # the boundary of one request: a fault of ours is told, and ends nothing else
            log.exception("request failed", extra={"method": scope["method"], "path": scope["path"]})
            await self._fail(
                ask, sender, RelightError(f"cannot answer: {type(error).__name__} in the server; see its log")
            )

    def stop(self) -> None:
        """Let go of the requests that wait, so that the server can stop: they are told to ask again."""
        self._is_stopping = True
        for task in list(self._waiting):
            task.cancel()

    async def _serve(self, ask: Ask, sender: _Sender) -> None:
        check_source(ask, self._options.hosts)
        route, ask.params = self._find(ask)
        if not route.is_open:
            ask.principal = authenticate(ask, self._platform.tokens)
            authorize(ask, route)
        if route.waits:
            await self._serve_patiently(route, ask, sender)
        else:
            await _respond(await route.handler(self._platform, ask), ask, sender)

    def _find(self, ask: Ask) -> tuple[Route, dict[str, str]]:
        return self.table.find(ask.scope["method"], ask.scope["path"], ask.scope["raw_path"])

    async def _serve_patiently(self, route: Route, ask: Ask, sender: _Sender) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            await _respond(await route.handler(self._platform, ask), ask, sender)
        except asyncio.CancelledError:
            if not self._is_stopping or task.uncancel():
                raise
            if not sender.has_started:
                raise Unavailable("cannot wait any longer: the server is stopping; ask again when it is back") from None
        finally:
            self._waiting.discard(task)

    async def _fail(self, ask: Ask, sender: _Sender, error: RelightError | HttpProblem) -> None:
        if sender.has_started:
            raise error  # too late for a status: the broken connection says it
        answer = _problem_answer(error)
        level = logging.DEBUG if answer.status < 500 or isinstance(error, CallProblem) else logging.WARNING
        log.log(level, "request refused", extra={"path": ask.scope["path"], "status": answer.status})
        await send_answer(sender, answer)

    async def _describe(self, platform: Platform, ask: Ask) -> Answer:
        return json_answer(openapi.document(self.table.routes))


class _Sender:
    """`send`, which remembers whether an answer has begun."""

    __slots__ = ("_send", "has_started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_started = False

    async def __call__(self, message: Scope) -> None:
        self.has_started = True
        await self._send(message)


async def _respond(answer: Answer | StreamAnswer, ask: Ask, sender: _Sender) -> None:
    if isinstance(answer, StreamAnswer):
        await send_stream(ask, sender, answer)
    else:
        await send_answer(sender, answer)


def _problem_answer(error: RelightError | HttpProblem) -> Answer:
    if isinstance(error, CallProblem):
        said, status, headers = error.problem, error.status, error.headers
    elif isinstance(error, HttpProblem):
        said, status, headers = problem_of(error.error, error.status), error.status, error.headers
    else:
        said, status, headers = problem_of(error), error.status, ()
    return Answer(status=status, body=json_answer(said).body, type=PROBLEM_TYPE, headers=headers)
