"""What a worker counts as that asks for no CPU, and how many of them a node takes."""

from __future__ import annotations

import pytest

from relight.protocol.link import Hello
from relight.protocol.manifest import Resources, Scaling
from relight.protocol.workers import WorkerState
from relight.scheduler.appetite import LEAST_CPU, Appetite
from relight.scheduler.placement import DEFAULT_CPU
from scheduled import World


def seen(calls: int, seconds: float, cpu_seconds: float, appetite: Appetite | None = None) -> Appetite:
    appetite = appetite or Appetite()
    for _ in range(calls):
        appetite.note(seconds, cpu_seconds)
    return appetite


def test_nobody_knows_at_first() -> None:
    assert Appetite().cores == DEFAULT_CPU


@pytest.mark.parametrize(
    ("seconds", "cpu_seconds", "cores"),
    [(0.1, 0.0005, LEAST_CPU), (0.1, 0.005, 0.05), (0.1, 0.1, DEFAULT_CPU), (0.1, 3.0, DEFAULT_CPU), (1e-4, 0, 0.12)],
    ids=["sleeps", "calculates a little", "calculates", "by several threads", "too short to say much"],
)
def test_it_is_what_calls_take(seconds: float, cpu_seconds: float, cores: float) -> None:
    calls = 100 if seconds > 0.01 else 3

    assert seen(calls, seconds, cpu_seconds).cores == pytest.approx(cores, abs=0.006)


def test_a_round_of_calls_is_enough_to_know_and_to_be_wrong_again() -> None:
    sleeps = seen(16, 0.1, 0.001)
    low = sleeps.cores
    seen(16, 0.1, 0.1, sleeps)

    assert (low <= 0.04, sleeps.cores) == (True, DEFAULT_CPU)


def crowd(world: World, rounds: int, cpu_us: int | None) -> int:
    """So many workers a node of two cores comes to have while rounds of calls end after a tenth of a second each."""
    world.scheduler.connect(Hello(node="n1", incarnation="i1", protocol=1, cpu=2.0, memory_mib=100_000))
    world.submit(*(f"c{number}" for number in range(1000)))
    for _ in range(rounds):
        while starting := world.started():
            for worker in starting:
                world.report(worker, WorkerState.READY)
        world.clock.time += 0.1
        for call, token in world.runs():
            assert world.scheduler.release(call, token, 0.1, cpu_us) is not None
        world.scheduler.refill([world.key])
    return len(world.scheduler.workers())


@pytest.mark.parametrize(
    ("cpu_us", "workers"), [(500, 50), (100_000, 16), (None, 16)], ids=["sleep", "calculate", "do not say"]
)
def test_as_many_workers_fit_on_a_node_as_their_calls_let(cpu_us: int | None, workers: int) -> None:
    world = World(scaling=Scaling(max_workers=50))

    assert crowd(world, 10, cpu_us) == workers


def test_what_was_asked_for_is_what_it_counts_as() -> None:
    world = World(scaling=Scaling(max_workers=50), resources=Resources(cpu=0.5))

    assert crowd(world, 10, 500) == 4
