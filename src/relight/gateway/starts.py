"""How workers were started: one by one, and together."""

from __future__ import annotations

from relight.gateway.exchange import Answer, Ask, json_answer
from relight.gateway.platform import Platform
from relight.gateway.render import plain
from relight.protocol.errors import InvalidRequest
from relight.protocol.starts import NUMBERS, StartLevel
from relight.protocol.startviews import StartQuery

MAX_PAGE = 1000


async def list_starts(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/starts"""
    query = _query(ask)
    return json_answer({"starts": plain(await platform.starts.list(ask.workspace, query))})


async def summarize(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/starts/summary"""
    return json_answer(plain(await platform.starts.summary(ask.workspace, _query(ask))))


def _query(ask: Ask) -> StartQuery:
    query = StartQuery(
        app=ask.query("app") or ask.app,
        environment=ask.query("environment") or ask.environment,
        function=ask.query("function"),
        level=_level(ask.query("level")),
        since=ask.moment("since"),
        before=ask.moment("before"),
        limit=ask.whole("limit", 50, most=MAX_PAGE),
    )
    ask.check_calls((query,))
    return query


def _level(text: str) -> StartLevel | None:
    """A level, by its name or as people number it.  Raises InvalidRequest."""
    for level in StartLevel:
        if text in (level.value, NUMBERS[level]):
            return level
    if text:
        known = ", ".join(f"{level.value} ({NUMBERS[level]})" for level in StartLevel)
        raise InvalidRequest(f"cannot list starts on level {text[:40]!r}: the levels are {known}; name one of them")
    return None
