#!/usr/bin/env python3
"""What a call waits for beside a hog: a neighbour is called one call after the other, with and without, in turns.

    python bench/neighbours.py [--seconds 10] [--rounds 3] [--check]

For each hog and round, `seconds` of calls beside nobody, then `seconds` beside it.  JSON lines on the standard output, a table on
the standard error; with `--check`, status 1 when the p99 beside a hog is more than three times that beside nobody.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from beside import HOGS, answer, app
from served import server_on

import relight

MOST_TIMES = 3.0
WARM_CALLS = 50
LEAD_SECONDS = 0.5  # until a hog has its worker, and is at it


def measure(seconds: float) -> list[float]:
    """What calls took, one after the other, for so long; in ms."""
    took, until = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        assert answer.remote(1) == 1, "it answers with what it was given"
        took.append((time.perf_counter() - began) * 1000)
    return took


def beside(hog: Callable[[], relight.Call[None]], seconds: float) -> list[float]:
    """As `measure`, while the hog is at it."""
    call = hog()
    time.sleep(LEAD_SECONDS)
    took = measure(seconds)
    with suppress(relight.RelightError):  # how a hog ends is not what is asked here
        call.get()
    return took


def row(name: str, alone: list[list[float]], with_it: list[list[float]]) -> dict[str, object]:
    """The medians of the rounds' figures."""
    figures = {
        f"{what}_p{percent}_ms": round(statistics.median(percentile(took, percent) for took in rounds), 2)
        for what, rounds in (("alone", alone), ("beside", with_it))
        for percent in (50, 99)
    }
    return {"hog": name, **figures, "times": round(figures["beside_p99_ms"] / figures["alone_p99_ms"], 1)}


def percentile(took: list[float], percent: int) -> float:
    """The value that so many of a hundred do not pass."""
    return sorted(took)[min(len(took) - 1, len(took) * percent // 100)]


def main() -> int:
    """Measure, and say what became of the promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="names of hogs, with commas")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    hogs = {name: hog for name, hog in HOGS.items() if not asked.only or name in asked.only.split(",")}
    rows = []
    with tempfile.TemporaryDirectory() as folder, server_on(Path(folder) / "data", {}):
        app.deploy()
        for _ in range(WARM_CALLS):
            answer.remote(0)
        for name, hog in hogs.items():
            alone, with_it = [], []
            for _ in range(asked.rounds):
                alone.append(measure(asked.seconds))
                with_it.append(beside(lambda hog=hog: hog.spawn(asked.seconds + LEAD_SECONDS), asked.seconds))
            rows.append(row(name, alone, with_it))
            print(json.dumps(rows[-1]), flush=True)
    print(f"{'beside':12} {'p50':>8} {'p99':>8}   {'alone p50':>9} {'p99':>8}   times (p99)", file=sys.stderr)
    for one in rows:
        figures = (one["beside_p50_ms"], one["beside_p99_ms"], one["alone_p50_ms"], one["alone_p99_ms"], one["times"])
        print("{:12} {:8.2f} {:8.2f}   {:9.2f} {:8.2f}   {:.1f}".format(one["hog"], *figures), file=sys.stderr)
    return int(asked.check and any(float(str(one["times"])) > MOST_TIMES for one in rows))


if __name__ == "__main__":
    sys.exit(main())
