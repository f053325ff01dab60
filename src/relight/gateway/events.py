"""A call as it goes on, as server-sent events.

    start       it is kept: {"id", "app", "function", "environment"}
    progress    where it stands, each time that this changes: {"state", "pending_reason", "worker", "attempts"}
    log         a line that it wrote: {"at", "source", "text"}
    output      an item that a generator made, or {"preview", "format"} of one that JSON cannot say
    completed   how it ended, after all the rest: {"id", "state"} with `result`, `items` or `error`, a problem

Whoever hangs up has stopped a generator, as there is nobody who lets it go on; any other call runs to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from relight.gateway.calls import CallProblem, inlined
from relight.gateway.exchange import EVENTS_TYPE, Ask, StreamAnswer
from relight.gateway.items import BEAT, BEAT_SECONDS, Reading
from relight.gateway.platform import Platform
from relight.gateway.problems import problem_of
from relight.gateway.render import json_value
from relight.protocol.calls import CallState, CallView
from relight.protocol.errors import RelightError
from relight.protocol.manifest import Json
from relight.protocol.payload import JSON, Payload
from relight.protocol.views import LogQuery, LogRecord

_SHOWN = ("pending_reason", "worker", "attempts")
_BEAT = b": nothing yet\n\n"
_CLOCKS_APART = 60.0  # seconds: a node's clock may be behind the server's, and says when a line was written

Event = tuple[str, Json]
Events = AsyncGenerator[Event, None]


def stream(platform: Platform, ask: Ask, view: CallView, *, makes_items: bool) -> StreamAnswer:
    """All that happens to a call that was just taken."""
    return StreamAnswer(parts=_Telling(platform, ask, view, makes_items).parts(), type=EVENTS_TYPE)


@dataclass(slots=True)
class _Telling:
    """One caller's view of one call."""

    platform: Platform
    ask: Ask
    view: CallView
    makes_items: bool
    last_line: int = 0

    async def parts(self) -> AsyncIterator[bytes]:
        """The stream."""
        view = self.view
        said: Json = {"id": view.id, "app": view.app, "function": view.function, "environment": view.environment}
        try:
            yield _event("start", said)
            leading = (self._changes(), self._outputs()) if self.makes_items else (self._changes(),)
            async for kind, value in merged(leading, self._lines()):
                yield _BEAT if kind == BEAT else _event(kind, value)
            for record in await self.platform.logs.read(self.ask.workspace, self._query()):
                yield _event(*_line(record))
            yield _event("completed", await self._completed())
        except RelightError as error:  # once the stream has begun, no status can say it
            yield _event("completed", {"id": view.id, "state": self.view.state.value, "error": problem_of(error)})
        finally:
            if self.ask.is_gone and self.makes_items:
                await self.platform.calls.cancel(self.ask.workspace, view.id)

    async def _changes(self) -> Events:
        told = self._standing()
        yield "progress", told  # as it was taken in: it may be over before anybody looks
        async for view in self.platform.calls.follow(self.ask.workspace, self.view.id):
            self.view = view
            if not view.state.is_final and self._standing() != told:
                told = self._standing()
                yield "progress", told

    def _standing(self) -> dict[str, Json]:
        return {"state": self.view.state.value, **{name: getattr(self.view, name) for name in _SHOWN}}

    async def _outputs(self) -> Events:
        reading = Reading(self.platform, self.ask, self.view.id)
        async for kind, value in reading.said(await reading.next(BEAT_SECONDS)):
            if kind in ("item", "preview"):
                yield "output", value
            elif kind == BEAT:
                yield BEAT, None

    async def _lines(self) -> Events:
        async for record in self.platform.logs.follow(self.ask.workspace, self._query()):
            self.last_line = record.id
            yield _line(record)

    def _query(self) -> LogQuery:
        since = max(0.0, self.view.submitted_at - _CLOCKS_APART)
        return LogQuery(call=self.view.id, since=since, after=self.last_line)

    async def _completed(self) -> Json:
        view = self.view
        said: dict[str, Json] = {"id": view.id, "state": view.state.value}
        if view.state is not CallState.SUCCEEDED:
            return {**said, "error": CallProblem(view).problem}
        if self.makes_items:
            return {**said, "items": view.items}
        payload = view.result or Payload(format=JSON, data=b"null")
        is_value, value = json_value(await inlined(self.platform, payload, self.ask.limits.json_bytes))
        if not is_value:
            return {**said, "preview": payload.preview, "format": payload.format}
        return {**said, "result": value}


async def merged(leading: Sequence[Events], rest: Events) -> Events:
    """What all of them say, as it comes, until those that lead are over."""
    steps = {asyncio.ensure_future(anext(source)): source for source in (*leading, rest)}
    try:
        while any(source in leading for source in steps.values()):
            done, _ = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
            for step in done:
                source = steps.pop(step)
                with suppress(StopAsyncIteration):
                    yield step.result()
                    steps[asyncio.ensure_future(anext(source))] = source
    finally:
        for step in steps:
            step.cancel()
        await asyncio.gather(*steps, return_exceptions=True)
        for source in (*leading, rest):
            await source.aclose()


def _line(record: LogRecord) -> Event:
    return "log", {"at": record.at, "source": record.source, "text": record.text}


def _event(kind: str, value: Json) -> bytes:
    return f"event: {kind}\ndata: ".encode() + msgspec.json.encode(value) + b"\n\n"
