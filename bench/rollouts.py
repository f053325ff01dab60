"""Versions under traffic that never stops: how soon a rollback answers, and what of the traffic is lost meanwhile.

    python bench/rollouts.py                     # everything: 100 deploys, 50 rollbacks, 20 that fail, canaries at 10 %
    python bench/rollouts.py --only rollback --rounds 50
    python bench/rollouts.py --only traffic --deploys 20

A rollback is measured over HTTP from before it is asked for until a call that was sent after it has answered, once with the
template of the version before alone (its workers are gone), once with a worker of it still idle; in each round a warm call is
measured beside, and the first call of a version that was just deployed.  The traffic is two clients that call over HTTP one call after another and note each status and each answer.
JSON lines go to the standard output as they are measured, tables to the standard error.  `--check` ends with status 1
when a promise does not hold.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

from harness import Target, columns, conclude, environment, quantile, tell_to

import relight
from relight.sdk.connection import connect

FIRST_ANSWER_MS = 50.0
CANARY_PERCENT, CANARY_OFF = 10.0, 2.0
CANARY_CALLS = 3000
"""So many calls tell 10 % from 12 to more than three and a half standard deviations."""

APP = "bench-rollouts"
CALL = f"/v1/apps/{APP}/functions/number/call"
GONE, IDLE = "its template alone", "a worker of it idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """One rollback: milliseconds until it was answered, and until the first call after it was; beside it a warm call, and the
    first call of a version that was just deployed, which starts a worker too."""

    there_is: str
    round: int
    rollback_ms: float
    first_answer_ms: float
    warm_call_ms: float
    first_call_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What became of the calls while versions came and went."""

    calls: int
    seconds: float
    deploys: int
    rollbacks: int
    failed_deploys: int
    errors_5xx: int
    other_errors: int
    wrong_answers: int
    unfinished: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """How many of the calls a canary had."""

    calls: int
    percent: float


