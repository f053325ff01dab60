"""The brake on crash loops: what counts, how long it holds, what lifts it, and what is said meanwhile."""

from __future__ import annotations

import pytest

from relight.protocol.errors import Failure
from relight.protocol.exits import WorkerExit
from relight.protocol.manifest import Scaling
from relight.protocol.workers import WorkerState
from relight.scheduler.brake import FORGET_SECONDS, LONGEST_SECONDS, Brake, Crash, crashed
from scheduled import World

OUT_OF_MEMORY = WorkerExit(reason="out_of_memory", signal=9, peak_memory_bytes=256 << 20)
FAILURE = Failure(code="worker_lost", message="a worker of f ran out of memory (out_of_memory)")


def crash(at: float, since: float | None = None, *, is_free: bool = True) -> Crash:
    return Crash(at=at, since=at if since is None else since, exit=OUT_OF_MEMORY, failure=FAILURE, is_free=is_free)


def waits(*crashes: Crash, longest: float = LONGEST_SECONDS) -> list[float]:
    """How long each of these crashes holds up the next start, in seconds."""
    brake, held = Brake(), []
    for one in crashes:
        brake = crashed(brake, one, longest)
        held.append(round(max(0.0, brake.blocked_until - one.at), 3))
    return held


def test_the_first_crash_is_free_and_each_one_after_it_waits_twice_as_long() -> None:
    assert waits(*(crash(40.0 * n) for n in range(12))) == [
        *(0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0)
    ]


def test_a_worker_that_could_not_be_started_is_not_free() -> None:
    assert waits(*(crash(40.0 * n, is_free=False) for n in range(3))) == [0.1, 0.2, 0.4]


def test_no_start_waits_longer_than_is_set() -> None:
    assert waits(*(crash(40.0 * n) for n in range(2000)), longest=0.5)[-1] == 0.5


def test_workers_that_were_up_together_count_as_one() -> None:
    together = [crash(100.0 + n, since=50.0) for n in range(10)]

    assert waits(*together) == [0.0] * 10
    assert waits(*together, crash(120.0))[-1] == 0.1


def test_a_crash_after_a_long_time_without_one_begins_anew() -> None:
    loop = [crash(40.0 * n) for n in range(5)]

    assert waits(*loop, crash(160.0 + FORGET_SECONDS))[-1] == 1.6
    assert waits(*loop, crash(170.0 + FORGET_SECONDS))[-1] == 0.0


# -- in the scheduler


def looping(**function: object) -> World:
    world = World(scaling=Scaling(max_workers=1), **function)
    world.node()
    return world


def crash_once(world: World, ending: WorkerExit = OUT_OF_MEMORY) -> float:
    """Its worker becomes ready, is given the call, and ends so; the call waits again, as control would have it.

    How long the start of that worker had to be waited for.
    """
    begin = world.clock.time
    while not world.scheduler.workers():
        world.advance(0.05)
    waited = world.clock.time - begin
    (worker,) = world.ready()
    ((call, token),) = world.runs()
    world.report(worker, WorkerState.GONE, exit=ending)
    assert world.scheduler.release(call, token) is not None
    world.submit(call)
    return waited


def test_a_call_that_kills_each_of_its_workers_waits_ever_longer_and_says_why() -> None:
    world = looping()
    world.submit("a")
    gaps = [crash_once(world) for _ in range(20)]
    reason = world.scheduler.why_waiting("a", world.key)

    assert gaps[:4] == pytest.approx([0.0, 0.0, 0.1, 0.2], abs=0.06)
    assert gaps[10:] == pytest.approx([25.6] + [LONGEST_SECONDS] * 9, abs=0.06)
    assert reason == (
        "crash_loop:out_of_memory: crash 20 in a row: cannot keep a worker of f: it ran out of memory (out_of_memory); "
        "it held 256 MiB; raise memory=, or use less; the next start is in 30.0 s"
    )


def test_one_call_that_ends_lifts_it() -> None:
    world = looping()
    world.submit("a")
    for _ in range(5):
        crash_once(world)
    world.advance(1.0)
    world.ready()

    world.end(*world.runs())
    (worker,) = world.scheduler.workers()
    world.report(worker.id, WorkerState.GONE, exit=OUT_OF_MEMORY)
    world.submit("b")

    assert world.brakes[-2:] == [Brake(), world.brakes[-1]]
    assert world.brakes[-1].crashes == 1
    assert len(world.started()) == 1  # at once


def test_another_version_starts_afresh() -> None:
    world = looping()
    world.submit("a")
    for _ in range(5):
        crash_once(world)
    new = world.function("g")

    world.submit("b", key=new)

    assert [start.spec.function.name for orders in world.flush() for start in orders.start] == ["g"]


@pytest.mark.parametrize("reason", ["stopped", "killed:timed_out", "killed:cancelled", "node_lost"])
def test_what_a_function_did_not_do_itself_is_not_held_against_it(reason: str) -> None:
    world = looping()
    world.submit("a")
    for _ in range(5):
        crash_once(world, WorkerExit(reason=reason))

    assert world.brakes == []


def test_a_scheduler_that_comes_back_goes_on_holding_it_up() -> None:
    world = looping()
    known = Brake(
        crashes=6,
        crashed_at=world.clock.time,
        blocked_until=world.clock.time + 1.6,
        exit=OUT_OF_MEMORY,
        failure=FAILURE,
    )
    key = world.key._replace(function="h", version="v-h")
    world.scheduler.restore_brakes({key: known})

    world.function("h", scaling=Scaling(max_workers=1))
    world.submit("a", key=key)
    held = world.started()
    world.advance(1.7)

    assert held == []
    assert len(world.started()) == 1
