"""A call under a caller's key is one call, on a real store, and whoever follows it hears how it stands."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from relight.clock import now_ms
from relight.control.platform import Control
from relight.protocol.calls import CallKey, CallState, CallView
from relight.protocol.errors import KeyReused, NotFound
from relight.protocol.ids import new_id
from unit.control.test_submits import WS, control, data_of, queued, request, store

__all__ = ["control", "store"]

KEY = CallKey(owner="token-1", function="main/a/f", key="order-1", digest="of first")


def name() -> str:
    return new_id("call", now_ms() + 1)


async def test_of_many_at_once_one_call_is_made_and_started(control: Control) -> None:
    asked = [request(name(), b"first") for _ in range(10)]

    views = await asyncio.gather(*(control.calls.submit_once(WS, one, KEY) for one in asked))

    (call,) = {view.id for view in views}
    assert control.scheduler.backlog("version-1", "f") == 1
    assert data_of(queued(control, call)) == b"first"


async def test_a_key_is_asked_about_without_a_call(control: Control) -> None:
    before = await control.calls.named(WS, KEY)
    made = await control.calls.submit_once(WS, request(name(), b"first"), KEY)

    assert before is None
    assert await control.calls.named(WS, KEY) == made
    with pytest.raises(KeyReused, match=r"it stands for call-.*, which was asked with another body"):
        await control.calls.named(WS, replace(KEY, digest="of second"))


async def test_what_cannot_be_called_takes_no_key(control: Control) -> None:
    with pytest.raises(NotFound):
        await control.calls.submit_once(WS, replace(request(name(), b"1"), function="gone"), KEY)

    assert await control.calls.named(WS, KEY) is None


async def test_who_follows_a_call_hears_each_time_that_it_stands_otherwise(control: Control) -> None:
    call = (await control.calls.submit_once(WS, request(name(), b"1"), None)).id
    heard: list[CallView] = []

    async def follow() -> None:
        async for view in control.calls.follow(WS, call):
            heard.append(view)
            if view.state is CallState.QUEUED:
                await control.calls.cancel(WS, call)

    await asyncio.wait_for(follow(), 10)

    assert [view.state for view in heard] == [CallState.QUEUED, CallState.CANCELLED]
    assert heard[0].pending_reason.startswith("no_")
