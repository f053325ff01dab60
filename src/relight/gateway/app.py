"""The gateway: who asks, and whether they may; which route; its answer, and every error as a problem."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from relight.gateway import openapi
from relight.gateway.calls import CallProblem
from relight.gateway.exchange import (
    Answer,
    Ask,
    ClientGone,
    Limits,
    RawAnswer,
    StreamAnswer,
    json_answer,
    problem_answer,
)
from relight.gateway.guard import LOCAL_NAMES, Hosts, authenticate, authorize, check_source
from relight.gateway.platform import Platform
from relight.gateway.problems import HttpProblem
from relight.gateway.routes import Route, RouteTable
from relight.gateway.sites import Proxies, Sites
from relight.gateway.table import ROUTES
from relight.protocol.errors import RelightError

log = logging.getLogger("relight.gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the gateway is told by the settings."""

    hosts: Hosts = field(default_factory=lambda: Hosts(names=LOCAL_NAMES))
    limits: Limits = field(default_factory=Limits)
    trusted_proxies: tuple[str, ...] = ()


def build(platform: Platform, options: Options | None = None) -> Gateway:
    """The native API of a platform, as what answers requests."""
    return Gateway(platform, options or Options())


class Gateway:
    """The native API."""

    def __init__(self, platform: Platform, options: Options) -> None:
        self._platform = platform
        self._hosts = options.hosts
        self._sites = Sites(platform, options.hosts, Proxies.of(options.trusted_proxies))
        self.limits = options.limits
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

    async def answer(self, ask: Ask) -> Answer | StreamAnswer | RawAnswer:
        """Answer one request.  Raises ClientGone when there is nobody left to hear it."""
        try:
            return await self._answer(ask)
        except ClientGone:
            raise
        except (RelightError, HttpProblem) as error:
            return self._refuse(ask, error)
        except Exception as error:  # the boundary of one request: a fault of ours is told, and ends nothing else
            log.exception("request failed", extra={"method": ask.head.method, "path": ask.head.path})
            return self._refuse(ask, RelightError(f"cannot answer: {type(error).__name__} in the server; see its log"))

    async def _answer(self, ask: Ask) -> Answer | StreamAnswer | RawAnswer:
        place = self._sites.find(ask)
        if place is not None:
            return await self._sites.answer(ask, place)
        check_source(ask, self._hosts)
        route, ask.params = self.table.find(ask.head.method, ask.head.path, ask.head.raw_path)
        if not route.is_open:
            ask.principal = authenticate(ask, self._platform.tokens)
            authorize(ask, route)
        ask.may_wait = route.waits
        return await route.handler(self._platform, ask)

    def _refuse(self, ask: Ask, error: RelightError | HttpProblem) -> Answer:
        answer = problem_answer(error)
        level = logging.DEBUG if answer.status < 500 or isinstance(error, CallProblem) else logging.WARNING
        log.log(level, "request refused", extra={"path": ask.head.path, "status": answer.status})
        return answer

    async def _describe(self, platform: Platform, ask: Ask) -> Answer:
        return json_answer(openapi.document(self.table.routes))
