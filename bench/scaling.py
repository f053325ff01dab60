"""Scaling, measured: bursts, ramps and sawteeth on a real server; recorded traffic under a clock of its own; a million
waiting calls.

    python bench/scaling.py burst              200 calls of 100 ms from zero, 50 workers at most
    python bench/scaling.py shapes             a ramp and a sawtooth
    python bench/scaling.py traces FOLDER      azure_llm_*.csv and alibaba_genai_lora.csv, if they are there
    python bench/scaling.py dispatch           calls a second with 100 and with 100,000 waiting over 200 functions
    python bench/scaling.py memory [N]         what a server takes with N calls waiting (1,000,000)
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

from scalereplay import Call, replay
from sleeper import app, nap

import relight
from relight.protocol.manifest import Scaling

WINDOWS = (5.0, 60.0, 300.0, 900.0)
WARM_CALLS, ROUND_CALLS, PAIRS = 3_000, 2_000, 20
START_SECONDS = {"fork": 0.005, "adapter": 4.4, "model": 22.7}
"""Starting takes so long: a fork of a template here; p50 of adapters and of base models in the Alibaba trace."""


def say(what: str, **figures: object) -> None:
    """One line of JSON for each figure."""
    print(json.dumps({"what": what, **figures}), flush=True)


@contextmanager
def server(**settings: str) -> Iterator[int]:
    """A server of its own, which this process's SDK finds; its pid."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, **{f"RELIGHT_{name.upper()}": value for name, value in settings.items()}}
        command = [sys.executable, "-m", "relight", "up", "--data-dir", folder, "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, text=True)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("relight is up"), "the server did not start"
        os.environ["RELIGHT_DATA_DIR"] = folder
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(60)


# -- on a real server


def burst() -> None:
    """200 calls of 100 ms from zero, five times; a template is there, no worker is."""
    with server():
        app.deploy()
        nap.remote(0.0)
        for number in range(5):
            nap.update_scaling(max_workers=50, scaledown_window=0)
            while nap.scaling().workers:
                nap.stats()
            nap.update_scaling(max_workers=50, scaledown_window=60)
            sent = time.time()
            began = list(nap.map([0.1] * 200, order_outputs=False))
            took = time.time() - sent
            decided = next(one.at for one in nap.scaling().history if one.at >= sent and one.workers)
            say(
                "burst",
                round=number,
                seconds=round(took, 3),
                first_began_ms=round(1000 * (min(began) - sent), 1),
                decided_ms=round(1000 * (decided - sent), 1),
                workers=max(one.workers for one in nap.scaling().history if one.at >= sent),
            )


SHAPES: dict[str, tuple[float, Callable[[float], float]]] = {
    "ramp": (10.0, lambda at: 10 + 14 * at),
    "sawtooth": (12.0, lambda at: 100.0 if at % 4 < 2 else 0.0),
}
"""For how many seconds, and how many calls a second come at each."""

STEP_SECONDS, NAP_SECONDS, SHAPE_WINDOW = 0.05, 0.05, 1.0


def shapes() -> None:
    """Calls of 50 ms that come whether those before them are done or not; idle workers stay for a second."""
    with server():
        app.deploy()
        nap.remote(0.0)
        nap.update_scaling(max_workers=50, scaledown_window=SHAPE_WINDOW)
        for shape, (seconds, rate) in SHAPES.items():
            while nap.scaling().workers:
                time.sleep(STEP_SECONDS)
            _tell_shape(shape, _shaped(seconds, rate))


@dataclass
class Shaped:
    """What came of a shape: how long calls waited, and how many workers there were at each step."""

    waits: list[float] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)
    history: list[int] = field(default_factory=list)


def _shaped(seconds: float, rate: Callable[[float], float]) -> Shaped:
    seen, sent, owed = Shaped(), [], 0.0
    began = time.time()
    while (at := time.time() - began) < seconds:
        step = time.time() - began - STEP_SECONDS * len(seen.workers)
        owed += rate(at) * STEP_SECONDS
        if int(owed):
            sent.append((time.time(), nap.spawn_map([NAP_SECONDS] * int(owed))))
            owed -= int(owed)
        seen.workers.append(nap.scaling().workers)
        time.sleep(max(0.0, STEP_SECONDS - step))
    seen.waits = sorted(began_at - sent_at for sent_at, calls in sent for began_at in calls.get())
    seen.history = [one.workers for one in nap.scaling().history if one.at >= began]
    return seen


def _tell_shape(shape: str, seen: Shaped) -> None:
    there = sum(seen.workers) * STEP_SECONDS
    say(
        shape,
        calls=len(seen.waits),
        wait_ms={part: round(1000 * seen.waits[int(part * (len(seen.waits) - 1))], 1) for part in (0.5, 0.99, 1.0)},
        most_workers=max(seen.workers),
        worker_seconds=round(there, 1),
        busy=round(len(seen.waits) * NAP_SECONDS / there, 2),
        workers_each_second=seen.workers[:: round(1 / STEP_SECONDS)],
        wanted=seen.history,
    )


# -- recorded traffic


