"""A worker's room is given away when nothing of it is left, and its calls do not wait for that."""

from __future__ import annotations

import pytest

from relight.agent import slots
from relight.protocol.calls import CallEvent
from relight.sandbox.spec import SandboxExit


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
