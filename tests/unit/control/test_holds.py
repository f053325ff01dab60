"""A call that went along with a start, as those see it who ask: it waits, and what never began leaves no trace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relight.blobs.store import BlobStore
from relight.clock import SystemClock, now_ms
from relight.control.platform import Control, Rules, open_control
from relight.protocol import PROTOCOL
from relight.protocol.api import Await, CallDetail, Submit
from relight.protocol.calls import CallEvent, CallRequest, CallState
from relight.protocol.exits import WorkerExit
from relight.protocol.ids import new_id
from relight.protocol.link import CallEnd, CancelCall, Hello, Orders, Reports, RunCall, WorkerChange
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest
from relight.protocol.payload import Payload
from relight.protocol.workers import WorkerState
from relight.scheduler.loop import Timing
from relight.store.rows import NewVersion
from relight.store.store import Store, open_store

WS = "default"
VALUE = Payload(format="json", data=b"1", size=1)


@dataclass
class World:
    """A platform with one node, which the test plays, and one call."""

    control: Control
    call: str
    runs: list[RunCall] = field(default_factory=list)
    cancelled: list[CancelCall] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)

    def obey(self, orders: Orders) -> None:
        self.runs += orders.run
        self.cancelled += orders.cancel
        self.acknowledged += [call for call, _ in orders.acknowledged]

    def end(self, run: RunCall, outcome: CallEvent, *, is_charged: bool = True) -> CallEnd:
        result = VALUE if outcome is CallEvent.SUCCEEDED else None
        return CallEnd(
            call=run.call,
            token=run.token,
            outcome=outcome,
            worker=run.worker,
            result=result,
            is_charged=is_charged,
            seconds=0.1 if result is not None else 0.0,
        )

    def report(self, *changes: WorkerChange, ends: tuple[CallEnd, ...] = ()) -> None:
        self.control.nodes.report("n", Reports(workers=changes, ends=ends))

    async def submit(self) -> RunCall:
        request = CallRequest(id=self.call, app="a", function="f", payload=VALUE)
        await self.control.calls.submit(WS, Submit(calls=(request,)))
        return self.runs[-1]

    async def show(self) -> CallDetail:
        return await self.control.calls.show(WS, self.call)


def change(run: RunCall, state: WorkerState, at: float, reason: str = "") -> WorkerChange:
    return WorkerChange(
        worker=run.worker, state=state, at=at, credit=8, exit=WorkerExit(reason=reason) if reason else None
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def world(store: Store, tmp_path: Path) -> World:
    image = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
    function = FunctionSpec(name="f", module="m", qualname="f", image=image)
    manifest = Manifest(app="a", code=CodeBundle(digest="d" * 64, size=1, folder="/a"), functions=(function,))
    row = NewVersion(workspace=WS, id="version-1", app="a", environment="main", manifest=manifest, at=1.0)
    await store.versions.deploy(row)
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
    control = await open_control(store, BlobStore(tmp_path / "blobs"), SystemClock(), rules)
    world = World(control, new_id("call", now_ms()))
    control.nodes.connect(Hello(node="n", incarnation="i", protocol=PROTOCOL, cpu=2.0, memory_mib=4096), world.obey)
    return world


async def test_a_call_that_went_along_with_a_start_is_shown_as_one_that_waits_for_it(world: World) -> None:
    await world.submit()

    shown = await world.show()

    assert (shown.call.state, shown.call.worker, shown.attempts) == (CallState.QUEUED, "", ())
    assert shown.call.pending_reason == "starting:placing: a worker is on its way"


async def test_what_it_calls_before_its_worker_is_told_to_be_ready_is_its_own_and_stays(world: World) -> None:
    run = await world.submit()
    child = CallRequest(
        id=new_id("call", now_ms()), app="a", function="f", payload=VALUE, parent=run.call, is_awaited=True
    )
    await world.control.calls.submit(WS, Submit(calls=(child,)), worker=run.worker)

    world.report(change(run, WorkerState.STARTING, 1.0), change(run, WorkerState.READY, SystemClock().now()))

    shown = await world.control.calls.show(WS, child.id)
    assert (shown.call.parent, shown.call.state) == (run.call, CallState.QUEUED)
    assert [one.call for one in world.cancelled] == []


async def test_its_attempt_begins_when_its_worker_was_ready_though_that_is_told_with_its_end(world: World) -> None:
    run = await world.submit()
    ready = SystemClock().now()

    world.report(
        change(run, WorkerState.STARTING, ready - 0.001),
        change(run, WorkerState.READY, ready),
        ends=(world.end(run, CallEvent.SUCCEEDED),),
    )
    await world.control.calls.wait(WS, Await(ids=(world.call,), wait_seconds=10.0))
    shown = await world.show()

    (attempt,) = shown.attempts
    assert (shown.call.state, shown.call.attempts, attempt.number) == (CallState.SUCCEEDED, 1, 1)
    assert attempt.started_at == pytest.approx(ready, abs=0.001)
    assert [one.state.value for one in shown.worker_intervals] == [
        *("requested", "placing", "starting", "ready", "busy", "idle")
    ]


async def test_a_start_that_failed_leaves_no_attempt_behind(world: World) -> None:
    run = await world.submit()

    world.report(
        change(run, WorkerState.GONE, 1.0, "signal:SIGKILL"),
        ends=(world.end(run, CallEvent.LEASE_LOST, is_charged=False),),
    )
    shown = await world.show()

    assert (shown.call.state, shown.attempts) == (CallState.QUEUED, ())
    assert shown.call.pending_reason.startswith("crash_loop:signal:SIGKILL: ")


async def test_a_call_that_is_cancelled_before_its_worker_is_ready_ends_so(world: World) -> None:
    run = await world.submit()

    await world.control.calls.cancel(WS, world.call)
    world.report(ends=(world.end(run, CallEvent.LEASE_LOST, is_charged=False),))
    await world.control.calls.wait(WS, Await(ids=(world.call,), wait_seconds=10.0))

    assert (await world.show()).call.state is CallState.CANCELLED