class _Unloadable:
    """Cannot be loaded where it arrives."""

    def __reduce__(self) -> object:
        return importlib.import_module, ("no_module_of_this_name",)


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens, and what it asks for."""

    port: int
    token: str

    def connect(self) -> HTTPConnection:
        """A connection of its own."""
        return HTTPConnection("127.0.0.1", self.port, timeout=30)

    def post(self, connection: HTTPConnection, path: str) -> tuple[int, object]:
        """The status, and what it answered: of a call its result."""
        connection.request(
            "POST", path, b"{}", {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        said = json.loads(answer.read() or b"null")
        return answer.status, said.get("result") if path == CALL else said


@contextmanager
def server_on(folder: Path) -> Iterator[Server]:
    """A server of its own, which this process's SDK finds."""
    command = [sys.executable, "-m", "relight", "up", "--data-dir", str(folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(folder.parent), text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("relight is up"), "the server did not start"
    os.environ["RELIGHT_DATA_DIR"] = str(folder)
    url = json.loads((folder / "run" / "server.json").read_text())["url"]
    try:
        yield Server(int(url.rpartition(":")[2]), (folder / "token").read_text().strip())
    finally:
        process.terminate()
        process.wait(60)


def deploy(number: int, *, canary: float = 100.0, window: float = 60.0, fails: bool = False) -> str:
    """Deploy a version that answers `number`, or one that cannot be loaded; the id of the version."""
    app = relight.App(APP)
    broken = _Unloadable() if fails else None

    @app.function(name="number", serialized=True, scaledown_window=window)
    def answer() -> int:
        return number if broken is None else -1

    return app.deploy(canary=canary).version


# -- a rollback


def rollbacks(server: Server, there_is: str, rounds: int) -> Iterator[RolledBack]:
    """Two versions; back to the first, and forth again by deploying the second anew."""
    connection = server.connect()
    window = 60.0 if there_is == IDLE else 0.0
    before = deploy(0, window=window)
    for number in range(rounds):
        _settle(server, connection, before, there_is, number)
        deploy(number + 1, window=window)
        asked = time.perf_counter()
        _first(server, connection, number + 1)
        first = time.perf_counter() - asked
        warm = min(_timed(server, connection)[0] for _ in range(3))
        if there_is == GONE:
            _wait_gone(before)
        began = time.perf_counter()
        status, _ = server.post(connection, f"/v1/apps/{APP}/rollback?to={before}")
        rolled = time.perf_counter()
        _, answered = server.post(connection, CALL)
        ended = time.perf_counter()
        assert (status, answered) == (200, 0), f"the rollback came to {status}, and a call after it to {answered}"
        yield RolledBack(
            there_is=there_is,
            round=number,
            rollback_ms=1000 * (rolled - began),
            first_answer_ms=1000 * (ended - began),
            warm_call_ms=1000 * warm,
            first_call_ms=1000 * first,
        )


def _settle(server: Server, connection: HTTPConnection, before: str, there_is: str, number: int) -> None:
    """The version before has answered, so that its template is there and, where that is asked, a worker of it."""
    if number and there_is == IDLE:
        server.post(connection, f"/v1/apps/{APP}/rollback?to={before}")
    _first(server, connection, 0)


def _first(server: Server, connection: HTTPConnection, number: int) -> None:
    status, answered = server.post(connection, CALL)
    assert (status, answered) == (200, number), f"version {number} answered {answered} with status {status}"


def _timed(server: Server, connection: HTTPConnection) -> tuple[float, object]:
    began = time.perf_counter()
    _, answered = server.post(connection, CALL)
    return time.perf_counter() - began, answered


def _wait_gone(version: str) -> None:
    """Until no worker of a version is there."""
    while any(one["version"] == version for one in connect().json("GET", "/v1/workers")["workers"]):  # type: ignore[index,call-overload,union-attr]  # JSON
        time.sleep(0.02)


# -- traffic


@dataclass(slots=True)
class Clients:
    """Threads that call one call after another; what they were answered."""

    server: Server
    statuses: Counter[int] = field(default_factory=Counter)
    answers: Counter[object] = field(default_factory=Counter)
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def calls(self) -> int:
        """How many have ended."""
        return self.statuses.total()

    @contextmanager
    def calling(self, count: int = 2) -> Iterator[Clients]:
        """While this lasts."""
        threads = [threading.Thread(target=self._call, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join(60)

    def _call(self) -> None:
        connection = self.server.connect()
        while not self._over.is_set():
            status, answered = 0, None  # 0: no answer at all
            with suppress(OSError):
                status, answered = self.server.post(connection, CALL)
            with self._lock:
                self.statuses[status] += 1
                if status == 200:
                    self.answers[answered] += 1


def traffic(server: Server, deploys: int) -> Iterator[Traffic | Canary]:
    """So many deploys, half as many rollbacks and a fifth that fail; then a canary."""
    connection = server.connect()
    deploy(0)
    rolled = failed = 0
    began = time.perf_counter()
    clients = Clients(server)
    with clients.calling():
        for number in range(1, deploys + 1):
            deploy(number)
            if number % 5 == 0:
                with suppress(relight.DeployFailed):
                    deploy(-1, fails=True)
                    raise AssertionError("what cannot be loaded was deployed")
                failed += 1
            if number % 2 == 0:
                status, _ = server.post(connection, f"/v1/apps/{APP}/rollback")
                assert status == 200, f"a rollback came to {status}"
                rolled += 1
    known = set(range(deploys + 1))
    yield Traffic(
        calls=clients.calls,
        seconds=round(time.perf_counter() - began, 1),
        deploys=deploys,
        rollbacks=rolled,
        failed_deploys=failed,
        errors_5xx=sum(count for status, count in clients.statuses.items() if status >= 500),
        other_errors=sum(count for status, count in clients.statuses.items() if status < 500 and status != 200),
        wrong_answers=sum(count for answered, count in clients.answers.items() if answered not in known),
        unfinished=_unfinished(),
    )
    yield _canary(server, deploys + 1)


def _canary(server: Server, number: int) -> Canary:
    """What a canary gets of enough calls to tell."""
    deploy(number)
    deploy(number + 1, canary=CANARY_PERCENT)
    clients = Clients(server)
    with clients.calling(4):
        while clients.calls < CANARY_CALLS:
            time.sleep(0.05)
    assert set(clients.answers) == {number, number + 1}, f"answers were {dict(clients.answers)}"
    return Canary(calls=clients.calls, percent=round(100 * clients.answers[number + 1] / clients.calls, 2))


def _unfinished() -> int:
    """How many calls are neither answered nor failed, though nobody calls any more."""
    states = ("queued", "running")
    return sum(len(connect().json("GET", f"/v1/calls?state={state}")["calls"]) for state in states)  # type: ignore[index,call-overload,arg-type]  # JSON


# -- what is told


def targets_of(rolled: Sequence[RolledBack], seen: Sequence[Traffic | Canary]) -> list[Target]:
    """What relight promises."""
    targets = [
        Target(what=f"rollback to first answer, {kind}, p50", seen=_p50(rolled, kind), limit=FIRST_ANSWER_MS, unit="ms")
        for kind in dict.fromkeys(one.there_is for one in rolled)
    ]
    for one in seen:
        if isinstance(one, Canary):
            off = abs(one.percent - CANARY_PERCENT)
            targets.append(Target(what="a canary's share, off by", seen=off, limit=CANARY_OFF, unit="%"))
            continue
        for what, count in (
            ("5xx", one.errors_5xx),
            ("other errors", one.other_errors),
            ("answers of nothing that was deployed", one.wrong_answers),
            ("calls without an end", one.unfinished),
        ):
            targets.append(Target(what=what, seen=float(count), limit=0.0, unit=""))
    return targets


def _p50(rolled: Sequence[RolledBack], kind: str) -> float:
    return quantile([one.first_answer_ms for one in rolled if one.there_is == kind], 0.5)


def table(rolled: Sequence[RolledBack]) -> str:
    """The rollbacks for people, each kind beside a warm call."""
    rows = [
        (
            "rollback, of the version before there is",
            "its answer p50 ms",
            "first call's p50",
            "p99",
            "a warm call's",
            "a new version's first",
        )
    ]
    for kind in dict.fromkeys(one.there_is for one in rolled):
        own = [one for one in rolled if one.there_is == kind]
        firsts = [one.first_answer_ms for one in own]
        figures = (
            quantile([one.rollback_ms for one in own], 0.5),
            quantile(firsts, 0.5),
            quantile(firsts, 0.99),
            quantile([one.warm_call_ms for one in own], 0.5),
            quantile([one.first_call_ms for one in own], 0.5),
        )
        rows.append((f"{kind} ({len(own)} rounds)", *(f"{figure:.1f}" for figure in figures)))
    return columns(rows)


def main(words: Sequence[str] | None = None) -> int:
    """Measure what the command line says; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("rollback", "traffic"), help="one of them")
    parser.add_argument("--rounds", type=int, default=50, help="rollbacks of each kind (50)")
    parser.add_argument("--deploys", type=int, default=100, help="deploys under traffic (100)")
    parser.add_argument("--check", action="store_true", help="end with status 1 when a promise does not hold")
    options = parser.parse_args(words)
    tell = tell_to()
    rolled: list[RolledBack] = []
    seen: list[Traffic | Canary] = []
    with (
        tempfile.TemporaryDirectory(prefix="rb-", ignore_cleanup_errors=True) as name,
        server_on(Path(name) / "data") as server,
    ):
        for kind in (IDLE, GONE) if options.only != "traffic" else ():
            for one in rollbacks(server, kind, options.rounds):
                rolled.append(one)
                tell("rolled_back", one)
        for other in traffic(server, options.deploys) if options.only != "rollback" else ():
            seen.append(other)
            tell(type(other).__name__.lower(), other)
    tables = [table(rolled)] if rolled else []
    return conclude(targets_of(rolled, seen), tables, tell, checks=options.check)


if __name__ == "__main__":
    sys.exit(main())
