"""A server that takes over from one that was killed: a try whose end was kept, and is told again, does not count twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from relight.blobs.store import BlobStore
from relight.clock import SystemClock, now_ms
from relight.control.platform import Control, Rules, open_control
from relight.protocol import PROTOCOL
from relight.protocol.api import Await, Submit
from relight.protocol.calls import CallEvent, CallRequest, CallState
from relight.protocol.errors import Failure
from relight.protocol.ids import new_id
from relight.protocol.link import CallEnd, HeldWorker, Hello, Orders, Reports, RunCall, StartWorker, WorkerChange
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest, Retries
from relight.protocol.payload import Payload
from relight.protocol.workers import WorkerState
from relight.scheduler.loop import Timing
from relight.store.rows import NewVersion
from relight.store.store import open_store

WS = "default"
VALUE = Payload(format="json", data=b"1", size=1)
HELLO = Hello(node="n", incarnation="i", protocol=PROTOCOL, cpu=2.0, memory_mib=4096)


class Clock(SystemClock):
    """Goes on by itself, and further when the test says so."""

    skipped = 0.0

    def now(self) -> float:
        return super().now() + self.skipped

    def monotonic(self) -> float:
        return super().monotonic() + self.skipped


class Node:
    """A node with one worker, which outlives servers; it fails every call that the test lets end."""

    def __init__(self) -> None:
        self.started: StartWorker | None = None
        self.runs: list[RunCall] = []
        self.unacknowledged: list[CallEnd] = []
        self._changed = asyncio.Condition()

    def connect(self, control: Control) -> None:
        """Say what is here, and tell again what was not acknowledged."""
        self._control = control
        workers = () if self.started is None else (self._held(self.started),)
        control.nodes.connect(replace(HELLO, workers=workers), self._obey)
        if self.unacknowledged:
            control.nodes.report("n", Reports(ends=tuple(self.unacknowledged)))

    def _held(self, started: StartWorker) -> HeldWorker:
        numbers = {run.token: run.attempt for run in self.runs}
        calls = tuple((end.call, end.token, numbers[end.token]) for end in self.unacknowledged)
        return HeldWorker(
            worker=started.worker, spec=started.spec, state=WorkerState.BUSY, since=1.0, credit=1, calls=calls
        )

    def _obey(self, orders: Orders) -> None:
        self.runs += orders.run
        self._note = asyncio.ensure_future(self._tell())
        for start in orders.start:
            self.started = start
            ready = WorkerChange(worker=start.worker, state=WorkerState.READY, at=1.0)
            self._control.nodes.report("n", Reports(workers=(ready,)))

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def run(self, number: int) -> RunCall:
        """The run of that number, once it is asked for."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.runs) >= number)
        return self.runs[number - 1]

    def fail(self, run: RunCall) -> None:
        """It raised; the server's word that this is kept does not come."""
        failure = Failure(code="function_failed", message="it raised")
        end = CallEnd(
            call=run.call, token=run.token, outcome=CallEvent.FAILED, worker=run.worker, failure=failure, seconds=0.1
        )
        self.unacknowledged.append(end)
        self._control.nodes.report("n", Reports(ends=(end,)))


RETRIES = Retries(count=2, delay_seconds=60.0)


async def test_an_end_that_was_kept_before_its_server_died_is_not_counted_again(tmp_path: Path) -> None:
    image = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
    function = FunctionSpec(name="f", module="m", qualname="f", image=image, retries=RETRIES)
    manifest = Manifest(app="a", code=CodeBundle(digest="d" * 64, size=1, folder="/a"), functions=(function,))
    store = await open_store(tmp_path)
    row = NewVersion(workspace=WS, id="version-1", app="a", environment="main", manifest=manifest, at=1.0)
    await store.versions.deploy(row)
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
    call = CallRequest(id=new_id("call", now_ms()), app="a", function="f", payload=VALUE)
    node, clock = Node(), Clock()

    first = await open_control(store, BlobStore(tmp_path / "blobs"), clock, rules)
    node.connect(first)
    await first.calls.submit(WS, Submit(calls=(call,)))
    node.fail(await node.run(1))
    clock.skipped += 61.0
    first.scheduler.sweep()
    node.fail(await node.run(2))
    await store.calls.forget(0.0)  # which is written after both ends; here that server is killed
    second = await open_control(store, BlobStore(tmp_path / "blobs"), clock, rules)
    node.connect(second)
    clock.skipped += 61.0
    second.scheduler.sweep()
    node.fail(await node.run(3))
    await second.calls.wait(WS, Await(ids=(call.id,), wait_seconds=10.0))
    shown = await second.calls.show(WS, call.id)

    assert [run.attempt for run in node.runs] == [1, 2, 3]
    assert [one.outcome for one in shown.attempts] == ["retried", "retried", "failed"]
    assert (shown.call.state, shown.call.attempts) == (CallState.FAILED, 3)
    await store.close()
