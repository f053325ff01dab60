"""A plan as settings: what changes, and what no setting can say."""

from __future__ import annotations

from dataclasses import replace

from relight.metering.cards import load_cards
from relight.planner.changes import changes, settings_of, unwritten
from relight.planner.costs import Holds
from relight.planner.options import Option, Workload, replay_all
from relight.planner.policies import Capacity, Hours, Policy
from relight.planner.traces import steady
from relight.protocol.manifest import Json

AS_DEPLOYED: dict[str, Json] = {
    "min_workers": 0,
    "max_workers": None,
    "scaledown_window_seconds": 60.0,
    "buffer_workers": 0,
    "floors": [],
}
AT_HALF_PAST_SIX = 1_764_000_000.0 - 1_764_000_000.0 % 86_400 + 6.5 * 3600


def option(policy: Policy, card: str = "runpod") -> Option:
    load = Workload(trace=steady(0.5, 60.0, 3600.0), holds=Holds(gpus=("H100",)))
    cards = load_cards()
    return replace(replay_all(load, {card: cards[card]}, [policy])[0], card=card)


def test_only_what_is_otherwise_now_changes() -> None:
    new = changes(Policy(window_seconds=5.0), AS_DEPLOYED)

    assert [(one.setting, one.now, one.then) for one in new] == [("scaledown_window_seconds", 60.0, 5.0)]
    assert changes(Policy(window_seconds=60.0), AS_DEPLOYED) == ()


def test_held_machines_are_a_floor_and_a_ceiling() -> None:
    new = changes(Policy(capacity=Capacity.DEDICATED, workers=3), AS_DEPLOYED)

    assert {one.setting: one.then for one in new} == {"min_workers": 3, "max_workers": 3}


def test_flex_takes_back_the_floors_that_were_there() -> None:
    scaling = {**AS_DEPLOYED, "min_workers": 2, "floors": [{"workers": 3}]}

    assert {one.setting: one.then for one in changes(Policy(window_seconds=60.0), scaling)} == {
        "min_workers": 0,
        "floors": [],
    }


def test_a_floor_of_the_traces_day_is_one_by_the_clock() -> None:
    by_day = Policy(capacity=Capacity.ACTIVE, hours=(Hours(begin=2, end=10, workers=4),))
    always = Policy(capacity=Capacity.ACTIVE, hours=(Hours(begin=0, end=24, workers=1),))
    to_midnight = Policy(capacity=Capacity.ACTIVE, hours=(Hours(begin=8, end=24, workers=1),))

    assert settings_of(by_day, AT_HALF_PAST_SIX)["floors"] == [
        {"workers": 4, "days": "*", "hours": "08:30-16:30", "time_zone": "UTC"}
    ]
    assert [settings_of(always, at)["floors"][0]["hours"] for at in (0.0, AT_HALF_PAST_SIX)] == ["00:00-24:00"] * 2  # type: ignore[index, call-overload]  # a floor is an object
    assert settings_of(to_midnight)["floors"][0]["hours"] == "08:00-24:00"  # type: ignore[index, call-overload]  # as above


def test_what_no_setting_can_say_is_said() -> None:
    held = option(Policy(capacity=Capacity.DEDICATED, workers=2), "dedicated")
    flex = option(Policy(window_seconds=5.0))

    assert [sentence.split(":")[0] for sentence in unwritten(held, "machine", ("H100",), AS_DEPLOYED)] == [
        "where it runs",
        "the machines",
    ]
    assert unwritten(flex, "runpod", ("H100",), AS_DEPLOYED) == ()
    (ceiling,) = unwritten(flex, "runpod", ("H100",), {**AS_DEPLOYED, "max_workers": 2})
    assert "max_workers=2 stays" in ceiling
