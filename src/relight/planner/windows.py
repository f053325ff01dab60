"""Scale-down windows: those that are tried, and the shortest that is good enough, to within a few percent.

Between two windows of the grid the shorter is too often cold and the longer costs too much; halving the stretch between them
(by their ratio) comes closer with each replay, because a longer window is never much oftener cold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from relight.metering.cards import Card
from relight.planner.options import Option, Workload, replay_all
from relight.planner.policies import Capacity
from relight.planner.simulator import Outcome

WINDOWS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0)
"""Scale-down windows that are tried, in seconds."""

HALVINGS = 5
"""So many replays come closer: 32 times as fine as the grid."""

Good = Callable[[Outcome], bool]
"""Whether a replay is good enough."""


def closer(load: Workload, cards: Mapping[str, Card], options: Sequence[Option], is_good: Good) -> list[Option]:
    """Further options of one kind of flex, each with a window between the longest that is not good enough and the shortest
    that is; none where the grid has no such pair.  `options` are windows of that kind, already replayed."""
    known = sorted(options, key=lambda one: one.policy.window_seconds)
    at = next((at for at, one in enumerate(known) if is_good(one.outcome)), 0)
    if not at:
        return []
    short, good = known[at - 1].policy.window_seconds, known[at]
    found: list[Option] = []
    for _ in range(HALVINGS):
        window = round(math.sqrt(short * good.policy.window_seconds), 1)
        tried = replay_all(load, cards, [replace(good.policy, window_seconds=window)])
        found += tried
        if tried and is_good(tried[0].outcome):
            good = tried[0]
        else:
            short = window
    return found


def flex_windows(options: Sequence[Option], buffer_workers: int) -> list[Option]:
    """The flex options with such a buffer, which differ in their windows alone."""
    return [
        one
        for one in options
        if one.policy.capacity is Capacity.FLEX and one.policy.buffer_workers == buffer_workers and not one.policy.hours
    ]


def best_window(options: Sequence[Option], cold_share: float) -> Option | None:
    """The cheapest fixed window that is cold no oftener, without a floor or a buffer; None where there is none."""
    good = [one for one in flex_windows(options, 0) if one.keeps_up and one.outcome.cold_share <= cold_share]
    return min(good, key=lambda one: one.nanos, default=None)
