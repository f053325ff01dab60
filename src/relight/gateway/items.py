"""The items of generators over HTTP: frames for the SDK, lines or server-sent events for everybody else.

    NDJSON      {"item": 1}            …  {"end": {"id": "call-…", "items": 3}}   or  {"error": {problem}}
    SSE         data: 1                …  event: end, data: {"id", "items"}       or  event: error, data: {problem}

What JSON cannot say is `{"preview": …, "format": …}` in the place of `{"item": …}`, or of the data.  Whoever hangs up
has stopped: the call is cancelled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import msgspec

from relight.gateway.calls import CallProblem, inlined
from relight.gateway.exchange import EVENTS_TYPE, NDJSON_TYPE, Answer, Ask, ClientGone, StreamAnswer, frame_answer
from relight.gateway.platform import Platform
from relight.gateway.render import json_value
from relight.protocol.api import Items, ReadItems
from relight.protocol.calls import CallState, CallView
from relight.protocol.manifest import Json
from relight.protocol.payload import Payload

FIRST_SECONDS = 10.0
"""How long the answer waits for a first item, or a failure that can still be its status, before it begins."""

BEAT_SECONDS = 15.0
"""A stream of events in which nothing happens says so this often, for the sake of what is between."""

BEAT = "beat"

Form = Callable[[str, Json], bytes]
"""Writes down one thing (`item`, `preview`, `end`, `error`)."""


async def read(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/calls/items"""
    query = await ask.frame(ReadItems)
    if ask.app or ask.environment:
        ask.check_calls(((await platform.calls.show(ask.workspace, query.call)).call,))
    work = platform.calls.items(ask.workspace, query, worker=ask.worker)
    return frame_answer(await (ask.unless_gone(work) if query.wait_seconds else work))


async def stream(platform: Platform, ask: Ask, view: CallView) -> StreamAnswer:
    """The items of a call that was just taken.  Raises CallProblem when it fails before it has made any."""
    is_events = EVENTS_TYPE in ask.header(b"accept")
    reading = Reading(platform, ask, view.id)
    try:
        first = await ask.unless_gone(reading.next(FIRST_SECONDS))
    except ClientGone:
        await reading.cancel()
        raise
    if first.call.state.is_final and not first.items and first.call.state is not CallState.SUCCEEDED:
        raise CallProblem(first.call)
    if is_events:
        return StreamAnswer(parts=reading.parts(first, _event, b": nothing yet\n\n"), type=EVENTS_TYPE)
    return StreamAnswer(parts=reading.parts(first, _line), type=NDJSON_TYPE)


@dataclass(slots=True)
class Reading:
    """One caller's way through the items of one call."""

    platform: Platform
    ask: Ask
    call: str
    taken: int = 0

    async def next(self, seconds: float) -> Items:
        """What comes after those that were taken; nothing after so many seconds."""
        query = ReadItems(call=self.call, taken=self.taken, wait_seconds=seconds)
        return await self.platform.calls.items(self.ask.workspace, query, worker=self.ask.worker)

    async def cancel(self) -> None:
        """Its caller has gone."""
        await self.platform.calls.cancel(self.ask.workspace, self.call)

    async def parts(self, answer: Items, form: Form, beat: bytes = b"") -> AsyncIterator[bytes]:
        """All that is said, from `answer` on."""
        try:
            async for kind, value in self.said(answer):
                if kind != BEAT:
                    yield form(kind, value)
                elif beat:
                    yield beat
        finally:
            if self.ask.is_gone:
                await self.cancel()

    async def said(self, answer: Items) -> AsyncIterator[tuple[str, Json]]:
        """Each `item` (or `preview`) from `answer` on, then `end` or `error`; BEAT where nothing has come for a while."""
        while True:
            for payload in answer.items:
                yield await self._shown(payload)
            self.taken += len(answer.items)
            if answer.call.state.is_final:
                break
            if not answer.items:
                yield BEAT, None
            answer = await self.next(BEAT_SECONDS)
        yield self._end(answer.call)

    async def _shown(self, payload: Payload) -> tuple[str, Json]:
        is_value, value = json_value(await inlined(self.platform, payload, self.ask.limits.json_bytes))
        if is_value:
            return "item", value
        return "preview", {"preview": payload.preview, "format": payload.format}

    def _end(self, view: CallView) -> tuple[str, Json]:
        if view.state is CallState.SUCCEEDED:
            return "end", {"id": view.id, "items": self.taken}
        return "error", CallProblem(view).problem


def _line(kind: str, value: Json) -> bytes:
    return msgspec.json.encode(value if kind == "preview" else {kind: value}) + b"\n"


def _event(kind: str, value: Json) -> bytes:
    name = f"event: {kind}\n" if kind in ("end", "error") else ""
    return name.encode() + b"data: " + msgspec.json.encode(value) + b"\n\n"
