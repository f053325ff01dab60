"""Replays: what a trace comes to under a policy, by hand where it can be, and the same each time."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.planner.policies import Capacity, Hours, Policy
from relight.planner.simulator import SWEEP_SECONDS, simulate
from relight.planner.traces import Trace, poisson, read_trace, steady, trace_of
from relight.protocol.errors import InvalidRequest


def test_calls_far_apart_are_cold_and_their_workers_leave_after_their_window() -> None:
    outcome = simulate(steady(0.1, 10.0, 1000.0), Policy(window_seconds=5.0), [2.0])

    assert (outcome.calls, outcome.cold, outcome.starts) == (10, 10, 10)
    assert outcome.wait(0.5) == 2.0
    assert outcome.starting_seconds == pytest.approx(20.0, abs=0.01)
    assert outcome.idle_seconds == pytest.approx(9 * 5.0, abs=9 * 2 * SWEEP_SECONDS)  # the last stays to the end


def test_calls_within_the_window_find_the_worker_of_the_first() -> None:
    outcome = simulate(steady(0.1, 10.0, 1000.0), Policy(window_seconds=100.0), [2.0])

    assert (outcome.cold, outcome.starts) == (1, 1)
    assert outcome.busy_seconds == pytest.approx(100.0)


def test_a_floor_is_there_before_the_first_call_and_never_leaves() -> None:
    outcome = simulate(
        steady(0.1, 10.0, 1000.0), Policy(capacity=Capacity.ACTIVE, workers=1, window_seconds=1.0), [0.0]
    )

    assert (outcome.cold, outcome.starts) == (0, 1)
    assert outcome.worker_seconds == pytest.approx(outcome.length, abs=0.01)
    assert [life.is_held for life in outcome.lives] == [True]


def test_dedicated_capacity_does_not_grow_and_calls_wait_their_turn() -> None:
    outcome = simulate(Trace([0.0, 0.0, 0.0], [1.0] * 3), Policy(capacity=Capacity.DEDICATED, workers=1), [0.0])

    assert (outcome.starts, outcome.waits) == (1, [0.0, 1.0, 2.0])


def test_many_at_once_have_a_worker_each_where_calls_are_long() -> None:
    outcome = simulate(Trace([0.0] * 20, [30.0] * 20), Policy(), [1.0])

    assert (outcome.starts, outcome.cold, outcome.wait(0.99)) == (20, 20, 1.0)


def test_a_buffer_takes_what_comes_beside_the_others() -> None:
    trace = Trace([10.0, 11.0], [5.0, 5.0])

    assert simulate(trace, Policy(buffer_workers=1), [0.5]).cold == 0
    assert simulate(trace, Policy(), [0.5]).cold == 2


def test_a_floor_by_the_hour_is_there_when_its_hour_begins_and_leaves_after_it() -> None:
    day = Policy(capacity=Capacity.ACTIVE, hours=(Hours(begin=8, end=16, workers=2),), window_seconds=60.0)
    trace = Trace([8.5 * 3600, 20 * 3600, 47 * 3600], [1.0] * 3)

    outcome = simulate(trace, day, [3.0])

    assert outcome.cold == 2  # at 20 h and at 47 h nobody was held
    assert outcome.worker_seconds == pytest.approx(2 * 2 * 8 * 3600 + 2 * 64, rel=0.01)


def test_one_that_was_not_idle_for_long_leaves_later_than_its_neighbour() -> None:
    outcome = simulate(Trace([0.0, 0.0, 900.0], [1.0, 1.1, 1.0]), Policy(window_seconds=10.0), [0.0])

    assert outcome.starts == 3
    assert max(life.idle_us for life in outcome.lives) < 10.6e6


CALLS = st.lists(st.tuples(st.floats(0, 500), st.floats(0.001, 50)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(CALLS, st.integers(0, 3), st.integers(0, 2), st.sampled_from([1.0, 20.0]))
def test_time_adds_up_and_every_call_begins_once(
    calls: list[tuple[float, float]], floor: int, buffer: int, window: float
) -> None:
    trace = trace_of(calls)
    policy = Policy(workers=floor, buffer_workers=buffer, window_seconds=window, capacity=Capacity.ACTIVE)

    outcome = simulate(trace, policy, [0.1, 1.0])

    assert outcome.calls == len(trace)
    assert all(before <= after for before, after in pairwise(outcome.waits))
    assert outcome.cold <= outcome.starts * max(1, len(trace))
    assert all(min(life.starting_us, life.busy_us, life.idle_us) >= 0 for life in outcome.lives)
    assert outcome.busy_seconds == pytest.approx(sum(trace.seconds), abs=1e-3)


def test_a_replay_is_the_same_each_time_and_another_seed_another() -> None:
    trace = poisson(lambda at: 2.0, 2.0, 300.0, 1.0, seed=3)
    runs = [simulate(trace, Policy(window_seconds=1.0), [0.1, 2.0], seed=seed) for seed in (1, 1, 2)]

    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.slow
def test_a_million_calls_take_less_than_a_minute() -> None:
    trace = Trace([n / 100 for n in range(1_000_000)], [0.4] * 1_000_000)
    told: list[int] = []
    begin = time.perf_counter()

    outcome = simulate(trace, Policy(), [0.05], progress=told.append)

    assert time.perf_counter() - begin < 60
    assert outcome.calls == told[-1] == 1_000_000


def test_traces_are_read_from_what_people_have(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(
        "arrived,seconds,model\n2024-11-15 16:57:50,32.0,a\n2024-11-15 16:57:40,4,b\n2024-11-15 16:58:50,,a\n"
    )

    assert read_trace(path) == Trace([0.0, 10.0], [4.0, 32.0])
    assert read_trace(path, only="model=a") == Trace([0.0], [32.0])
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,1000,10\n")
    assert read_trace(path).seconds == [pytest.approx(0.25)]
    path.write_text("when,what\n1,2\n")
    with pytest.raises(InvalidRequest, match="its header is when, what"):
        read_trace(path)
