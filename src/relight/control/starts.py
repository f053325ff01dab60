"""How workers were started: kept one by one, and told together as what to expect of the next."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from relight.protocol.calls import CallView
from relight.protocol.link import WorkerChange
from relight.protocol.starts import Phase, StartLevel, StartReport
from relight.protocol.startviews import LevelShare, StartGroup, StartQuery, StartReason, StartSummary, StartView
from relight.protocol.workers import WorkerInterval, WorkerState
from relight.scheduler.state import Worker
from relight.store.store import Store

MOST_LOOKED_AT = 20_000
"""A summary is of no more starts than these, the newest."""

BOUNDS = tuple(base * 10.0**power for power in range(-3, 2) for base in (1, 2, 5))
"""How long starts take is counted in steps: up to 1 ms, 2 ms, 5 ms, … 50 s, and longer."""

HITS = (StartLevel.PARKED, StartLevel.FORK)
"""The levels on which all that takes long was done before."""

_ONE_TURN_SECONDS = 0.01
"""What happens in one turn of the loop is written down with times that are no further apart."""

_RANKS = {level: rank for rank, level in enumerate(StartLevel)}


class Starts:
    """The starts of a server's workers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note(self, worker: Worker, change: WorkerChange) -> None:
        """A start of this worker is over, as its node says; call it once the scheduler knows."""
        if change.start is not None:
            failure = change.exit.reason if change.exit is not None else ""
            self._keep(
                worker, replace(_view(worker, change.start, change.at), failure=failure, is_ahead=worker.is_parked)
            )

    def note_parked(self, worker: Worker, seconds: float, at: float) -> None:
        """A call found this worker ready and never used, after so long."""
        self._keep(worker, _view(worker, parked(seconds), at))

    def _keep(self, worker: Worker, start: StartView) -> None:
        self._store.starts.add(worker.spec.workspace, (start,))

    async def list(self, workspace: str, query: StartQuery) -> tuple[StartView, ...]:
        """Starts, newest first."""
        return await self._store.starts.list(workspace, query)

    async def summary(self, workspace: str, query: StartQuery) -> StartSummary:
        """What the newest of these starts come to."""
        asked = replace(query, limit=MOST_LOOKED_AT)
        return await self._store.starts.look(workspace, asked, partial(summarize, query=asked))


def parked(seconds: float) -> StartReport:
    """The start of a call that found a worker started ahead."""
    return StartReport(level=StartLevel.PARKED, phases=(Phase(name="take", seconds=seconds),))


def start_for(call: CallView, life: Sequence[WorkerInterval], start: StartReport | None) -> StartReport | None:
    """How the start of its worker was for this call: quicker than it took, where it was over before the call came."""
    ready = next((one for one in life if one.state is WorkerState.READY), None)
    if start is None or ready is None or call.started_at is None or ready.until is None:
        return start
    is_first = abs(call.started_at - ready.until) < _ONE_TURN_SECONDS
    is_parked = is_first and ready.since < call.submitted_at and ready.until - ready.since > _ONE_TURN_SECONDS
    return parked(max(0.0, call.started_at - call.submitted_at)) if is_parked else start


def _view(worker: Worker, start: StartReport, at: float) -> StartView:
    spec = worker.spec
    return StartView(
        worker=worker.id,
        node=worker.node,
        app=spec.app,
        environment=spec.environment,
        version=spec.version,
        function=spec.function.name,
        binding=spec.binding,
        level=start.level,
        why=start.why,
        phases=start.phases,
        seconds=start.seconds,
        at=at,
    )


def summarize(starts: Iterable[StartView], query: StartQuery) -> StartSummary:
    """Starts, newest first, by function and level; the quickest level first, the most frequent reason first."""
    seen = tuple(starts)
    ready = [start for start in seen if not start.failure]
    waited_for = [start for start in ready if not start.is_ahead]
    groups: dict[tuple[str, str, StartLevel], list[StartView]] = {}
    for start in seen:
        groups.setdefault((start.app, start.function, start.level), []).append(start)
    of_function = Counter((start.app, start.function) for start in waited_for)
    return StartSummary(
        starts=len(seen),
        since=seen[-1].at if len(seen) == query.limit else query.since,
        is_whole=len(seen) < query.limit,
        bounds=BOUNDS,
        hit_rate=_share(sum(start.level in HITS for start in waited_for), len(waited_for)),
        levels=_levels(waited_for),
        groups=tuple(
            _group(groups[key], of_function[key[:2]])
            for key in sorted(groups, key=lambda key: (*key[:2], _RANKS[key[2]]))
        ),
        reasons=_reasons(ready),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that so large a share of the others does not exceed: one of those there are; 0 for none."""
    return ordered[max(1, math.ceil(share * len(ordered))) - 1] if ordered else 0.0


def _share(some: int, of_all: int) -> float:
    return some / of_all if of_all else 0.0


def _levels(waited_for: Sequence[StartView]) -> tuple[LevelShare, ...]:
    counts = Counter(start.level for start in waited_for)
    return tuple(
        LevelShare(level=level, count=counts[level], share=_share(counts[level], len(waited_for)))
        for level in StartLevel
        if counts[level]
    )


def _group(starts: Sequence[StartView], of_function: int) -> StartGroup:
    ready = [start for start in starts if not start.failure]
    ahead = sum(start.is_ahead for start in ready)
    ordered = sorted(start.seconds for start in ready)
    buckets = [0] * (len(BOUNDS) + 1)
    for seconds in ordered:
        buckets[bisect.bisect_left(BOUNDS, seconds)] += 1
    return StartGroup(
        app=starts[0].app,
        function=starts[0].function,
        level=starts[0].level,
        count=len(ready),
        failed=len(starts) - len(ready),
        ahead=ahead,
        share=_share(len(ready) - ahead, of_function),
        p50=percentile(ordered, 0.5),
        p90=percentile(ordered, 0.9),
        p99=percentile(ordered, 0.99),
        buckets=tuple(buckets),
        phases=_phases(ready),
    )


def _phases(starts: Sequence[StartView]) -> tuple[Phase, ...]:
    """The median of each phase, where it was passed."""
    took: dict[str, list[float]] = {}
    for start in starts:
        for phase in start.phases:
            took.setdefault(phase.name, []).append(phase.seconds)
    return tuple(Phase(name=name, seconds=percentile(sorted(seconds), 0.5)) for name, seconds in took.items())


def _reasons(ready: Sequence[StartView]) -> tuple[StartReason, ...]:
    counts: Counter[tuple[str, str, StartLevel, str]] = Counter()
    newest: dict[tuple[str, str, StartLevel, str], str] = {}
    for start in ready:
        if start.why:
            key = (start.app, start.function, start.level, start.why.partition(":")[0])
            counts[key] += 1
            newest.setdefault(key, start.why)
    return tuple(_reason(key, count, newest) for key, count in counts.most_common())


def _reason(
    key: tuple[str, str, StartLevel, str], count: int, newest: Mapping[tuple[str, str, StartLevel, str], str]
) -> StartReason:
    app, function, level, code = key
    return StartReason(app=app, function=function, level=level, code=code, why=newest[key], count=count)
