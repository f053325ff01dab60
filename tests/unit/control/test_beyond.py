"""Calls that wait in the store alone: they come in their order, can be ended where they are, and outlive the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relight.blobs.store import BlobStore
from relight.clock import SystemClock, now_ms
from relight.control.platform import Control, Rules, open_control
from relight.protocol import PROTOCOL
from relight.protocol.api import Cancel, Submit
from relight.protocol.calls import CallEvent, CallRequest, CallState
from relight.protocol.errors import LimitExceeded
from relight.protocol.ids import new_id
from relight.protocol.link import CallEnd, Hello, Orders, Reports, RunCall, WorkerChange
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest, Queueing, Scaling
from relight.protocol.payload import Payload
from relight.protocol.workers import WorkerState
from relight.scheduler import queue as queues
from relight.scheduler.loop import Timing
from relight.scheduler.queue import FunctionKey
from relight.store.rows import NewVersion
from relight.store.store import Store, open_store

WS = "default"
NAME = (WS, "a", "main", "f")
KEY = FunctionKey("version-1", "f")
WINDOW = 8


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that a test can fill."""
    monkeypatch.setattr(queues, "WINDOW", WINDOW)
    monkeypatch.setattr("relight.control.beyond.WINDOW", WINDOW)


@pytest.fixture
async def store(tmp_path: Path, small: None) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    image = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
    function = FunctionSpec(
        name="f",
        module="m",
        qualname="f",
        image=image,
        scaling=Scaling(max_workers=1),
        queue=Queueing(max_waiting=50),
    )
    code = CodeBundle(digest="d" * 64, size=1, folder="/a")
    manifest = Manifest(app="a", code=code, functions=(function,))
    await opened.versions.deploy(
        NewVersion(workspace=WS, id="version-1", app="a", environment="main", manifest=manifest, at=1.0)
    )
    yield opened
    await opened.close()


async def begin(store: Store, folder: Path) -> Control:
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
    return await open_control(store, BlobStore(folder / "blobs"), SystemClock(), rules)


@dataclass
class Node:
    """One node with one worker, which the test plays: each call it is given ends at once."""

    control: Control
    begun: list[str] = field(default_factory=list)
    given: list[RunCall] = field(default_factory=list)

    def connect(self) -> None:
        hello = Hello(node="n", incarnation="i", protocol=PROTOCOL, cpu=2.0, memory_mib=1024)
        self.control.nodes.connect(hello, self.obey)

    def obey(self, orders: Orders) -> None:
        self.given += orders.run
        for start in orders.start:
            change = WorkerChange(worker=start.worker, state=WorkerState.READY, at=self.control.calls._clock.now())
            self.control.nodes.report("n", Reports(workers=(change,)))

    async def work_off(self, count: int) -> None:
        """Run so many calls, one after another."""
        while len(self.begun) < count:
            while not self.given:
                await self.control.calls._store.calls.existing(WS, ())  # a turn of the store
            run = self.given.pop(0)
            self.begun.append(run.call)
            value = Payload(format="json", data=run.payload.data or b"", size=1)
            end = CallEnd(
                call=run.call,
                token=run.token,
                outcome=CallEvent.SUCCEEDED,
                worker=run.worker,
                result=value,
                seconds=1.0,
            )
            self.control.nodes.report("n", Reports(ends=(end,)))


async def submit(control: Control, count: int, **more: object) -> list[str]:
    calls = [
        CallRequest(
            id=new_id("call", now_ms()),
            app="a",
            function="f",
            payload=Payload(format="json", data=str(n).encode(), size=1),
            **more,  # type: ignore[arg-type]  # shorthand
        )
        for n in range(count)
    ]
    await control.calls.submit(WS, Submit(calls=tuple(calls), is_quiet=True))
    return [call.id for call in calls]


async def test_calls_beyond_the_window_are_brought_in_their_order_with_what_they_were_given(
    store: Store, tmp_path: Path
) -> None:
    control = await begin(store, tmp_path)
    node = Node(control)
    ids = await submit(control, 40)
    function = control.scheduler.function(KEY)
    assert function is not None
    before = (function.queue.here, function.queue.beyond.total(), len(function.queue))
    node.connect()

    await node.work_off(40)

    assert before == (WINDOW, 40 - WINDOW, 40)
    assert node.begun == ids
    assert function.queue.beyond.total() == 0


async def test_the_most_urgent_of_those_beyond_come_first(store: Store, tmp_path: Path) -> None:
    control = await begin(store, tmp_path)
    node = Node(control)
    early = await submit(control, WINDOW + 10)
    urgent = await submit(control, WINDOW + 2, priority=5)
    node.connect()

    await node.work_off(len(early) + len(urgent))

    places = {call: number for number, call in enumerate(node.begun)}
    assert [places[call] for call in urgent] == sorted(places[call] for call in urgent)
    assert max(places[call] for call in urgent) < min(places[call] for call in early[WINDOW:])


async def test_calls_beyond_outlive_the_server_and_are_cancelled_one_by_one_or_purged(
    store: Store, tmp_path: Path
) -> None:
    ids = await submit(await begin(store, tmp_path), 40)
    control = await begin(store, tmp_path)
    recovered = control.scheduler.backlog("version-1", "f")

    one = await control.calls.cancel(WS, ids[-1])
    places = await control.calls.unfinished(WS, Cancel(ids=tuple(ids[-3:])))
    more = await control.calls.cancel_all(WS, places)
    left = control.scheduler.backlog("version-1", "f")
    purged = await control.queues.purge(NAME)

    assert (recovered, one.state, more, left, purged) == (40, CallState.CANCELLED, 2, 37, 37)
    assert control.scheduler.backlog("version-1", "f") == 0
    views = await store.calls.existing(WS, ids)
    assert {view.state for view in views.values()} == {CallState.CANCELLED}


async def test_one_that_waits_in_the_store_says_why_and_is_stopped_with_its_app(store: Store, tmp_path: Path) -> None:
    control = await begin(store, tmp_path)
    ids = await submit(control, 30)

    shown = (await control.calls.show(WS, ids[-1])).call

    assert shown.pending_reason.startswith("no_node: ")
    assert await control.deploys.stop(WS, "a", "main") == 30


async def test_one_that_has_waited_too_long_expires_where_it_is(store: Store, tmp_path: Path) -> None:
    control = await begin(store, tmp_path)
    await submit(control, WINDOW)
    late = await submit(control, 3, queue_timeout_seconds=0.0)

    rows = await store.waiting.bring_late(SystemClock().now())
    await control.calls.beyond._bring_late(rows)
    control.scheduler.sweep()
    async with asyncio.timeout(10):
        while not all(view.state.is_final for view in (await store.calls.existing(WS, late)).values()):
            pass

    assert {view.state for view in (await store.calls.existing(WS, late)).values()} == {CallState.EXPIRED}


async def test_more_than_may_wait_are_refused_with_a_time_to_ask_again_and_nothing_of_them_is_kept(
    store: Store, tmp_path: Path
) -> None:
    control = await begin(store, tmp_path)
    await submit(control, 45)

    with pytest.raises(LimitExceeded, match=r"^cannot take 10 calls of f: 45 of its calls wait, and 50 may") as refused:
        await submit(control, 10)

    assert refused.value.retry_after_seconds is not None
    assert refused.value.retry_after_seconds >= 1
    assert control.scheduler.backlog("version-1", "f") == 45
    await submit(control, 5)
