"""How workers were started: kept one by one, and told together as what to expect of the next."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from relight.protocol.link import WorkerChange
from relight.protocol.starts import Phase, StartLevel
from relight.protocol.startviews import LevelShare, StartGroup, StartQuery, StartReason, StartSummary, StartView
from relight.scheduler.state import Worker
from relight.store.store import Store

MOST_LOOKED_AT = 20_000
"""A summary is of no more starts than these, the newest."""

BOUNDS = tuple(base * 10.0**power for power in range(-3, 2) for base in (1, 2, 5))
"""How long starts take is counted in steps: up to 1 ms, 2 ms, 5 ms, … 50 s, and longer."""

_RANKS = {level: rank for rank, level in enumerate(StartLevel)}


class Starts:
    """The starts of a server's workers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note(self, worker: Worker, change: WorkerChange) -> None:
        """A start of this worker is over, as its node says."""
        if change.start is None:
            return
        spec = worker.spec
        start = StartView(
            worker=worker.id,
            node=worker.node,
            app=spec.app,
            environment=spec.environment,
            version=spec.version,
            function=spec.function.name,
            binding=spec.binding,
            level=change.start.level,
            why=change.start.why,
            phases=change.start.phases,
            seconds=change.start.seconds,
            at=change.at,
            failure=change.exit.reason if change.exit is not None else "",
        )
        self._store.starts.add(spec.workspace, (start,))

    async def list(self, workspace: str, query: StartQuery) -> tuple[StartView, ...]:
        """Starts, newest first."""
        return await self._store.starts.list(workspace, query)

    async def summary(self, workspace: str, query: StartQuery) -> StartSummary:
        """What the newest of these starts come to."""
        asked = replace(query, limit=MOST_LOOKED_AT)
        return await self._store.starts.look(workspace, asked, partial(summarize, query=asked))


def summarize(starts: Iterable[StartView], query: StartQuery) -> StartSummary:
    """Starts, newest first, by function and level; the quickest level first, the most frequent reason first."""
    seen = tuple(starts)
    ready = [start for start in seen if not start.failure]
    groups: dict[tuple[str, str, StartLevel], list[StartView]] = {}
    for start in seen:
        groups.setdefault((start.app, start.function, start.level), []).append(start)
    of_function = Counter((start.app, start.function) for start in ready)
    return StartSummary(
        starts=len(seen),
        since=seen[-1].at if len(seen) == query.limit else query.since,
        is_whole=len(seen) < query.limit,
        bounds=BOUNDS,
        levels=_levels(ready),
        groups=tuple(
            _group(groups[key], of_function[key[:2]])
            for key in sorted(groups, key=lambda key: (*key[:2], _RANKS[key[2]]))
        ),
        reasons=_reasons(ready),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that so large a share of the others does not exceed: one of those there are; 0 for none."""
    return ordered[max(1, math.ceil(share * len(ordered))) - 1] if ordered else 0.0


def _levels(ready: Sequence[StartView]) -> tuple[LevelShare, ...]:
    counts = Counter(start.level for start in ready)
    return tuple(
        LevelShare(level=level, count=counts[level], share=counts[level] / len(ready))
        for level in StartLevel
        if counts[level]
    )


def _group(starts: Sequence[StartView], of_function: int) -> StartGroup:
    ready = [start for start in starts if not start.failure]
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
        share=len(ready) / of_function if of_function else 0.0,
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
