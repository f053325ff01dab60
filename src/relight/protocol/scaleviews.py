"""What is shown of a function's workers and its queue: what is asked of them, by whom, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

from relight.protocol.calls import CallView
from relight.protocol.manifest import Json, Queueing, Scaling


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideView:
    """Something that was said of a function after it was deployed: a field of `Scaling` or `Queueing`."""

    field: str
    value: Json
    deployed: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionView:
    """The autoscaler came to another number of workers than before, at seconds since 1970."""

    at: float
    workers: int
    before: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingView:
    """GET /v1/apps/{app}/functions/{function}/scaling.

    `scaling` and `queue` are in force: what was deployed, with the `overrides`.  `wanted` workers are what the autoscaler
    says now, for `reason`; `history` are its last changes of mind, oldest first.  Of `expected`
    calls that were to come about a time, `expected_met` did (`prewarm`).  `metrics` is what its workers reported of late.
    """

    app: str
    environment: str
    function: str
    version: str
    scaling: Scaling
    queue: Queueing
    overrides: tuple[OverrideView, ...] = ()
    is_paused: bool = False
    wanted: int = 0
    reason: str = ""
    workers: int = 0
    busy: int = 0
    starting: int = 0
    waiting: int = 0
    metrics: Json = None
    expected: int = 0
    expected_met: int = 0
    history: tuple[DecisionView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """GET /v1/apps/{app}/functions/{function}/queue: its calls that wait, by priority and by what they wait for.

    `in_memory` of them the scheduler has at hand, the rest is in the store alone; `reasons` counts those in memory, at
    most 1,000 of them.  `dead` calls came to nothing and were not made once more.
    """

    waiting: int = 0
    running: int = 0
    is_paused: bool = False
    in_memory: int = 0
    priorities: Json = None
    reasons: Json = None
    dead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadView:
    """GET /v1/apps/{app}/functions/{function}/queue/dead: some of the calls that came to nothing, and how many there are."""

    calls: tuple[CallView, ...]
    dead: int
