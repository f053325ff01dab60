"""The output of a run: to the last line that its workers write as they leave, and no longer."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relight.blobs.store import BlobStore
from relight.clock import SystemClock, now_ms
from relight.control.platform import Control, Rules, open_control
from relight.protocol import PROTOCOL
from relight.protocol.api import Deploy, Submit
from relight.protocol.calls import CallRequest
from relight.protocol.ids import new_id
from relight.protocol.link import Hello, LogLines, Orders, Reports, WorkerChange
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest
from relight.protocol.payload import Payload
from relight.protocol.views import LogRecord, RunEnded
from relight.protocol.workers import WorkerState
from relight.scheduler.loop import Timing
from relight.store.store import open_store

WS, NODE = "default", "n1"
CODE = b"the code"
DIGEST = hashlib.sha256(CODE).hexdigest()
NOTHING = Payload(format="json", data=b"{}", size=2)


class Stage:
    """A run on a server, with one worker whose node the test plays."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.run = new_id("run", now_ms())
        self.worker = ""
        self._started = asyncio.Event()

    async def begin(self) -> None:
        image = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
        function = FunctionSpec(name="f", module="m", qualname="f", image=image)
        manifest = Manifest(app="a", code=CodeBundle(digest=DIGEST, size=len(CODE), folder="/a"), functions=(function,))
        await self.control.deploys.deploy(WS, Deploy(manifest=manifest, environment=self.run))
        hello = Hello(node=NODE, incarnation="agent-1", protocol=PROTOCOL, cpu=8.0, memory_mib=8000)
        self.control.nodes.connect(hello, self._hear)
        call = CallRequest(id=new_id("call", now_ms()), app="a", environment=self.run, function="f", payload=NOTHING)
        await self.control.calls.submit(WS, Submit(calls=(call,)))
        async with asyncio.timeout(10):
            await self._started.wait()
        self.say(WorkerState.READY)

    def say(self, state: WorkerState | None = None, *texts: str, batch: int = 0) -> None:
        """The node tells lines, a state of the worker, or both."""
        lines = (LogLines(worker=self.worker, at=1.0, source="stdout", texts=texts),) if texts else ()
        changes = (WorkerChange(worker=self.worker, state=state, at=1.0),) if state else ()
        self.control.nodes.report(NODE, Reports(workers=changes, logs=lines, log_batch=batch))

    async def read(self) -> list[str]:
        """All that a client of the run is shown, until its stream ends."""
        async with asyncio.timeout(20):
            shown = [one async for one in self.control.runs.attach(WS, self.run)]
        return [one.text if isinstance(one, LogRecord) else type(one).__name__ for one in shown]

    def _hear(self, orders: Orders) -> None:
        if orders.start:
            self.worker = orders.start[0].worker
            self._started.set()


async def code() -> AsyncIterator[bytes]:
    yield CODE


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    store = await open_store(tmp_path)
    blobs = BlobStore(tmp_path / "blobs")
    await blobs.put(code(), DIGEST)
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
    yield Stage(await open_control(store, blobs, SystemClock(), rules))
    await store.close()


async def stop(stage: Stage) -> asyncio.Task[list[str]]:
    """The run is over; who reads its output goes on reading."""
    reading = asyncio.create_task(stage.read(), name="reader")
    await turn()
    await stage.control.runs.stop(WS, stage.run, cancel=True)
    return reading


async def turn() -> None:
    passed = asyncio.Event()
    asyncio.get_running_loop().call_soon(passed.set)
    await passed.wait()


async def test_what_a_worker_writes_as_it_leaves_is_the_last_of_a_run(stage: Stage) -> None:
    await stage.begin()
    reading = await stop(stage)

    stage.say(None, "leaving", batch=1)
    stage.say(WorkerState.GONE, "left", batch=2)

    assert await reading == ["leaving", "left", RunEnded.__name__]


async def test_the_output_of_a_run_goes_on_while_a_worker_leaves(stage: Stage) -> None:
    await stage.begin()
    reading = await stop(stage)

    await turn()
    is_open = not reading.done()
    stage.say(WorkerState.GONE)

    assert is_open
    assert await reading == [RunEnded.__name__]


async def test_a_run_whose_node_died_ends_at_once(stage: Stage) -> None:
    await stage.begin()
    reading = await stop(stage)

    stage.control.nodes.died(NODE, "killed")

    assert (await reading)[-1] == RunEnded.__name__


async def test_a_run_without_workers_ends_at_once(stage: Stage) -> None:
    await stage.begin()
    stage.say(WorkerState.GONE)

    reading = await stop(stage)

    assert await reading == [RunEnded.__name__]
