"""How many calls a second the server's own part passes on while others wait: store, control and scheduler, and a node
that ends each call at once.

    python bench/scaledispatch.py WAITING     reads numbers of calls, and passes on so many for each

Each end submits another call, so as many wait after a round as before.  Two of these that are asked in turns, one with few
and one with many waiting, see the same machine, however uneven it is; and CPU time is counted beside the clock's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from relight.blobs.store import BlobStore
from relight.clock import SystemClock, now_ms
from relight.control.platform import Control, Rules, open_control
from relight.protocol import PROTOCOL
from relight.protocol.api import Submit
from relight.protocol.calls import CallEvent, CallRequest
from relight.protocol.ids import new_id
from relight.protocol.link import CallEnd, Hello, Orders, Reports, WorkerChange
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest, Resources, Scaling
from relight.protocol.payload import Payload
from relight.protocol.versions import How, Switch
from relight.protocol.workers import WorkerState
from relight.scheduler.loop import Timing
from relight.store.rows import NewVersion
from relight.store.store import Store, open_store

SETTLE_SECONDS = 0.3
"""Until then what is written a moment later is on its way."""

VALUE = Payload(format="json", data=b'{"args":[1],"kwargs":{}}', size=24)


class Node:
    """Starts what it is told at once, and ends each call as soon as it has it; each end submits another call."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._left = 0
        self._kept: list[Orders] = []  # between two rounds
        self._done = asyncio.Event()
        self._tasks: set[asyncio.Task[object]] = set()

    def connect(self) -> None:
        """Its link is up."""
        hello = Hello(node="n", incarnation="i", protocol=PROTOCOL, cpu=1e6, memory_mib=10**9)
        self._control.nodes.connect(hello, self.obey)

    async def round(self, calls: int) -> tuple[float, float]:
        """Seconds until so many have ended, and the CPU time of this process in them."""
        self._left = calls
        self._done.clear()
        kept, self._kept = self._kept, []
        began, used = time.perf_counter(), time.process_time()
        for orders in kept:
            self.obey(orders)
        await self._done.wait()
        took = time.perf_counter() - began, time.process_time() - used
        await asyncio.gather(*self._tasks)
        return took

    def obey(self, orders: Orders) -> None:
        """Do as it is told, in the next turn of the loop; after a round, with the next one."""
        if self._left <= 0:
            self._kept.append(orders)
            return
        now = time.time()
        changes = tuple(WorkerChange(worker=one.worker, state=WorkerState.READY, at=now) for one in orders.start)
        ends = tuple(
            CallEnd(
                call=run.call,
                token=run.token,
                outcome=CallEvent.SUCCEEDED,
                worker=run.worker,
                result=VALUE,
                seconds=1.0,
            )
            for run in orders.run
        )
        if changes or ends:
            asyncio.get_running_loop().call_soon(self._report, changes, ends)

    def _report(self, changes: tuple[WorkerChange, ...], ends: tuple[CallEnd, ...]) -> None:
        self._control.nodes.report("n", Reports(workers=changes, ends=ends))
        self._left -= len(ends)
        if self._left <= 0:
            self._done.set()
        if ends:
            again = [request(f"f{hash(end.call) % 200}") for end in ends]
            work = self._control.calls.submit("default", Submit(calls=tuple(again), is_quiet=True))
            task: asyncio.Task[object] = asyncio.get_running_loop().create_task(work, name="bench.submit")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def request(function: str) -> CallRequest:
    """One more call."""
    return CallRequest(id=new_id("call", now_ms()), app="a", function=function, payload=VALUE)


@asynccontextmanager
async def waiting_node(*, functions: int, waiting: int) -> AsyncIterator[Node]:
    """A node of a server on which so many calls wait, of functions with one worker each."""
    with tempfile.TemporaryDirectory() as folder:
        store = await open_store(Path(folder))
        try:
            await _deploy(store, functions)
            rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=0.25))
            control = await open_control(store, BlobStore(Path(folder) / "blobs"), SystemClock(), rules)
            for begin in range(0, waiting, 1000):
                some = [request(f"f{n % functions}") for n in range(begin, min(begin + 1000, waiting))]
                await control.calls.submit("default", Submit(calls=tuple(some), is_quiet=True))
            node = Node(control)
            running = asyncio.get_running_loop().create_task(control.run(), name="bench.control")
            node.connect()
            try:
                yield node
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await asyncio.sleep(SETTLE_SECONDS)
        finally:
            await store.close()


async def _deploy(store: Store, functions: int) -> None:
    image = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
    specs = tuple(
        FunctionSpec(
            name=f"f{n}",
            module="m",
            qualname="f",
            image=image,
            scaling=Scaling(max_workers=1),
            resources=Resources(cpu=0.01, memory_mib=16),
        )
        for n in range(functions)
    )
    manifest = Manifest(app="a", code=CodeBundle(digest="d" * 64, size=1, folder="/a"), functions=specs)
    row = NewVersion(workspace="default", id="version-1", app="a", environment="main", manifest=manifest, at=1.0)
    await store.versions.deploy(row, Switch(at=1.0, how=How.DEPLOY, version="version-1"))


async def serve(waiting: int) -> None:
    """Pass on as many calls as each line of the input says, and answer with what that took."""
    async with waiting_node(functions=200, waiting=waiting) as node:
        while line := await asyncio.to_thread(sys.stdin.readline):
            seconds, cpu_seconds = await node.round(int(line))
            print(json.dumps([seconds, cpu_seconds]), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
