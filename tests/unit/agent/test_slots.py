"""A worker's room is given away when nothing of it is left, and its calls do not wait for that."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from relight.agent import slots
from relight.agent.slots import Slots
from relight.agent.worker import Worker
from relight.protocol.calls import CallEvent
from relight.sandbox.spec import SandboxExit


class Gpus:
    """Devices whose memory is free when a test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.free = asyncio.Event()

    async def wait_free(self, gpus: tuple[str, ...]) -> None:
        self.asked.append(gpus)
        await self.free.wait()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "LATE_SECONDS", 0.0)


async def test_a_room_with_a_process_left_in_it_is_not_free_but_its_call_goes_on_elsewhere(bench):
    _, sandbox = await bench.running()
    sandbox.emptied.clear()

    sandbox.end(SandboxExit(signal=9, out_of_memory=True, peak_memory_bytes=256 << 20))
    await bench.settle()
    between, ends = bench.states(), list(bench.ends)
    sandbox.emptied.set()
    await bench.settle()

    assert between == ["starting", "ready", "draining"]
    assert [end.outcome for end in ends] == [CallEvent.LEASE_LOST]
    assert ends[0].failure.exit.reason == "out_of_memory"
    assert bench.states() == [*between, "gone"]
    assert bench.changes[-1].exit == ends[0].failure.exit


async def test_a_room_whose_gpu_holds_memory_is_not_free(bench):
    gpus = Gpus()
    around = replace(bench.around, slots=Slots(gpus))
    worker = Worker("worker-1", replace(bench.spec(), gpus=("gpu-0",)), around)
    bench._tasks.create_task(worker.live())
    await bench.settle()

    bench.sandboxes.started[-1].end(SandboxExit(signal=9))
    await bench.settle()
    between = bench.states()
    gpus.free.set()
    await bench.settle()

    assert (gpus.asked, between[-1], bench.states()[-1]) == ([("gpu-0",)], "draining", "gone")


async def test_a_worker_without_gpus_asks_nobody_about_them(bench):
    gpus = Gpus()
    worker = Worker("worker-1", bench.spec(), replace(bench.around, slots=Slots(gpus)))
    bench._tasks.create_task(worker.live())
    await bench.settle()

    bench.sandboxes.started[-1].end(SandboxExit(code=0))
    await bench.settle()

    assert (gpus.asked, bench.states()[-1]) == ([], "gone")


async def test_a_node_that_leaves_waits_for_no_room(bench):
    _, sandbox = await bench.running()
    sandbox.emptied.clear()
    sandbox.end(SandboxExit(signal=9))
    await bench.settle()

    bench.around.slots.close()
    await bench.settle()

    assert bench.states()[-1] == "gone"


async def test_no_call_is_taken_by_a_worker_that_has_ended(bench):
    worker, sandbox = await bench.ready()
    sandbox.emptied.clear()
    sandbox.end(SandboxExit(signal=9))
    await bench.settle()

    bench.give(worker, bench.order("call-2", 2))
    await bench.settle()

    (end,) = bench.ends
    assert (end.call, end.outcome, end.is_charged) == ("call-2", CallEvent.LEASE_LOST, False)
