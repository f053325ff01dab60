"""A route: one line of the API's table, and how a request finds its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from relight.gateway.exchange import Answer, Ask, StreamAnswer
from relight.gateway.platform import Platform
from relight.gateway.problems import HttpProblem
from relight.protocol.errors import NotFound
from relight.protocol.views import Scope

Handler = Callable[[Platform, Ask], Awaitable[Answer | StreamAnswer]]

FUNCTION = "/v1/apps/{app}/functions/{function}"
ENVIRONMENT = (("environment", "where the app is deployed; main when left out"),)
"""What may be said with every path of an app."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a method on a path means.

    `body` is what is sent and `answer` what comes back: a kind of message, or words for people; `query` and
    `headers` are what else may be said, with what it means.  `scope` is what a token must be good for, `is_open`: needs none.  A token for one
    app comes through where the path names that app, or where `knows_apps`: the handler looks at `Ask.app` itself.
    `for_workers`: open to a worker too, within its environment: the handler looks at `Ask.check_place`.
    `waits`: may take long, so a server that stops does not wait for it.
    """

    method: str
    path: str
    name: str
    handler: Handler
    summary: str
    body: str = ""
    answer: str = ""
    status: int = 200
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    scope: Scope = Scope.ADMIN
    knows_apps: bool = False
    for_workers: bool = False
    is_open: bool = False
    waits: bool = False


@dataclass(slots=True)
class _Step:
    """A place on the way: the next word of the path, or any word, which then is a parameter."""

    words: dict[str, _Step] = field(default_factory=dict)
    any: _Step | None = None
    routes: dict[str, Route] = field(default_factory=dict)


class RouteTable:
    """All routes; found word by word, whole paths without parameters at once."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._whole = {(route.method, route.path): route for route in routes if "{" not in route.path}
        self._root = _Step()
        for route in routes:
            self._add(route)

    def find(self, method: str, path: str, raw_path: bytes) -> tuple[Route, dict[str, str]]:
        """The route, and the parameters in its path.  Raises a problem (404, 405)."""
        known = self._whole.get((method, path))
        if known is not None:
            return known, {}
        values: list[str] = []
        step = self._walk(str(raw_path, "latin-1").split("/")[1:], values)
        if step is None or not step.routes:
            raise NotFound(f"cannot find {path[:200]!r}: this server has no such path; /openapi.json lists them")
        route = step.routes.get(method)
        if route is None:
            raise HttpProblem.bad_method(method, path[:200], ", ".join(sorted(step.routes)))
        return route, dict(zip(_names(route.path), values, strict=True))

    def _walk(self, words: list[str], values: list[str]) -> _Step | None:
        step: _Step | None = self._root
        for word in words:
            if step is None:
                return None
            following = step.words.get(word)
            if following is None and word:
                following = step.any
                values.append(unquote(word))
            step = following
        return step

    def _add(self, route: Route) -> None:
        step = self._root
        for word in route.path.split("/")[1:]:
            if word.startswith("{"):
                step.any = step.any or _Step()
                step = step.any
            else:
                step = step.words.setdefault(word, _Step())
        step.routes[route.method] = route


def _names(path: str) -> list[str]:
    return [word[1:-1] for word in path.split("/") if word.startswith("{")]