def llm(path: Path) -> list[list[Call]]:
    """One function; how long a call takes is a stand-in: 0.02 s + 30 µs a prompt token + 20 ms a generated one."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    calls = [
        (_moment(row["TIMESTAMP"]), 0.02 + 0.00003 * float(row["ContextTokens"]) + 0.02 * float(row["GeneratedTokens"]))
        for row in rows
    ]
    first = min(at for at, _ in calls)
    return [sorted((at - first, seconds) for at, seconds in calls)]


def lora(path: Path) -> list[list[Call]]:
    """A function for each model."""
    functions: defaultdict[str, list[Call]] = defaultdict(list)
    with path.open() as file:
        for row in csv.DictReader(file):
            functions[row["model"]].append((_moment(row["arrived"]), max(0.0, float(row["seconds"] or 0))))
    first = min(at for calls in functions.values() for at, _ in calls)
    return [sorted((at - first, seconds) for at, seconds in calls) for calls in functions.values()]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text[:26]).replace(tzinfo=timezone.utc).timestamp()


def traces(folder: Path) -> None:
    """Each trace with fixed windows, and with what else the autoscaler can do."""
    for name, read, start in (
        ("alibaba_genai_lora.csv", lora, "adapter"),
        ("azure_llm_code.csv", llm, "model"),
        ("azure_llm_conversation.csv", llm, "model"),
    ):
        if not (folder / name).exists():
            say("trace", trace=name, missing=True)
            continue
        functions = read(folder / name)
        base = Scaling(scaledown_window_seconds=60.0)
        policies = {f"window {window:g} s": replace(base, scaledown_window_seconds=window) for window in WINDOWS}
        policies["60 s, prewarm"] = replace(base, prewarm=True)
        policies["60 s, buffer 1"] = replace(base, buffer_workers=1)
        policies["60 s, utilization 0.7"] = replace(base, target_utilization=0.7)
        policies["60 s, delay 2 s"] = replace(base, scaleup_delay_seconds=2.0)
        for kind in dict.fromkeys((start, "fork")):
            for policy, scaling in policies.items():
                _tell(name, policy, functions, scaling, kind)


def _tell(name: str, policy: str, functions: Sequence[Sequence[Call]], scaling: Scaling, kind: str) -> None:
    began = time.perf_counter()
    out = replay(functions, scaling, START_SECONDS[kind])
    whole = out.busy_seconds + out.idle_seconds + out.start_seconds
    say(
        "trace",
        trace=name,
        start=kind,
        policy=policy,
        calls=out.calls,
        cold=round(out.cold / max(1, out.calls), 4),
        wait_mean=round(sum(out.waits) / max(1, out.calls), 4),
        wait_p99=round(out.wait(0.99), 3),
        idle_hours=round(out.idle_seconds / 3600, 1),
        utilization=round(out.busy_seconds / whole, 3) if whole else 0.0,
        workers=out.most_workers,
        expected=out.expected,
        met=out.met,
        took=round(time.perf_counter() - began, 1),
    )


# -- many that wait


def dispatch() -> None:
    """The same closed loop with few and with many waiting, in turns; the middle one of the pairs' ratios."""
    with Loop(100) as few, Loop(100_000) as many:
        for loop in (few, many):
            loop.round(WARM_CALLS)
        pairs = []
        for number in range(PAIRS):
            first, second = (few, many) if number % 2 else (many, few)
            seen = {loop: loop.round(ROUND_CALLS) for loop in (first, second)}
            pairs.append((seen[few], seen[many]))
    for waiting, side in ((100, 0), (100_000, 1)):
        clock, cpu = (median(ROUND_CALLS / pair[side][which] for pair in pairs) for which in (0, 1))
        say("dispatch", waiting=waiting, rounds=PAIRS, per_second=round(clock), per_cpu_second=round(cpu))
    by_clock, by_cpu = (sorted(few[which] / many[which] for few, many in pairs) for which in (0, 1))
    say(
        "dispatch",
        ratio=round(median(by_clock), 3),
        quartiles=[round(by_clock[len(by_clock) * part // 4], 3) for part in (1, 3)],
        ratio_of_cpu=round(median(by_cpu), 3),
    )


class Loop:
    """A closed loop in a process of its own, with so many calls waiting; what a round took, by the clock and of CPU time."""

    def __init__(self, waiting: int) -> None:
        command = [sys.executable, str(Path(__file__).parent / "scaledispatch.py"), str(waiting)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def round(self, calls: int) -> tuple[float, float]:
        """So many calls pass."""
        assert self._process.stdin is not None, "it is a pipe"
        assert self._process.stdout is not None, "it is a pipe"
        self._process.stdin.write(f"{calls}\n")
        self._process.stdin.flush()
        seconds, cpu_seconds = json.loads(self._process.stdout.readline())
        return seconds, cpu_seconds


def memory(count: int) -> None:
    """A server without a node, which so many calls over 200 functions wait at."""
    waiting = relight.App("bench-waiting")
    functions = [waiting.function(name=f"f{n}", serialized=True)(lambda x: x) for n in range(200)]
    with server(with_agent="false") as pid:
        waiting.deploy()
        say("memory", waiting=0, rss_mib=_rss(pid))
        began, sent = time.perf_counter(), 0
        while sent < count:
            for function in functions:
                some = min(500, count - sent)
                if some:
                    function.spawn_map(range(some))
                    sent += some
            say("memory", waiting=sent, rss_mib=_rss(pid), per_second=round(sent / (time.perf_counter() - began)))


def _rss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024


def main() -> None:
    """What the command line asks for."""
    what, *rest = sys.argv[1:] or ["burst"]
    if what == "traces":
        traces(Path(rest[0]))
    elif what == "memory":
        memory(int(rest[0]) if rest else 1_000_000)
    else:
        {"burst": burst, "shapes": shapes, "dispatch": dispatch}[what]()


if __name__ == "__main__":
    main()
