"""A process that opens one peer and does what it is told, a JSON line each way.

    {"do": "one", "n": 1000}   ▶ {"seconds": [0.0012, …]}       n calls, one after the other, each timed
    {"do": "many", "n": 10000} ▶ {"seconds": [4.1]}             n calls at once, timed as a whole
    the end of the input       ▶ close, leave

The first line out says whether the peer is open: `{"ready": true}`, or `{"missing": why}`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TextIO

from peers import PEERS, Calls, Missing


def time_one(calls: Calls, n: int) -> list[float]:
    """Do `n` calls one after the other; the seconds of each.  Raises ValueError for a wrong answer."""
    seconds = []
    for x in range(n):
        began = time.perf_counter()
        answer = calls.one(x)
        seconds.append(time.perf_counter() - began)
        if answer != x:
            raise ValueError(f"cannot measure: the answer to {x} is {answer!r}")
    return seconds


def time_many(calls: Calls, n: int) -> list[float]:
    """Do `n` calls at once; the seconds of all.  Raises ValueError for a wrong answer."""
    began = time.perf_counter()
    answers = calls.many(n)
    seconds = time.perf_counter() - began
    if answers != list(range(n)):
        raise ValueError(f"cannot measure: {n} calls gave {len(answers)} answers, or others than were asked for")
    return [seconds]


def serve(calls: Calls, orders: TextIO, answers: TextIO) -> None:
    """Do what is told until the orders end."""
    measures = {"one": time_one, "many": time_many}
    for line in orders:
        order = json.loads(line)
        _say(answers, {"seconds": measures[order["do"]](calls, order["n"])})


def main(name: str, folder: str) -> None:
    """Open a peer, and serve."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a peer prints is no answer
    try:
        with PEERS[name](Path(folder)) as calls:
            _say(answers, {"ready": True})
            serve(calls, sys.stdin, answers)
    except Missing as why:
        _say(answers, {"missing": str(why)})


def _say(answers: TextIO, what: dict[str, object]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
