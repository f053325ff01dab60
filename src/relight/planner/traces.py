"""Traces: when calls came and how long each ran.  Read from CSV, or made, always the same from the same seed."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from relight.protocol.errors import InvalidRequest

DAY_SECONDS = 86_400.0

_ARRIVAL = ("arrival", "arrived", "arrived_at", "submitted_at", "at", "time", "timestamp")
_SECONDS = ("seconds", "duration", "exec_seconds", "execution_seconds", "duration_seconds")


@dataclass(frozen=True, slots=True)
class Trace:
    """Calls in the order of their arrival, in seconds from the beginning; `seconds[i]` is how long the `i`-th runs.

    `begun_at` is when that was, in seconds since 1970: it leads from an hour of the trace's day to one by the clock (UTC).
    """

    arrivals: Sequence[float]
    seconds: Sequence[float]
    begun_at: float = field(default=0.0, compare=False)

    def __len__(self) -> int:
        return len(self.arrivals)

    @property
    def length(self) -> float:
        """From the beginning to the end of what the last call needs, in seconds; at least 1."""
        return max(1.0, max((at + took for at, took in zip(self.arrivals, self.seconds, strict=True)), default=1.0))

    @property
    def load(self) -> float:
        """How many workers run on average."""
        return sum(self.seconds) / self.length


def trace_of(calls: Iterable[tuple[float, float]]) -> Trace:
    """Calls as (when, how long), in any order, counted from the first."""
    ordered = sorted((at, took) for at, took in calls if took >= 0)
    begin = ordered[0][0] if ordered else 0.0
    return Trace([at - begin for at, _ in ordered], [took for _, took in ordered], begin)


def read_trace(path: Path, *, only: str = "") -> Trace:
    """A trace of a CSV file with a header: a column of arrivals (seconds, or times) and one of durations in seconds.

    `only` is `column=value`: the rows to take.  Where there are tokens instead of durations (`ContextTokens`,
    `GeneratedTokens`), a call counts as 20 ms, 30 µs a token read, and 20 ms a token written.  Raises InvalidRequest.
    """
    column, _, value = only.partition("=")
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        names = {name.strip().lower(): name for name in rows.fieldnames or ()}
        arrival = _first(names, _ARRIVAL)
        seconds = _first(names, _SECONDS)
        context, generated = names.get("contexttokens"), names.get("generatedtokens")
        if arrival is None or (seconds is None and (context is None or generated is None)):
            raise InvalidRequest(
                f"cannot read trace {path}: its header is {', '.join(names) or 'empty'}; "
                "write arrival,seconds with one call a line"
            )
        took = _from_tokens(context or "", generated or "") if seconds is None else _from_column(seconds)
        try:
            return trace_of(
                (_moment(row[arrival]), took(row)) for row in rows if not column or row.get(column) == value
            )
        except (ValueError, TypeError) as error:
            raise InvalidRequest(f"cannot read trace {path}, line {rows.line_num}: {error}; write numbers") from error


def steady(utilisation: float, seconds: float, length: float) -> Trace:
    """Calls at even distances, each as long as the others, that keep one worker so busy."""
    apart = seconds / utilisation
    count = int(length / apart)
    return Trace([apart * n for n in range(count)], [seconds] * count)


def poisson(rate: Callable[[float], float], most: float, length: float, seconds: float, seed: int = 0) -> Trace:
    """Calls that come at random, `rate` of them a second at each moment (never more than `most`), of exponential length."""
    chance = random.Random(seed)
    arrivals, at = [], 0.0
    while True:
        at += chance.expovariate(most)
        if at >= length:
            break
        if chance.random() * most < rate(at):
            arrivals.append(at)
    return Trace(arrivals, [chance.expovariate(1 / seconds) for _ in arrivals])


def _from_tokens(context: str, generated: str) -> Callable[[dict[str, str]], float]:
    return lambda row: 0.02 + 0.00003 * float(row[context]) + 0.02 * float(row[generated])


def _from_column(name: str) -> Callable[[dict[str, str]], float]:
    return lambda row: float(row[name] or "nan") if row[name] else math.nan


def _first(names: dict[str, str], wanted: Sequence[str]) -> str | None:
    return next((names[name] for name in wanted if name in names), None)


def _moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text[:26]).timestamp()
