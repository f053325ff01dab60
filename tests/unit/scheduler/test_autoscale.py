"""The autoscaler alone: what it is shown, what it says, and that it always says the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Floor, MetricTarget, Scaling
from relight.scheduler.autoscale import Autoscaler, Decision, Load, Observation
from relight.scheduler.expectation import FEWEST_PAUSES, Expectation
from relight.scheduler.floors import check_floor, floor_at

BERLIN = ZoneInfo("Europe/Berlin")


@dataclass
class Scaled:
    """A function whose workers are as many as were decided, at once."""

    scaling: Scaling
    now: float = 0.0
    workers: int = 0
    scaler: Autoscaler = field(init=False)

    def __post_init__(self) -> None:
        self.scaler = Autoscaler(self.scaling)

    def seen(self, stuck: int = 0, **more: object) -> Observation:
        load = Load(waiting=0, stuck=stuck, mean_seconds=10.0)
        return Observation(now=self.now, unix=self.now, load=load, workers=self.workers, **more)  # type: ignore[arg-type]  # shorthand

    def decide(self, stuck: int = 0, **more: object) -> Decision:
        """With calls enough for so many workers."""
        decision = self.scaler.decide(self.seen(stuck, **more))
        self.workers = max(self.workers, decision.workers)
        return decision


def test_from_zero_all_that_calls_need_is_wanted_at_once_whatever_the_delay() -> None:
    scaled = Scaled(Scaling(scaleup_delay_seconds=5.0))

    assert (scaled.decide(7).workers, scaled.decide(7).why) == (7, "calls")


def test_more_load_is_answered_when_it_has_lasted_for_the_delay_and_not_before() -> None:
    scaled = Scaled(Scaling(scaleup_delay_seconds=5.0), workers=4)
    first = scaled.decide(5)
    scaled.now = 4.9
    held = scaled.decide(5)
    scaled.now = 5.0

    assert (first.workers, first.why, first.again_seconds) == (4, "delay", 5.0)
    assert (held.workers, round(held.again_seconds or 0, 3)) == (4, 0.1)
    assert scaled.decide(5).workers == 5


def test_load_that_went_in_between_begins_its_delay_anew() -> None:
    scaled = Scaled(Scaling(scaleup_delay_seconds=5.0), workers=4)
    scaled.decide(5)
    scaled.now = 3.0
    scaled.decide(4)
    scaled.now = 6.0

    assert scaled.decide(5).workers == 4


def test_a_burst_waits_for_no_delay_and_nobody_leaves_for_a_window_after_it() -> None:
    scaled = Scaled(Scaling(scaleup_delay_seconds=5.0, panic_factor=2.0, scaledown_window_seconds=30.0), workers=4)

    burst = scaled.decide(8)
    scaled.now = 29.0
    early = scaled.scaler.may_leave(scaled.seen(2), idle=6)
    scaled.now = 30.0

    assert (burst.workers, burst.why, early) == (8, "burst", 0)
    assert scaled.scaler.may_leave(scaled.seen(2), idle=6) == 6


@pytest.mark.parametrize(("utilization", "wanted"), [(1.0, 8), (0.8, 10), (0.5, 16)])
def test_workers_are_to_be_busy_as_much_as_was_asked(utilization: float, wanted: int) -> None:
    assert Scaled(Scaling(target_utilization=utilization)).decide(8).workers == wanted


def test_a_metric_asks_for_workers_beyond_the_calls_and_not_for_a_function_that_sleeps() -> None:
    scaling = Scaling(metrics=(MetricTarget(name="tokens", per_worker=100.0),), max_workers=20)
    reported = (("tokens", 950.0), ("others", 1e9))

    busy = Scaled(scaling, workers=1)
    asleep = Scaled(scaling)

    assert (busy.decide(1, metrics=reported).workers, asleep.decide(0, metrics=reported).workers) == (10, 0)
    assert busy.scaler.history[-1].reason == "metric: for tokens=950, which its workers report"


def test_so_many_leave_in_a_minute_and_no_more() -> None:
    scaled = Scaled(Scaling(scaledown_per_minute=2.0), workers=10)

    def leave() -> int:
        count = scaled.scaler.may_leave(scaled.seen(), idle=scaled.workers)
        for _ in range(count):
            scaled.scaler.left(scaled.now)
        scaled.workers -= count
        return count

    left = [leave(), leave()]
    scaled.now = 59.0
    left.append(leave())
    scaled.now = 61.0

    assert (left, leave()) == ([2, 0, 0], 2)


def test_every_change_of_mind_is_told_with_its_reason_and_the_same_one_once() -> None:
    scaled = Scaled(Scaling(min_workers=1, max_workers=3))
    for stuck in (0, 0, 2, 2, 9):
        scaled.decide(stuck)
        scaled.now += 1

    assert [(one.before, one.workers, one.reason.partition(":")[0]) for one in scaled.scaler.history] == [
        (0, 1, "min_workers"),
        (1, 2, "calls"),
        (2, 3, "max_workers"),
    ]


def test_a_queue_that_drains_is_one_change_of_mind_and_not_one_for_each_end() -> None:
    scaled = Scaled(Scaling())
    for stuck in (3, 7, 5, 4, 1, 0):
        scaled.decide(stuck)
        scaled.now += 0.1
    scaled.now += 1.0
    scaled.decide(2)

    told = [(one.at, one.before, one.workers, one.reason.partition(":")[0]) for one in scaled.scaler.history]
    assert told[0] == (0.0, 0, 7, "calls")
    assert told[1] == (pytest.approx(0.2), 7, 0, "idle")
    assert told[2][1:] == (0, 2, "calls")


def test_what_follows_from_other_settings_is_another_change_of_mind() -> None:
    scaled = Scaled(Scaling(min_workers=1))
    scaled.decide()
    scaled.scaler.tune(Scaling(min_workers=2))
    scaled.decide()

    assert [(one.before, one.workers) for one in scaled.scaler.history] == [(0, 1), (1, 2)]


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 40), st.integers(0, 40)), max_size=30), st.data())
def test_the_same_observations_give_the_same_decisions_within_floor_and_ceiling(
    steps: list[tuple[float, int, int]], data: st.DataObject
) -> None:
    floor, ceiling = sorted(data.draw(st.tuples(st.integers(0, 20), st.integers(1, 20))))
    ceiling = max(ceiling, 1)
    scaling = Scaling(
        min_workers=floor,
        max_workers=ceiling,
        buffer_workers=data.draw(st.integers(0, 5)),
        scaleup_delay_seconds=data.draw(st.floats(0, 10)),
        target_utilization=data.draw(st.floats(0.1, 1)),
        prewarm=data.draw(st.booleans()),
    )
    one, other = Autoscaler(scaling), Autoscaler(scaling)
    now = 0.0
    for seconds, stuck, workers in steps:
        now += seconds
        seen = Observation(now=now, unix=now, load=Load(waiting=0, stuck=stuck), workers=workers)
        decision = one.decide(seen)

        assert decision == other.decide(seen)
        assert floor <= decision.workers <= ceiling
        assert 0 <= one.may_leave(seen, idle=workers) <= max(0, workers - decision.workers)


# -- floors by the clock


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


@pytest.mark.parametrize(
    ("when", "workers"),
    [
        ("2026-11-23T07:59", 0),
        ("2026-11-23T08:00", 3),
        ("2026-11-23T17:59", 3),
        ("2026-11-23T18:00", 0),
        ("2026-11-22T12:00", 0),  # a Sunday
        ("2026-03-30T08:00", 3),  # the day after the clocks went forward
        ("2026-10-26T08:00", 3),  # the day after they went back
    ],
)
def test_a_floor_stands_by_the_clock_on_the_wall_of_its_time_zone(when: str, workers: int) -> None:
    floor = Floor(workers=3, days="mon-fri", hours="08:00-18:00", time_zone="Europe/Berlin")

    assert floor_at([floor], at(when))[0] == workers


@pytest.mark.parametrize(
    ("when", "workers"),
    [("2026-11-27T22:00", 2), ("2026-11-28T05:59", 2), ("2026-11-28T06:00", 0), ("2026-11-28T23:00", 0)],
)
def test_a_floor_that_passes_midnight_is_of_the_day_on_which_it_begins(when: str, workers: int) -> None:
    floor = Floor(workers=2, days="fri", hours="22:00-06:00", time_zone="Europe/Berlin")

    assert floor_at([floor], at(when))[0] == workers


def test_of_several_floors_the_highest_stands_and_is_named() -> None:
    low, high = Floor(workers=1), Floor(workers=4, hours="08:00-18:00", time_zone="Europe/Berlin")
    scaler = Autoscaler(Scaling(floors=(low, high)))

    noon = scaler.decide(Observation(now=0, unix=at("2026-11-23T12:00"), load=Load(waiting=0)))
    night = scaler.decide(Observation(now=1, unix=at("2026-11-23T20:00"), load=Load(waiting=0)))

    assert (noon.workers, night.workers) == (4, 1)
    assert scaler.history[0].reason == "floor: the floor is 4 now: * 08:00-18:00 Europe/Berlin"


@pytest.mark.parametrize(
    "floor",
    [
        Floor(workers=1, days="someday"),
        Floor(workers=1, hours="8-18"),
        Floor(workers=1, hours="08:00-08:00"),
        Floor(workers=1, hours="08:00-25:00"),
        Floor(workers=1, time_zone="Atlantis/Centre"),
        Floor(workers=-1),
    ],
)
def test_a_floor_that_cannot_be_is_refused_with_what_to_write(floor: Floor) -> None:
    with pytest.raises(InvalidRequest, match=r"^cannot deploy 'f': .*; (write|choose) "):
        check_floor(floor, "cannot deploy 'f'")


# -- what is expected


def pauses(*seconds: float) -> Expectation:
    """After so many pauses, each ended by a call that took no time."""
    expectation, now = Expectation(), 0.0
    expectation.look(now, is_idle=True)
    for pause in seconds:
        now += pause
        expectation.look(now, is_idle=False)
        expectation.look(now, is_idle=True)
    return expectation


def test_a_function_that_is_called_each_ten_minutes_is_expected_then_and_the_share_of_hits_is_told() -> None:
    expectation = pauses(*[600.0] * FEWEST_PAUSES)
    begun = 600.0 * FEWEST_PAUSES

    looks = [expectation.look(begun + seconds, is_idle=True) for seconds in (1, 500, 599.5, 600)]
    expectation.look(begun + 600.5, is_idle=False)

    assert looks == [False, False, True, True]
    assert (expectation.expected, expectation.met, expectation.hit_rate) == (1, 1, 1.0)


def test_a_call_that_was_expected_and_did_not_come_is_a_miss() -> None:
    expectation = pauses(*[600.0] * FEWEST_PAUSES)
    begun = 600.0 * FEWEST_PAUSES
    looks = [expectation.look(begun + seconds, is_idle=True) for seconds in (600, 700)]
    expectation.look(begun + 5000, is_idle=False)

    assert looks == [True, False]
    assert (expectation.expected, expectation.met) == (1, 0)


@pytest.mark.parametrize("seconds", [(600.0,) * (FEWEST_PAUSES - 1), (1.0, 600.0, 3.0, 40.0, 9000.0, 2.0)])
def test_of_few_or_irregular_pauses_nothing_is_concluded(seconds: tuple[float, ...]) -> None:
    assert pauses(*seconds).window() is None
