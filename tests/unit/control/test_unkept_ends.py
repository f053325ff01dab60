"""An end that cannot be kept is told to nobody, until it can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from relight.blobs.store import BlobStore
from relight.clock import now_ms
from relight.control.platform import Rules, open_control
from relight.protocol.calls import CallEvent, CallRequest, CallState, Token
from relight.protocol.errors import Unavailable
from relight.protocol.ids import new_id
from relight.protocol.link import CallEnd, Orders, Reports
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest
from relight.protocol.payload import Payload
from relight.scheduler.loop import Timing
from relight.store.calls import CallTable, KeptEnds
from relight.store.rows import Claim, End, NewCall, NewVersion
from relight.store.store import Store, open_store

WS, NODE, TOKEN = "default", "n1", Token(1, 1)
ENDED = CallEvent.SUCCEEDED
RESULT = Payload(format="json", data=b"49", size=2)


class FullDisk:
    """The calls of a store whose next end finds the disk full; all else is the store's own."""

    def __init__(self, calls: CallTable) -> None:
        self._calls = calls
        self.refused: list[End] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._calls, name)

    def end(self, workspace: str, rows: Sequence[End], heard: Callable[[KeptEnds], None]) -> KeptEnds:
        if self.refused:
            return self._calls.end(workspace, rows, heard)
        self.refused.extend(rows)
        full: KeptEnds = asyncio.get_running_loop().create_future()
        full.set_exception(Unavailable("cannot keep end: the disk is full"))
        heard(full)
        return full


class Gate:
    """A clock whose sleepers wake when they are let."""

    def __init__(self) -> None:
        self.is_asked, self.may_wake = asyncio.Event(), asyncio.Event()

    def now(self) -> float:
        return 1_000_000.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.is_asked.set()
        await self.may_wake.wait()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    image = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
    function = FunctionSpec(name="f", module="m", qualname="f", image=image)
    code = CodeBundle(digest="d" * 64, size=1, folder="/a")
    manifest = Manifest(app="a", code=code, functions=(function,))
    await opened.versions.deploy(
        NewVersion(workspace=WS, id="version-1", app="a", environment="main", manifest=manifest, at=1.0)
    )
    yield opened
    await opened.close()


async def running_call(store: Store) -> str:
    """A call that a server before this one gave to a worker."""
    call = new_id("call", now_ms())
    request = CallRequest(id=call, app="a", function="f", payload=RESULT)
    store.calls.submit(WS, [NewCall(request=request, version="version-1", at=1.0)])
    await store.calls.claim(WS, [Claim(call=call, token=TOKEN, attempt=1, worker="w1", node=NODE, at=2.0)])
    return call


async def test_an_end_is_acknowledged_and_seen_only_when_it_is_kept_in_the_end(store: Store, tmp_path: Path) -> None:
    call = await running_call(store)
    clock, disk = Gate(), FullDisk(store.calls)
    full = replace(store, calls=cast("CallTable", disk))
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
    control = await open_control(full, BlobStore(tmp_path / "blobs"), clock, rules)
    acknowledged = asyncio.Event()

    def hear(orders: Orders) -> None:
        if (call, TOKEN) in orders.acknowledged:
            acknowledged.set()

    control.nodes._links[NODE] = hear  # a link without a hello: the hello would have to hold the call's worker
    control.nodes.report(
        NODE, Reports(ends=(CallEnd(call=call, token=TOKEN, outcome=ENDED, worker="w1", result=RESULT),))
    )
    await clock.is_asked.wait()
    before = (acknowledged.is_set(), (await control.calls.show(WS, call)).call.state)
    clock.may_wake.set()
    await acknowledged.wait()
    after = (await control.calls.show(WS, call)).call

    assert before == (False, CallState.RUNNING)
    assert (after.state, after.result) == (CallState.SUCCEEDED, RESULT)
    assert len(disk.refused) == 1
