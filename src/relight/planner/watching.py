"""What is to be warned of in a function's recent traffic: capacity that should be held, cold calls, an idle night.

Pure: what was seen goes in, warnings come out.  Each has a figure, the bound that it passed, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from relight.metering.cards import Card
from relight.metering.money import show_money
from relight.planner.changes import settings_of
from relight.planner.formulas import MOST_WORKERS, Formulas, concurrency, expect
from relight.planner.options import Option, Workload, replay_all
from relight.planner.plan import day_floors
from relight.planner.policies import Capacity, Policy

MONTH_HOURS = 730


class Topic(str, Enum):
    """What a warning is about."""

    UTILISATION = "utilisation"
    COLD = "cold"
    FLOOR = "floor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """From where on there is something to say: the share of cold calls, and the seconds from which less is too little to go by."""

    cold_share: float = 0.05
    least_seconds: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of one function: its traffic over `seconds`, how many of `calls` were cold, and how it is scaled.

    `words` are how a command names it.  `has_floors`: some floor by the clock is in force already.
    """

    name: str
    words: str
    load: Workload
    seconds: float
    calls: int
    cold: int
    policy: Policy
    has_floors: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to say of a function: a figure, the bound that it passed, why that matters, and what to do.

    `month_nanos` is what doing so saves in a month, in nano-dollars; 0 where it is not about money.
    """

    name: str
    topic: Topic
    value: float
    bound: float
    says: str
    do: str
    month_nanos: int = 0


def findings(seen: Seen, cards: Mapping[str, Card], bounds: Bounds) -> list[Finding]:
    """What is to be warned of; nothing where too little was seen."""
    if seen.seconds < bounds.least_seconds or not len(seen.load.trace):
        return []
    found = (_past_break_even(seen, expect(seen.load, cards)), _too_cold(seen, bounds), _idle_night(seen, cards))
    return [one for one in found if one is not None]


def busy_shares(load: Workload, seconds: float) -> list[float]:
    """Of the first worker, the second and so on, the share of the time in which it would be busy, were each call given to
    the first that is free."""
    times = concurrency(load.trace)
    scale = load.trace.length / seconds
    most = min(max(times), MOST_WORKERS)
    return [sum(share for count, share in times.items() if count >= n) * scale for n in range(1, most + 1)]


def _past_break_even(seen: Seen, formulas: Formulas) -> Finding | None:
    """Flex workers that are busy for longer than held ones cost."""
    if formulas.hour_nanos is None:
        return None
    flex, held = formulas.hour_nanos
    there, even = seen.policy.workers, held / flex
    pays = [share for share in busy_shares(seen.load, seen.seconds)[there:] if share > even]
    if not pays:
        return None
    saved = round(sum(share * flex - held for share in pays) * MONTH_HOURS)
    wanted = there + len(pays)
    return Finding(
        name=seen.name,
        topic=Topic.UTILISATION,
        value=pays[0],
        bound=even,
        says=f"its worker {there + 1} would be busy {pays[0]:.0%} of the time, and held capacity pays from {even:.0%} on: "
        f"holding {wanted} saves {show_money(saved)} a month",
        do=f"relight scale {seen.words} --min {wanted}",
        month_nanos=saved,
    )


def _too_cold(seen: Seen, bounds: Bounds) -> Finding | None:
    """Calls that waited for a start."""
    share = seen.cold / seen.calls if seen.calls else 0.0
    if share <= bounds.cold_share:
        return None
    window = seen.policy.window_seconds
    return Finding(
        name=seen.name,
        topic=Topic.COLD,
        value=share,
        bound=bounds.cold_share,
        says=f"{seen.cold} of its {seen.calls} calls waited for a worker to start, {share:.0%}, with a window of {window:g} s",
        do=f"relight plan {seen.words} --cold {bounds.cold_share:g}",
    )


def _idle_night(seen: Seen, cards: Mapping[str, Card]) -> Finding | None:
    """A part of the day that would cost less, and be no colder, with a floor than as it is now."""
    hours = day_floors(seen.load.trace)
    if not hours or seen.has_floors:
        return None
    now = next(iter(replay_all(seen.load, cards, [seen.policy])), None)
    if now is None:
        return None
    floors = [
        Policy(capacity=Capacity.ACTIVE, window_seconds=window, hours=one)
        for one in hours
        for window in sorted({5.0, seen.policy.window_seconds})
    ]
    best = _cheaper(replay_all(seen.load, cards, floors), now)
    if best is None:
        return None
    return Finding(
        name=seen.name,
        topic=Topic.FLOOR,
        value=best.monthly() / 1e9,
        bound=now.monthly() / 1e9,
        says=f"{best.policy} would cost {show_money(best.monthly())} a month on {best.card}, and what it has now "
        f"{show_money(now.monthly())}, with no more cold calls ({best.outcome.cold_share:.1%})",
        do=_floor_command(seen, best),
        month_nanos=now.monthly() - best.monthly(),
    )


def _cheaper(tried: Sequence[Option], now: Option) -> Option | None:
    good = [one for one in tried if one.nanos < now.nanos and one.outcome.cold_share <= now.outcome.cold_share]
    return min(good, key=lambda one: one.nanos, default=None)


def _floor_command(seen: Seen, best: Option) -> str:
    settings = settings_of(best.policy, seen.load.trace.begun_at)
    floors = settings["floors"]
    assert isinstance(floors, list)
    words = [f"--floor '{' '.join(map(str, one.values()))}'" for one in floors if isinstance(one, dict)]
    return f"relight scale {seen.words} --min 0 --window {best.policy.window_seconds:g}s {' '.join(words)}"
