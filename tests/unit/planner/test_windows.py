"""Against fixed windows: a plan costs no more than the best of them at the same cold share, and says by how much less.

Recorded traffic is taken from the folder that TEST_TRACES names, where there is one: CSV files as
`relight plan --trace` reads them.  Made traffic of the same two shapes, in bursts and at random, is always there.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from relight.metering.cards import load_cards
from relight.planner.costs import Holds
from relight.planner.options import Option, Targets, Workload, replay_all
from relight.planner.plan import make_plan
from relight.planner.policies import Policy
from relight.planner.traces import Trace, poisson, read_trace, trace_of
from relight.planner.windows import HALVINGS, closer

RUNPOD = {"runpod": load_cards()["runpod"]}
RECORDED = sorted(Path(os.environ.get("TEST_TRACES", "/nowhere")).glob("azure*.csv"))
FINE = [round(1.02 ** (5 * n), 2) for n in range(69)]  # 1 s to 840 s, each a tenth longer than the one before


def bursts(seed: int = 4) -> Trace:
    """A few calls at once, then silence of any length: gaps with a coefficient of variation far above 1."""
    chance, at = random.Random(seed), 0.0
    calls: list[tuple[float, float]] = []
    while at < 1.5 * 3600:
        at += chance.lognormvariate(3.0, 1.5)
        calls += [(at + chance.random() * 3, chance.expovariate(0.5)) for _ in range(1 + int(chance.expovariate(0.3)))]
    return trace_of(calls)


def at_random() -> Trace:
    return poisson(lambda at: 0.05, 0.05, 1.5 * 3600.0, 6.0, seed=6)


def workload(trace: Trace, cold_share: float) -> Workload:
    return Workload(trace=trace, holds=Holds(gpus=("H100",)), starts=(5.0,), targets=Targets(cold_share=cold_share))


def best_of_fine_windows(load: Workload) -> Option | None:
    options = replay_all(load, RUNPOD, [Policy(window_seconds=window) for window in FINE])
    return min((one for one in options if load.targets.are_met(one.outcome)), key=lambda one: one.nanos, default=None)


@pytest.mark.parametrize("made", [bursts, at_random])
@pytest.mark.parametrize("cold_share", [0.3, 0.1, 0.03])
def test_a_plan_costs_no_more_than_the_best_fixed_window_that_is_as_seldom_cold(
    made: Callable[[], Trace], cold_share: float
) -> None:
    load = workload(made(), cold_share)

    plan, found = make_plan(load, RUNPOD), best_of_fine_windows(load)

    assert plan.is_met
    assert plan.best.outcome.cold_share <= cold_share
    assert found is None or plan.best.nanos <= 1.01 * found.nanos
    assert plan.fixed is None or plan.best.nanos <= plan.fixed.nanos


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: str(path.stem))
def test_on_recorded_traffic_too(path: Path, record_property: Callable[[str, object], None]) -> None:
    trace = read_trace(path)
    said = []
    for window in (15.0, 60.0, 300.0):
        (fixed,) = replay_all(workload(trace, 1.0), RUNPOD, [Policy(window_seconds=window)])
        plan = make_plan(workload(trace, fixed.outcome.cold_share), RUNPOD)
        less = 1 - plan.best.nanos / fixed.nanos
        said.append(f"{window:g} s, {fixed.outcome.cold_share:.1%} cold: {plan.best.policy}, {less:.0%} less")

        assert plan.best.outcome.cold_share <= fixed.outcome.cold_share
        assert plan.best.nanos <= fixed.nanos
    record_property("figures", "; ".join(said))


def test_a_plan_says_by_how_much_it_costs_less_than_a_window() -> None:
    plan = make_plan(workload(at_random(), 0.05), RUNPOD)

    assert plan.fixed is not None
    assert plan.fixed.outcome.cold_share <= plan.best.outcome.cold_share
    assert plan.saving_on_windows() == (
        plan.fixed.nanos - plan.best.nanos,
        round(100 * (plan.fixed.nanos - plan.best.nanos) / plan.fixed.nanos),
    )


def test_a_window_is_found_between_those_of_the_grid() -> None:
    load = workload(at_random(), 0.2)
    grid = replay_all(load, RUNPOD, [Policy(window_seconds=window) for window in (5.0, 300.0)])
    assert [load.targets.are_met(one.outcome) for one in grid] == [False, True]

    tried = closer(load, RUNPOD, grid, load.targets.are_met)

    good = min(one.policy.window_seconds for one in tried if load.targets.are_met(one.outcome))
    bad = max(one.policy.window_seconds for one in tried if not load.targets.are_met(one.outcome))
    assert len(tried) == HALVINGS
    assert bad < good
    assert math.log(good / bad) == pytest.approx(math.log(300 / 5) / 2**HALVINGS, rel=0.1)
    assert closer(load, RUNPOD, grid, lambda outcome: False) == closer(load, RUNPOD, grid, lambda outcome: True) == []
