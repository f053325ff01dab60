"""What workers wrote, line by line: read, followed, and as the stream of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec

from relight.gateway.exchange import MAX_MOMENT, NDJSON_TYPE, Answer, Ask, StreamAnswer, closing, json_answer
from relight.gateway.platform import Platform
from relight.gateway.render import log_line, plain
from relight.protocol.errors import InvalidRequest, NotFound
from relight.protocol.ids import is_id
from relight.protocol.views import LogQuery, LogRecord, RunEnded

SOURCES = ("stdout", "stderr", "system")
MAX_LINES = 10_000
MAX_ID = 2**62
MAX_FAULT = 64 * 1024
LATE_SECONDS = 0.1
"""So much later may a line be dated than the answer that its request got: its time is that of its reading."""

NOBODY = "nobody"
"""No worker's name."""


async def read(platform: Platform, ask: Ask) -> Answer | StreamAnswer:
    """GET /v1/logs"""
    ask.check_app(ask.query("app") or ask.app)
    query = LogQuery(
        call=ask.query("call"),
        app=ask.query("app") or ask.app,
        environment=ask.query("environment"),
        function=ask.query("function"),
        worker=ask.query("worker"),
        source=ask.query("source"),
        search=ask.query("search"),
        ignore_case=ask.query("ignore_case") in ("1", "true"),
        since=ask.moment("since"),
        until=ask.moment("until"),
        after=ask.whole("after", 0, most=MAX_ID),
        limit=ask.whole("limit", 1000, most=MAX_LINES),
        tail=ask.whole("tail", 0, most=MAX_LINES),
    )
    if query.source not in ("", *SOURCES):
        raise InvalidRequest(f"cannot read source={query.source[:40]!r}: it must be one of {', '.join(SOURCES)}")
    if is_id(query.call, "req"):
        query = await _meanwhile(platform, ask, query)
    if ask.query("follow") in ("1", "true"):
        return StreamAnswer(parts=_lines(platform.logs.follow(ask.workspace, query)))
    records = await platform.logs.read(ask.workspace, query)
    return Answer(body=b"".join(map(log_line, records)), type=NDJSON_TYPE)


async def _meanwhile(platform: Platform, ask: Ask, query: LogQuery) -> LogQuery:
    """What to read for a web request: what its worker wrote from when it had it.  Raises NotFound."""
    call = (await platform.traffic.show(ask.workspace, query.call)).call
    ask.check_calls((call,))
    since = max(query.since, call.started_at or call.submitted_at)
    until = min(query.until or MAX_MOMENT, (call.ended_at or 0.0) + LATE_SECONDS)
    return replace(query, call="", worker=call.worker or NOBODY, since=since, until=until)


async def attach(platform: Platform, ask: Ask) -> StreamAnswer:
    """GET /v1/runs/{run}/attach"""
    run, after = ask.params["run"], ask.whole("after", 0, most=MAX_ID)
    apps = await platform.deploys.apps(ask.workspace)
    ask.check_app(*(app.app for app in apps if app.environment == run))
    if all(app.environment != run for app in apps):  # said now: once the stream has begun, no status can say it
        raise NotFound(f"cannot find run {run[:60]!r}: it has ended, or never was; start it again")
    return StreamAnswer(parts=_run_lines(platform.runs.attach(ask.workspace, run, after)))


async def stop_run(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/runs/{run}/stop"""
    _, said = await ask.json()
    cancel = said.get("cancel") if isinstance(said, dict) else None
    if not isinstance(cancel, bool):
        raise InvalidRequest(
            'cannot stop the run: say whether to cancel its calls; send {"cancel": true} or {"cancel": false}'
        )
    if ask.app:
        await _check_run(platform, ask)
    return json_answer({"unfinished": await platform.runs.stop(ask.workspace, ask.params["run"], cancel=cancel)})


async def tell_fault(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/runs/{run}/fault"""
    _, said = await ask.json()
    text = said.get("text") if isinstance(said, dict) else None
    if not isinstance(text, str):
        raise InvalidRequest(
            'cannot tell what is wrong with the run: it is no text; send {"text": "…"}, or {"text": ""} for nothing'
        )
    if ask.app:
        await _check_run(platform, ask)
    await platform.runs.tell_fault(ask.workspace, ask.params["run"], text[:MAX_FAULT])
    return json_answer({})


async def _check_run(platform: Platform, ask: Ask) -> None:
    """Raise Forbidden where a run is of an app that the caller's token is not for."""
    apps = await platform.deploys.apps(ask.workspace)
    ask.check_app(*(app.app for app in apps if app.environment == ask.params["run"]))


async def _lines(records: AsyncIterator[LogRecord]) -> AsyncIterator[bytes]:
    async with closing(records):
        async for record in records:
            yield log_line(record)


async def _run_lines(records: AsyncIterator[LogRecord | RunEnded]) -> AsyncIterator[bytes]:
    async with closing(records):
        async for record in records:
            said = {"event": "ended"} if isinstance(record, RunEnded) else {"log": plain(record)}
            yield msgspec.json.encode(said) + b"\n"
