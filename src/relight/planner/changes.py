"""From a plan to settings: what a policy changes of a function's scaling, and what no setting can say.

The settings are those of `relight scale`, by the names they have there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relight.planner.options import Option
from relight.planner.policies import DAY_SECONDS, Capacity, Hours, Policy
from relight.protocol.manifest import Json

_WHOLE_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One setting, as it is now and as the plan would have it."""

    setting: str
    now: Json
    then: Json


def changes(policy: Policy, scaling: Mapping[str, Json], begun_at: float = 0.0) -> tuple[Change, ...]:
    """What is to be written so that a function scales as the policy says; only what is otherwise now.

    `begun_at` is when the policy's day begins, in seconds since 1970.
    """
    wanted = settings_of(policy, begun_at)
    return tuple(
        Change(setting=name, now=scaling.get(name), then=value)
        for name, value in wanted.items()
        if scaling.get(name) != value
    )


def settings_of(policy: Policy, begun_at: float = 0.0) -> dict[str, Json]:
    """Every setting that a policy decides on.  A ceiling is one only where capacity is held and cannot grow."""
    if policy.capacity is Capacity.DEDICATED:
        return {"min_workers": policy.workers, "max_workers": policy.workers, "buffer_workers": 0, "floors": []}
    return {
        "min_workers": policy.workers,
        "buffer_workers": policy.buffer_workers,
        "scaledown_window_seconds": policy.window_seconds,
        "floors": [_floor(one, begun_at) for one in policy.hours],
    }


def unwritten(best: Option, card: str, gpus: Sequence[str], scaling: Mapping[str, Json]) -> tuple[str, ...]:
    """What the plan rests on and no setting can say, in a sentence each.

    `card` is the one in force on the server, `gpus` what a worker of the function holds, `scaling` what is in force.
    """
    policy, said = best.policy, []
    if best.card != card:
        said.append(
            f"where it runs: the plan is priced on {best.card}, and this server bills by {card}; take nodes from there "
            f"and set rate_card={best.card}"
        )
    if policy.capacity is Capacity.DEDICATED:
        what = f" with {' + '.join(gpus)}" if gpus else ""
        said.append(f"the machines: hold room for {policy.workers} workers{what} and add them as nodes")
    most = scaling.get("max_workers")
    if policy.capacity is not Capacity.DEDICATED and isinstance(most, int):
        said.append(f"the ceiling: max_workers={most} stays, and the plan was made without one")
    return tuple(said)


def _floor(hours: Hours, begun_at: float) -> dict[str, Json]:
    """As `relight scale --floor` writes it, in UTC."""
    begin, end = (_clock(hour, begun_at) for hour in (hours.begin, hours.end))
    if begin == end:
        begin = end = "00:00"  # all day long
    span = f"{begin}-{'24:00' if end == '00:00' else end}"
    return {"workers": hours.workers, "days": "*", "hours": span, "time_zone": "UTC"}


def _clock(hour: float, begun_at: float) -> str:
    minutes = round((begun_at % DAY_SECONDS) / 60 + hour * 60) % _WHOLE_DAY_MINUTES
    return f"{minutes // 60:02}:{minutes % 60:02}"
