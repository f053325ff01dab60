"""What is warned of: the figure and the bound by hand, and silence where there is nothing to say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relight.metering.cards import load_cards
from relight.planner.costs import Holds
from relight.planner.estimates import Past, estimate
from relight.planner.options import Workload
from relight.planner.policies import Capacity, Policy
from relight.planner.traces import DAY_SECONDS, Trace, poisson, steady
from relight.planner.watching import Bounds, Seen, Topic, busy_shares, findings

CARDS = load_cards()
PAIR = {name: CARDS[name] for name in ("runpod", "dedicated")}
H100 = Holds(gpus=("H100",))


def seen(trace: Trace, *, seconds: float | None = None, cold: int = 0, policy: Policy | None = None) -> Seen:
    return Seen(
        name="shop/answer",
        words="shop/answer",
        load=Workload(trace=trace, holds=H100, starts=(5.0,)),
        seconds=trace.length if seconds is None else seconds,
        calls=len(trace),
        cold=cold,
        policy=policy or Policy(),
    )


def test_a_function_that_is_busier_than_the_break_even_should_be_held() -> None:
    (found,) = findings(seen(steady(0.6, 60.0, 6000.0), seconds=6000.0), PAIR, Bounds())

    assert (found.topic, found.value, found.bound) == (Topic.UTILISATION, pytest.approx(0.6), pytest.approx(0.45))
    assert found.month_nanos == pytest.approx((0.6 * 4.47e9 - 2.0115e9) * 730, rel=1e-6)
    assert found.do == "relight scale shop/answer --min 1"
    assert findings(seen(steady(0.4, 60.0, 6000.0), seconds=6000.0), PAIR, Bounds()) == []


def test_workers_that_are_held_already_are_not_asked_for_again() -> None:
    held = Policy(capacity=Capacity.ACTIVE, workers=1)
    two_at_once = Trace([0.0, 0.0], [900.0, 600.0])

    assert findings(seen(steady(0.6, 60.0, 6000.0), policy=held), PAIR, Bounds()) == []
    assert busy_shares(Workload(trace=two_at_once), 1000.0) == [pytest.approx(0.9), pytest.approx(0.6)]
    (found,) = findings(seen(two_at_once, seconds=1000.0, policy=held), PAIR, Bounds())
    assert (found.value, found.do) == (pytest.approx(0.6), "relight scale shop/answer --min 2")


def test_silence_counts_as_time_in_which_nobody_was_busy() -> None:
    busy_for_an_hour = steady(0.9, 60.0, 3600.0)

    assert [one.topic for one in findings(seen(busy_for_an_hour), PAIR, Bounds())] == [Topic.UTILISATION]
    assert findings(seen(busy_for_an_hour, seconds=4 * 3600.0), PAIR, Bounds()) == []


def test_cold_calls_are_warned_of_above_their_bound() -> None:
    rare = steady(0.01, 1.0, 10_000.0)

    (found,) = findings(seen(rare, cold=20), PAIR, Bounds(cold_share=0.1))

    assert (found.topic, found.value, found.month_nanos) == (Topic.COLD, 0.2, 0)
    assert found.do == "relight plan shop/answer --cold 0.1"
    assert findings(seen(rare, cold=10), PAIR, Bounds(cold_share=0.1)) == []


def test_a_floor_by_day_is_advised_where_it_costs_less_than_what_there_is() -> None:
    by_day = poisson(lambda at: 0.1 if 9 <= at % DAY_SECONDS / 3600 < 17 else 0.0, 0.1, 2 * DAY_SECONDS, 6.0, seed=5)
    always = Policy(capacity=Capacity.ACTIVE, workers=2)
    trace = replace(by_day, begun_at=3 * 3600.0)
    at_runpod = {"runpod": CARDS["runpod"]}

    (found,) = findings(seen(trace, policy=Policy(window_seconds=300.0)), at_runpod, Bounds())

    assert found.topic is Topic.FLOOR
    assert found.value < found.bound
    assert found.month_nanos == pytest.approx((found.bound - found.value) * 1e9, rel=1e-6)
    assert "mon" not in found.do
    assert "12:00-20:00 UTC'" in found.do  # 9 to 17 h of a day that began at 3
    floors = replace(seen(trace, policy=Policy(window_seconds=300.0)), has_floors=True)
    assert findings(floors, at_runpod, Bounds()) == []
    assert all(one.topic is not Topic.UTILISATION for one in findings(seen(trace, policy=always), at_runpod, Bounds()))


def test_too_little_to_go_by_says_nothing() -> None:
    assert findings(seen(steady(0.9, 6.0, 300.0), cold=40), PAIR, Bounds()) == []
    assert findings(seen(Trace([], []), seconds=9999.0), PAIR, Bounds()) == []


def test_an_estimate_is_the_time_of_before_at_the_price_of_now_by_hand() -> None:
    known = estimate(CARDS["runpod"], H100, Past(calls=4, billed_us=10_000_000))
    unknown = estimate(CARDS["beam"], H100, Past(calls=4, billed_us=10_000_000))
    never = estimate(CARDS["runpod"], H100, Past())

    assert (known.flex_hour_nanos, known.active_hour_nanos) == (4_470_000_000, 3_576_000_000)
    assert (known.call_nanos, known.call_seconds) == (3_104_167, 2.5)  # 2.5 s at 4.47 $/h
    assert (unknown.flex_hour_nanos, unknown.call_nanos) == (None, None)
    assert (never.call_nanos, never.call_seconds, never.calls) == (None, None, 0)
