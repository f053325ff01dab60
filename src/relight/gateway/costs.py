"""What things cost, and what may be spent."""

from __future__ import annotations

from relight.gateway.exchange import Answer, Ask, json_answer
from relight.gateway.platform import Platform
from relight.gateway.render import plain
from relight.protocol.costviews import CostQuery
from relight.protocol.errors import InvalidRequest

MAX_CALLS = 10_000


async def report(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/costs"""
    query = CostQuery(
        by=ask.query("by") or "function",
        against=tuple(name for name in ask.query("against").split(",") if name),
        region=ask.query("region"),
        is_forecast=ask.query("forecast") == "1",
        app=ask.query("app") or ask.app,
        environment=ask.query("environment") or ask.environment,
        function=ask.query("function"),
        since=ask.moment("since"),
        until=ask.moment("until"),
        call=ask.query("call"),
        limit=ask.whole("limit", 1000, most=MAX_CALLS),
    )
    ask.check_calls((query,))
    return json_answer(plain(await platform.costs.report(ask.workspace, query)))


async def list_budgets(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/budgets"""
    return json_answer({"budgets": plain(await platform.budgets.list(ask.workspace))})


async def set_budget(platform: Platform, ask: Ask) -> Answer:
    """PUT /v1/budgets"""
    _, said = await ask.json()
    given = said if isinstance(said, dict) else {}
    app, nanos, warn = given.get("app", ""), given.get("nanos"), given.get("warn_percent", 80)
    if not isinstance(nanos, int) or not isinstance(warn, int) or not isinstance(app, str):
        raise InvalidRequest(
            'cannot set a budget: the body is not {"app": "…", "nanos": n, "warn_percent": 80}; nanos are whole nano-dollars'
        )
    return json_answer(plain(await platform.budgets.set(ask.workspace, app, nanos, warn)))


async def remove_budget(platform: Platform, ask: Ask) -> Answer:
    """DELETE /v1/budgets"""
    return json_answer(plain(await platform.budgets.remove(ask.workspace, ask.query("app"))))
