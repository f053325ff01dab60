"""How soon a cancel is an end: relight through its public SDK, beside plain processes that are signalled and killed.

    python bench/cancel.py                     # ten of each, a minute
    python bench/cancel.py --rounds 3

A figure is the time from `cancel()` until the result is known to be `CallCancelled`, with the call's own code running
before.  Rounds go through all kinds in turn.  JSON lines go to the standard output as they are measured, the table to
the standard error at the end.  `--check` ends with status 1 when a promise does not hold.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import stubborn
from harness import HERE, Target, columns, conclude, environment, tell_to

import relight

Call = relight.Call[Any]

SETTLE_SECONDS = 0.3
"""After a call is said to run: by then its own code does."""

START_SECONDS = 30.0
GRACE_MS = stubborn.GRACE_SECONDS * 1000
DEAF = ("deaf to signals in C", "holding the interpreter in C")
SIGNALLED, KILLED = "a plain Python process, SIGTERM", "a plain process deaf to signals, SIGKILL"
QUEUED = "queued"
GENERATOR = "a generator"
LIMITS_MS = {QUEUED: 50.0, **dict.fromkeys(DEAF, GRACE_MS + 1000.0)}
RUNNING_LIMIT_MS = 500.0
MANY = ("a map of 1,000 calls, one request", "a call and the 20 it waits for")
MAP_CALLS = 1000
CHILDREN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """One cancel: milliseconds until the caller knew, and the processes that the worker's control groups then held.

    `processes` is None where the worker is not to die, or has no control groups.
    """

    what: str
    round: int
    ms: float
    processes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All cancels of one kind.  `processes` is the most that a killed worker's groups held afterwards."""

    what: str
    cancels: int
    median_ms: float
    slowest_ms: float
    processes: int | None


class Server:
    """`relight up` on a folder of its own, asked for what the SDK has no word for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._url = str(json.loads((folder / "run" / "server.json").read_text())["url"])
        self._token = (folder / "token").read_text().strip()

    def sandbox_of(self, call: str) -> str:
        """The name of the control groups of the worker that runs a call."""
        worker = self._get(f"/v1/calls/{call}")["call"]["worker"]
        return next(str(one["sandbox"]) for one in self._get("/v1/workers")["workers"] if one["id"] == worker)

    def newest_call(self, app: str, function: str) -> str:
        """The id of the call that came last."""
        return str(self._get(f"/v1/calls?app={app}&function={function}&limit=1")["calls"][0]["id"])

    def _get(self, path: str) -> Any:
        request = urllib.request.Request(self._url + path, headers={"Authorization": f"Bearer {self._token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def processes_of(self, sandbox: str) -> int | None:
        """How many processes a sandbox's control groups hold, 0 where they are gone; None on a machine without any."""
        parents = (self._folder / "agent" / "sandboxes" / "groups").read_text().split()
        files = [Path(parent) / sandbox / "cgroup.procs" for parent in parents]
        pids = {pid for file in files if file.exists() for pid in file.read_text().split()}
        return len(pids) if parents else None


@contextmanager
def server_on(folder: Path) -> Iterator[Server]:
    """A server with its agent on the folder, which this process's SDK finds."""
    command = [sys.executable, "-m", "relight", "up", "--data-dir", str(folder), "--port", "0", "--node", "bench"]
    folder.mkdir()
    with (folder / "server.out").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=HERE, env=environment(folder)
        )
    assert process.stdout is not None
    try:
        if not (select.select([process.stdout], [], [], START_SECONDS)[0] and process.stdout.readline()):
            raise RuntimeError(f"cannot measure: the server did not start:\n{(folder / 'server.out').read_text()}")
        os.environ["RELIGHT_DATA_DIR"] = str(folder)
        yield Server(folder)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


