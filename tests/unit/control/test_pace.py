"""What ends say of a worker's pace: only a call that ran tells that its worker goes on, and how long calls take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relight.blobs.store import BlobStore
from relight.clock import SystemClock, now_ms
from relight.control.platform import Control, Rules, open_control
from relight.protocol import PROTOCOL
from relight.protocol.api import Submit
from relight.protocol.calls import CallEvent, CallRequest
from relight.protocol.ids import new_id
from relight.protocol.link import CallEnd, Hello, Orders, Reports, RunCall, WorkerChange
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest, Scaling
from relight.protocol.payload import Payload
from relight.protocol.workers import WorkerState
from relight.scheduler.loop import Timing
from relight.store.rows import NewVersion
from relight.store.store import open_store

WS = "default"
RESULT = Payload(format="json", data=b"1", size=1)


class Clock(SystemClock):
    """Goes on by itself, and further when the test says so."""

    skipped = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.skipped


class OneWorker:
    """A server whose only function has one worker, which the test plays."""

    def __init__(self, control: Control, clock: Clock) -> None:
        self.control = control
        self.clock = clock
        self.given: dict[str, RunCall] = {}
        hello = Hello(node="n", incarnation="i", protocol=PROTOCOL, cpu=2.0, memory_mib=4096)
        control.nodes.connect(hello, self._obey)

    def _obey(self, orders: Orders) -> None:
        self.given.update({run.call: run for run in orders.run})
        for start in orders.start:
            ready = WorkerChange(worker=start.worker, state=WorkerState.READY, at=1.0, credit=128)
            self.control.nodes.report("n", Reports(workers=(ready,)))

    async def submit(self, count: int = 1) -> list[str]:
        calls = [CallRequest(id=new_id("call", now_ms()), app="a", function="f", payload=RESULT) for _ in range(count)]
        await self.control.calls.submit(WS, Submit(calls=tuple(calls)))
        return [call.id for call in calls]

    def end(self, call: str, outcome: CallEvent, seconds: float) -> None:
        run = self.given.pop(call)
        result = RESULT if outcome is CallEvent.SUCCEEDED else None
        end = CallEnd(call=call, token=run.token, outcome=outcome, worker=run.worker, result=result, seconds=seconds)
        self.control.nodes.report("n", Reports(ends=(end,)))


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[OneWorker]:
    """Its worker has ended a short call: it is given others ahead."""
    image = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
    function = FunctionSpec(name="f", module="m", qualname="f", image=image, scaling=Scaling(max_workers=1))
    manifest = Manifest(app="a", code=CodeBundle(digest="d" * 64, size=1, folder="/a"), functions=(function,))
    store = await open_store(tmp_path)
    await store.versions.deploy(
        NewVersion(workspace=WS, id="version-1", app="a", environment="main", manifest=manifest, at=1.0)
    )
    clock = Clock()
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
    control = await open_control(store, BlobStore(tmp_path / "blobs"), clock, rules)
    worker = OneWorker(control, clock)
    (first,) = await worker.submit()
    worker.end(first, CallEvent.SUCCEEDED, 0.001)
    yield worker
    await store.close()


async def test_a_worker_that_ends_short_calls_is_given_others_ahead(one: OneWorker) -> None:
    calls = await one.submit(3)

    assert list(one.given) == calls


async def test_a_call_that_was_cancelled_before_it_began_does_not_tell_that_its_worker_goes_on(one: OneWorker) -> None:
    running, cancelled = await one.submit(2)
    one.clock.skipped += 1.0  # it has been at that one call for so long

    await one.control.calls.cancel(WS, cancelled)
    one.end(cancelled, CallEvent.CANCELLED, 0.0)
    (later,) = await one.submit()

    assert list(one.given) == [running]
    one.end(running, CallEvent.SUCCEEDED, 0.001)
    await one.submit()
    assert later in one.given


async def test_a_call_whose_worker_was_killed_does_not_count_as_a_short_one(one: OneWorker) -> None:
    for _ in range(30):
        (call,) = await one.submit()
        one.end(call, CallEvent.SUCCEEDED, 1.0)
    for _ in range(30):
        (call,) = await one.submit()
        one.end(call, CallEvent.TIMED_OUT, 0.0)

    calls = await one.submit(3)

    assert list(one.given) == calls[:1]
