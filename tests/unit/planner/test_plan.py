"""Plans: what they choose is what a search through everything finds, and what practice does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relight.metering.cards import load_cards
from relight.planner.costs import Holds, Horizon, cost
from relight.planner.formulas import break_even, concurrency, expect, held_workers
from relight.planner.gpus import advise, choose_gpus, memory_gb
from relight.planner.options import Option, Targets, Workload, replay_all
from relight.planner.plan import make_plan
from relight.planner.policies import Capacity, Policy
from relight.planner.simulator import simulate
from relight.planner.traces import DAY_SECONDS, Trace, poisson, steady
from relight.planner.windows import WINDOWS
from relight.planner.workloads import KINDS, plan_for, provider_for
from relight.protocol.errors import InvalidRequest

CARDS = load_cards()
ON_RUNPOD = {name: CARDS[name] for name in ("runpod", "dedicated")}
H100 = Holds(gpus=("H100",))


def every_policy(most: int = 3) -> list[Policy]:
    """All that a plan might choose for a worker or two of load, and more."""
    windows = sorted({*WINDOWS, 2.0, 3.0, 10.0, 30.0, 120.0, 600.0})
    flex = [Policy(window_seconds=window, buffer_workers=buffer) for window in windows for buffer in (0, 1, 2)]
    held = [
        Policy(capacity=capacity, workers=count, window_seconds=window)
        for capacity in (Capacity.ACTIVE, Capacity.DEDICATED)
        for count in range(1, most + 1)
        for window in (windows if capacity is Capacity.ACTIVE else [60.0])
    ]
    return [*flex, *held]


def best_of_all(load: Workload) -> Option:
    options = [one for one in replay_all(load, ON_RUNPOD, every_policy()) if load.targets.are_met(one.outcome)]
    return min(options, key=lambda one: one.nanos)


@pytest.mark.parametrize(
    ("utilisation", "chosen"),
    [
        (0.1, Capacity.FLEX),
        (0.3, Capacity.FLEX),
        (0.45, Capacity.DEDICATED),
        pytest.param(0.6, Capacity.DEDICATED, marks=pytest.mark.slow),
        pytest.param(0.9, Capacity.DEDICATED, marks=pytest.mark.slow),
    ],
)
def test_on_steady_load_a_plan_goes_from_flex_to_dedicated_where_an_exhaustive_search_does(
    utilisation: float, chosen: Capacity
) -> None:
    load = Workload(trace=steady(utilisation, 60.0, 12 * 3600.0), holds=H100, starts=(2.0,))

    plan, found = make_plan(load, ON_RUNPOD), best_of_all(load)

    assert plan.best.policy.capacity is found.policy.capacity is chosen
    assert found.nanos <= plan.best.nanos <= 1.02 * found.nanos
    assert Capacity.ACTIVE is not found.policy.capacity, (
        "at 0.8 of flex, active never wins on steady load and cost alone"
    )


@pytest.mark.slow
def test_active_wins_where_waits_must_be_short_and_there_are_no_machines_to_hold() -> None:
    trace = steady(0.1, 6.0, 6 * 3600.0)
    load = Workload(trace=trace, holds=H100, starts=(20.0,), targets=Targets(wait_p95=1.0, cold_share=0.0))

    plan = make_plan(load, {"runpod": CARDS["runpod"]})

    assert (plan.best.policy.capacity, plan.best.policy.workers) == (Capacity.ACTIVE, 1)
    assert plan.best.outcome.wait(0.95) == 0.0


@pytest.mark.slow
def test_active_wins_for_a_part_of_the_day_over_machines_that_are_held_at_night_too() -> None:
    trace = poisson(lambda at: 0.03 if 9 <= at % DAY_SECONDS / 3600 < 17 else 0.0, 0.03, 3 * DAY_SECONDS, 6.0, seed=5)
    load = Workload(trace=trace, holds=H100, starts=(30.0,), targets=Targets(wait_p95=5.0))

    plan = make_plan(load, ON_RUNPOD)

    assert plan.best.policy.capacity is Capacity.ACTIVE
    assert [(one.begin, one.end) for one in plan.best.policy.hours] == [(9, 17)]
    held = Policy(capacity=Capacity.DEDICATED, workers=2)
    assert plan.best.nanos < (cost(CARDS["dedicated"], simulate(trace, held, (30.0,)), held, H100) or 0)


@pytest.mark.slow
def test_active_wins_for_a_day_where_machines_are_held_for_a_month_at_the_least() -> None:
    once = Workload(
        trace=steady(0.5, 6.0, 6 * 3600.0),
        holds=H100,
        starts=(20.0,),
        targets=Targets(wait_p95=1.0, cold_share=0.0),
        horizon=Horizon(recurs=False),
    )

    assert make_plan(once, ON_RUNPOD).best.policy.capacity is Capacity.ACTIVE
    assert make_plan(replace(once, horizon=Horizon()), ON_RUNPOD).best.policy.capacity is Capacity.DEDICATED


def test_what_dedicated_capacity_costs_by_hand() -> None:
    policy = Policy(capacity=Capacity.DEDICATED, workers=2)
    outcome = simulate(steady(0.5, 60.0, 3000.0), policy, (0.0,))

    again = cost(CARDS["dedicated"], outcome, policy, H100)
    once = cost(CARDS["dedicated"], outcome, policy, H100, Horizon(recurs=False))

    assert outcome.length == 2940.0
    assert again == 3_285_450_000  # 2 × 2940 s × 2.0115 $/h
    assert once == 2 * 720 * 2_011_500_000  # a month at the least
    assert cost(CARDS["runpod"], outcome, policy, H100) is None


def test_what_flex_and_active_cost_by_hand() -> None:
    outcome = simulate(Trace([0.0, 0.0], [100.0, 100.0]), Policy(capacity=Capacity.ACTIVE, workers=1), (10.0,))

    # held to the end: 110 s at 3.576 $/h; beside it one from the first call on: 10 + 100 s at 4.47
    assert cost(CARDS["runpod"], outcome, Policy(capacity=Capacity.ACTIVE, workers=1), H100) == 245_850_000


def test_a_plan_that_cannot_keep_its_targets_says_so_and_names_what_comes_nearest() -> None:
    load = Workload(trace=steady(0.5, 60.0, 3600.0), holds=H100, starts=(2.0,), targets=Targets(budget_nanos=1))

    assert not make_plan(load, ON_RUNPOD).is_met


def test_a_plan_without_a_price_is_refused() -> None:
    load = Workload(trace=steady(0.5, 60.0, 3600.0), holds=Holds(gpus=("ABACUS",)))

    with pytest.raises(InvalidRequest, match="none of the cards runpod, dedicated has a price for ABACUS"):
        make_plan(load, ON_RUNPOD)


def test_the_formulas_say_what_they_do_by_hand() -> None:
    two_at_once = Trace([0.0, 0.0], [5.0, 10.0])

    assert concurrency(two_at_once) == {0: 0.0, 2: 0.5, 1: 0.5}
    assert [held_workers(two_at_once, ratio) for ratio in (0.4, 0.6, 1.0)] == [2, 1, 0]
    assert break_even(45, 100) == 0.45
    assert break_even(45, 100, workers=3, efficiency=2.0) == pytest.approx(0.3)
    assert expect(Workload(trace=two_at_once, holds=H100, starts=(1.0, 3.0)), ON_RUNPOD).window_seconds == 2.0


def test_an_h200_beats_an_h100_on_runpods_card() -> None:
    by_price = choose_gpus(30, {"runpod": CARDS["runpod"]})
    by_work = choose_gpus(30, {"runpod": CARDS["runpod"]}, wants_throughput=True)

    assert [one.gpu for one in by_work if one.gpu.startswith("H")] == ["H200", "H100"]
    assert by_work[0].gpu == "H200"
    assert by_price[0].gpu == "A100-80GB"


def test_a_model_of_70b_needs_two_devices_or_fewer_bits() -> None:
    whole = choose_gpus(70, {"runpod": CARDS["runpod"]})

    assert memory_gb(70) == 140
    assert {one.gpu: one.count for one in whole}["A100-80GB"] == 2
    assert choose_gpus(70, {"runpod": CARDS["runpod"]}, "int4")[0].count == 1
    assert "take 2 devices of 80 GB, or quantise" in advise(70)
    assert "one device is enough" in advise(7)


PRACTICE = {
    "bursty": {Capacity.FLEX},
    "latency-critical": {Capacity.ACTIVE, Capacity.DEDICATED},
    "prototyping": {Capacity.FLEX},
    "training": {Capacity.FLEX, Capacity.ACTIVE},  # on for the length of it: no month is paid for 8 hours
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PRACTICE)
def test_each_class_of_workloads_gets_the_advice_that_practice_gives_with_its_figure(name: str) -> None:
    kind = KINDS[name]

    plan = plan_for(kind, CARDS)

    assert plan.best.policy.capacity in PRACTICE[name], plan.reason
    assert plan.is_met
    assert plan.best.nanos > 0
    assert plan.reason


@pytest.mark.slow
def test_a_hybrid_takes_its_own_machine_where_that_is_cheaper() -> None:
    plan = plan_for(KINDS["hybrid"], CARDS)

    assert plan.best.card == "own-h100"
    elsewhere = plan_for(replace(KINDS["hybrid"], cards=("runpod", "modal")), CARDS)
    assert plan.best.nanos < elsewhere.best.nanos


def test_what_matters_most_decides_on_the_provider() -> None:
    answers = {
        matters: provider_for(matters, CARDS, "A100-80GB") for matters in ("cost", "existing models", "team skill")
    }

    assert {matters: answer[0] for matters, answer in answers.items()} == {
        "cost": "runpod",
        "existing models": "replicate",
        "team skill": "modal",
    }
    assert "2.17 $ an hour" in answers["cost"][1]
