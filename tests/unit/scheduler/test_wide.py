"""Workers that run several calls at once: who gets the next call, and how many workers there are to be."""

from __future__ import annotations

import pytest

from relight.protocol.manifest import Batching, Concurrency, MethodSpec, Scaling
from relight.scheduler.autoscale import Load
from scheduled import World, wanted_workers


def world(max_inputs: int, target_inputs: int, **more: object) -> World:
    made = World(concurrency=Concurrency(max_inputs=max_inputs, target_inputs=target_inputs), **more)
    made.node()
    return made


def loads(of: World) -> list[int]:
    """How many calls each worker has, most first."""
    return sorted((len(worker.calls) for worker in of.scheduler.workers()), reverse=True)


def test_there_is_a_worker_for_each_target_of_calls() -> None:
    made = world(4, 2)

    made.submit(*"abcde")

    assert len(made.started()) == 3


def test_one_worker_is_filled_to_its_most_while_no_other_may_come() -> None:
    made = world(3, 1, scaling=Scaling(max_workers=1))

    made.submit(*"abcde")
    made.ready()

    assert len(made.runs()) == 3
    assert made.scheduler.why_waiting("e", made.key).startswith("at_max_workers")


def test_the_fullest_below_its_target_is_next_so_that_others_become_idle() -> None:
    made = world(4, 4, scaling=Scaling(min_workers=3))
    made.ready(3)

    made.submit(*"abcd")
    packed = loads(made)
    made.submit("e", "f")

    assert (packed, loads(made)) == ([4, 0, 0], [4, 2, 0])


def test_past_their_targets_the_one_with_fewest_is_next() -> None:
    made = world(4, 1, scaling=Scaling(min_workers=2, max_workers=2))
    made.ready(2)

    made.submit(*"abcdef")

    assert loads(made) == [3, 3]


def test_a_worker_that_is_long_at_one_call_takes_others() -> None:
    made = world(2, 2, scaling=Scaling(max_workers=1))
    made.submit("a")
    made.ready()
    made.runs()
    made.clock.time += 100.0

    made.submit("b")

    assert [call for call, _ in made.runs()] == ["b"]


def test_a_batched_function_takes_a_batch_for_each_input() -> None:
    batching = Batching(max_batch_size=10, wait_seconds=0.1)
    made = World(methods=(MethodSpec(batching=batching),), scaling=Scaling(max_workers=1))
    made.node()

    made.submit(*(f"c{n}" for n in range(15)))
    made.ready()

    assert len(made.runs()) == 10


@pytest.mark.parametrize(
    ("load", "workers"),
    [
        (Load(waiting=0, held=5, target=4), 2),
        (Load(waiting=3, held=5, target=4), 2),
        (Load(waiting=4, held=5, target=4), 3),
        (Load(waiting=1000, held=0, target=10, mean_seconds=0.001), 1),
        (Load(waiting=0, target=4), 0),
    ],
)
def test_the_calls_that_run_and_wait_are_counted_by_the_target(load: Load, workers: int) -> None:
    assert wanted_workers(load, Scaling()) == workers