class Bench:
    """Cancels on one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        stubborn.app.deploy()

    def kinds(self) -> dict[str, Callable[[int], Cancelled]]:
        """What is cancelled, each by its name."""
        running: dict[str, Callable[[], Call]] = {
            "computing in Python": stubborn.spin.spawn,
            "asleep": stubborn.sleep.spawn,
            "in `except Exception: pass`": stubborn.persist.spawn,
            "104 threads": stubborn.hold_threads.spawn,
            "async, awaiting": stubborn.wait.spawn,
            "async, never awaiting": stubborn.spin_on_loop.spawn,
            DEAF[0]: stubborn.deaf.spawn,
            DEAF[1]: stubborn.hold_interpreter.spawn,
        }
        return {
            QUEUED: self._queued,
            **{kind: partial(self._running, kind, spawn) for kind, spawn in running.items()},
            GENERATOR: self._generator,
            MANY[0]: self._map,
            MANY[1]: self._parent,
            SIGNALLED: _signalled,
            KILLED: _killed,
        }

    def _running(self, kind: str, spawn: Callable[[], Call], number: int) -> Cancelled:
        call = spawn()
        self._until_running(call)
        sandbox = self._server.sandbox_of(call.id)
        if self._server.processes_of(sandbox) == 0:
            raise RuntimeError(
                f"cannot count the processes of {sandbox}: its call runs, and its control groups are empty"
            )
        ms = _time_cancel(call)
        left = self._server.processes_of(sandbox) if kind in DEAF else None
        return Cancelled(what=kind, round=number, ms=ms, processes=left)

    def _generator(self, number: int) -> Cancelled:
        items = stubborn.count.remote()
        next(items)
        call = relight.Call.from_id(self._server.newest_call("stubborn", "count"))
        began = time.perf_counter()
        call.cancel()
        try:
            seen = list(items)
        except relight.CallCancelled:
            return Cancelled(what=GENERATOR, round=number, ms=(time.perf_counter() - began) * 1000)
        raise _unbelievable(seen)

    def _queued(self, number: int) -> Cancelled:
        before = stubborn.sleep.spawn()
        self._until_running(before)
        ms = _time_cancel(stubborn.sleep.spawn())  # max_workers=1: it waits for the one before
        _time_cancel(before)
        return Cancelled(what=QUEUED, round=number, ms=ms)

    def _map(self, number: int) -> Cancelled:
        group = stubborn.sleep.spawn_map([stubborn.LONG] * MAP_CALLS)
        self._until_running(group[0])
        began = time.perf_counter()
        group.cancel()
        results: list[object] = list(group.results(order_outputs=False, return_exceptions=True))
        ms = (time.perf_counter() - began) * 1000
        if len(results) != MAP_CALLS or {type(one) for one in results} != {relight.CallCancelled}:
            raise _unbelievable(results)
        return Cancelled(what=MANY[0], round=number, ms=ms)

    def _parent(self, number: int) -> Cancelled:
        call = stubborn.parent.spawn(CHILDREN)
        while len(children := call.tree().children) < CHILDREN:
            time.sleep(0.01)
        self._until_running(call)
        began = time.perf_counter()
        call.cancel()
        for one in (call, *(relight.Call.from_id(child.id) for child in children)):
            _wait_cancelled(one)
        return Cancelled(what=MANY[1], round=number, ms=(time.perf_counter() - began) * 1000)

    def _until_running(self, call: Call) -> None:
        while call.status().value != "running":
            time.sleep(0.01)
        time.sleep(SETTLE_SECONDS)


def _unbelievable(seen: object) -> ValueError:
    return ValueError(f"cannot believe a measurement: every call was to be cancelled, and this was seen: {seen!r:.300}")


def _time_cancel(call: Call) -> float:
    """Milliseconds from the request until the end is known."""
    began = time.perf_counter()
    call.cancel()
    _wait_cancelled(call)
    return (time.perf_counter() - began) * 1000


def _wait_cancelled(call: Call) -> None:
    try:
        seen = call.get(timeout=60)
    except relight.CallCancelled:
        return
    raise _unbelievable(seen)


def _signalled(number: int) -> Cancelled:
    """What a signal costs that a program obeys."""
    program = "import itertools\nprint(flush=True)\nfor _ in itertools.count(): pass"
    return Cancelled(what=SIGNALLED, round=number, ms=_time_signal(program, signal.SIGTERM))


def _killed(number: int) -> Cancelled:
    """What the kernel takes for a process that can do nothing about it."""
    program = (
        "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "print(flush=True)\ntime.sleep(3600)"
    )
    return Cancelled(what=KILLED, round=number, ms=_time_signal(program, signal.SIGKILL))


def _time_signal(program: str, number: int) -> float:
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(SETTLE_SECONDS)
    began = time.perf_counter()
    process.send_signal(number)
    process.wait()
    ms = (time.perf_counter() - began) * 1000
    process.stdout.close()
    return ms


def figures_of(cancels: Sequence[Cancelled]) -> list[Figures]:
    """What the cancels of each kind come to."""
    kinds: defaultdict[str, list[Cancelled]] = defaultdict(list)
    for one in cancels:
        kinds[one.what].append(one)
    return [
        Figures(
            what=kind,
            cancels=len(those),
            median_ms=statistics.median(one.ms for one in those),
            slowest_ms=max(one.ms for one in those),
            processes=max((one.processes for one in those if one.processes is not None), default=None),
        )
        for kind, those in kinds.items()
    ]


def targets_of(figures: Sequence[Figures]) -> list[Target]:
    """What relight promises: for the slowest of each kind, and that nothing of a killed worker is left."""
    own = [one for one in figures if one.what not in (SIGNALLED, KILLED, *MANY)]
    targets = [
        Target(what=one.what, seen=one.slowest_ms, limit=LIMITS_MS.get(one.what, RUNNING_LIMIT_MS), unit="ms")
        for one in own
    ]
    left = [one for one in own if one.processes is not None]
    return [
        *targets,
        *(
            Target(what=f"processes left, {one.what}", seen=float(one.processes or 0), limit=0.0, unit="")
            for one in left
        ),
    ]


def table(figures: Sequence[Figures]) -> str:
    """The figures for people, each beside the plain process that is stopped in the same way."""
    medians = {one.what: one.median_ms for one in figures}
    head = ("", "median ms", "slowest ms", "beside a plain process")
    return columns([head, *(_row(one, medians) for one in figures)])


def _row(one: Figures, medians: dict[str, float]) -> tuple[str, ...]:
    beside = one.median_ms - GRACE_MS - medians[KILLED] if one.what in DEAF else one.median_ms - medians[SIGNALLED]
    after = "" if one.what in (SIGNALLED, KILLED) else f"{beside:+.1f} ms{' and the grace' * (one.what in DEAF)}"
    return (one.what, f"{one.median_ms:.1f}", f"{one.slowest_ms:.1f}", after)


def main(words: Sequence[str] | None = None) -> int:
    """Measure what the command line says; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="how often each kind is cancelled (10)")
    parser.add_argument("--folder", type=Path, help="where the server keeps its state (the system's temporary folder)")
    parser.add_argument("--check", action="store_true", help="end with status 1 when a promise does not hold")
    options = parser.parse_args(words)
    tell = tell_to()
    cancels: list[Cancelled] = []
    with (
        tempfile.TemporaryDirectory(prefix="rb-", dir=options.folder, ignore_cleanup_errors=True) as name,
        server_on(Path(name) / "data") as server,
    ):
        kinds = Bench(server).kinds()
        for number, kind in itertools.product(range(options.rounds), kinds):
            cancels.append(kinds[kind](number))
            tell("cancelled", cancels[-1])
    figures = figures_of(cancels)
    targets = targets_of(figures)
    for one in figures:
        tell("figures", one)
    return conclude(targets, [table(figures)], tell, checks=options.check)


if __name__ == "__main__":
    sys.exit(main())
