"""What the starts come to: medians and tails, the promises, tables."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from coldrates import Burst, Rate, Weight
from coldsubjects import BARE, FORK, FOUR_GB, TENSORS, Subject
from harness import Target, columns, quantile
from served import Started

P50_LIMITS_MS = {BARE.name: 5.0, TENSORS.name: 8.0, FOUR_GB.name: 10.0}
P99_LIMIT_MS = 25.0
NEW_VERSION_LIMIT_MS = 60.0
ABOVE_FORK_MS = 4.0
TIMES_FORK = 3.0
TIMES_FASTER = 100.0
PER_SECOND = {BARE.name: 150.0, TENSORS.name: 80.0}
IDLE_MIB = 3.0
REPEATED = ("answer", "Apart", "Model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start."""

    subject: str
    round: int
    ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All starts of one subject."""

    subject: str
    case: str
    level: str
    way: str
    starts: int
    p50_ms: float
    p90_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that was measured."""

    figures: tuple[Figures, ...]
    rates: tuple[Rate, ...]
    bursts: tuple[Burst, ...]
    weights: tuple[Weight, ...]
    started: tuple[Started, ...]


def figures_of(subjects: Sequence[Subject], starts: Sequence[Start]) -> list[Figures]:
    """The quantiles of each."""
    taken: defaultdict[str, list[float]] = defaultdict(list)
    for one in starts:
        taken[one.subject].append(one.ms)
    return [
        Figures(
            subject=subject.name,
            case=subject.case,
            level=subject.level,
            way=subject.way,
            starts=len(taken[subject.name]),
            p50_ms=statistics.median(taken[subject.name]),
            p90_ms=quantile(taken[subject.name], 0.9),
            p99_ms=quantile(taken[subject.name], 0.99),
        )
        for subject in subjects
    ]


def targets_of(seen: Seen) -> list[Target]:
    """What relight promises, as far as it was measured."""
    return [*_start_targets(seen), *_other_targets(seen), *_level_targets(seen)]


def _level_targets(seen: Seen) -> Iterator[Target]:
    """Functions called again and again are always forked."""
    places = dict.fromkeys((one.app, one.function) for one in seen.started if one.function in REPEATED)
    for app, function in places:
        counts = {one.level: one.count for one in seen.started if (one.app, one.function) == (app, function)}
        share = counts.get("fork", 0) / sum(counts.values()) * 100
        yield Target(what=f"{app}.{function}, started on level 1", seen=share, limit=100.0, unit="%", is_most=False)


def _start_targets(seen: Seen) -> Iterator[Target]:
    medians = {one.subject: one.p50_ms for one in seen.figures}
    for one in seen.figures:
        if one.case == "new version":
            yield Target(what=f"{one.subject}, p50", seen=one.p50_ms, limit=NEW_VERSION_LIMIT_MS, unit="ms")
        if one.level != FORK:
            continue
        if one.case in P50_LIMITS_MS:
            yield Target(what=f"{one.subject}, p50", seen=one.p50_ms, limit=P50_LIMITS_MS[one.case], unit="ms")
        yield Target(what=f"{one.subject}, p99", seen=one.p99_ms, limit=P99_LIMIT_MS, unit="ms")
        fork = medians.get(f"{one.case}, raw fork")
        process = medians.get(f"{one.case}, fresh process")
        if one.case == BARE.name and fork:
            what = f"{one.subject}, above the raw fork"
            yield Target(what=what, seen=one.p50_ms - fork, limit=ABOVE_FORK_MS, unit="ms")
        if one.case == TENSORS.name and fork:
            yield Target(what=f"{one.subject}, raw forks", seen=one.p50_ms / fork, limit=TIMES_FORK, unit="x")
        if one.case == TENSORS.name and process:
            what = f"{one.subject}, faster than a fresh process"
            yield Target(what=what, seen=process / one.p50_ms, limit=TIMES_FASTER, unit="x", is_most=False)


def _other_targets(seen: Seen) -> Iterator[Target]:
    for rate in seen.rates:
        what = f"{rate.case}, starts a second for {rate.seconds:.0f} s"
        yield Target(what=what, seen=rate.per_second, limit=PER_SECOND[rate.case], unit="/s", is_most=False)
    for weight in seen.weights:
        if weight.case == BARE.name:
            yield Target(what="bare, memory of an idle worker", seen=weight.added_mib, limit=IDLE_MIB, unit="MiB")


def phases(started: Sequence[Started]) -> str:
    """On which level workers were started, and in which phases the time went, until each was ready."""
    names = list(dict.fromkeys(name for one in started for name in one.phases_ms))
    rows = [("started", "level", "starts", "p50 ms", *names)]
    rows += [
        (
            f"{one.app}.{one.function}",
            one.level,
            f"{one.count}{f' and {one.failed} failed' * bool(one.failed)}",
            f"{one.p50_ms:.2f}",
            *(_number(one.phases_ms.get(name)) for name in names),
        )
        for one in started
    ]
    reasons = [(why, str(count)) for one in started for why, count in one.why.items()]
    return "\n\n".join(columns(part) for part in (rows, reasons) if part)


def table(seen: Seen) -> str:
    """The figures for people."""
    tables = (_figure_rows(seen.figures), _rate_rows(seen.rates), _burst_rows(seen.bursts), _weight_rows(seen.weights))
    return "\n\n".join(columns(rows) for rows in tables if len(rows) > 1)


Rows = list[tuple[str, ...]]


def _figure_rows(figures: Sequence[Figures]) -> Rows:
    rows: Rows = [("", "p50 ms", "p90 ms", "p99 ms", "starts")]
    for one in figures:
        rows.append((one.subject, f"{one.p50_ms:.2f}", f"{one.p90_ms:.2f}", f"{one.p99_ms:.2f}", str(one.starts)))
    return rows


def _rate_rows(rates: Sequence[Rate]) -> Rows:
    names = sorted({name for one in rates for name in one.cpu_ms})
    rows: Rows = [("sustained", "starts/s", "p50 ms", "p99 ms", "starts", "CPU ms", *names)]
    for one in rates:
        times = (f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}", str(one.starts))
        used = (_number(sum(one.cpu_ms.values())), *(_number(one.cpu_ms.get(name)) for name in names))
        rows.append((one.case, f"{one.per_second:.1f}", *times, *used))
    return rows


def _burst_rows(bursts: Sequence[Burst]) -> Rows:
    rows: Rows = [("a burst", "calls", "first ms", "half ms", "all ms")]
    for one in bursts:
        rows.append((one.case, str(one.calls), f"{one.first_ms:.1f}", f"{one.half_ms:.1f}", f"{one.all_ms:.1f}"))
    return rows


def _weight_rows(weights: Sequence[Weight]) -> Rows:
    rows: Rows = [("an idle worker", "added MiB", "own MiB", "group MiB", "processes", "workers")]
    for one in weights:
        sizes = (f"{one.added_mib:.2f}", f"{one.own_mib:.2f}", _number(one.group_mib))
        rows.append((one.case, *sizes, str(one.processes), str(one.workers)))
    return rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
