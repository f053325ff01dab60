"""Rounds over peers, and what is made of them: medians, ratios, JSON lines, a table.

Peers take turns within a round, in another order each round, so that whatever else the machine does meets all of them.
A figure is the median of its rounds.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import processes

HERE = Path(__file__).parent
LEAVE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    rounds: int
    warm: int
    one: int
    many: int
    idle_seconds: float
    imports: int
    standing_seconds: float = 2.0


FULL = Plan(rounds=5, warm=200, one=1000, many=10_000, idle_seconds=10.0, imports=20)
QUICK = Plan(rounds=3, warm=100, one=300, many=2000, idle_seconds=3.0, imports=10)

MOST_AT_ONCE = {"celery": 2000}
"""Peers that take more than their share of the time: fewer calls a round, the same figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """One call after the other, in one round."""

    peer: str
    round: int
    calls: int
    p50_us: float
    p90_us: float
    p99_us: float
    cpu_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Many calls at once, in one round."""

    peer: str
    round: int
    calls: int
    per_second: float
    cpu_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a peer's processes use while nobody calls: it is in the way of the others."""

    peer: str
    cpu_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that was measured."""

    latencies: tuple[Latency, ...]
    throughputs: tuple[Throughput, ...]
    standing: tuple[Standing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one peer's rounds come to."""

    peer: str
    p50_us: float
    p90_us: float
    p99_us: float
    per_second: float
    one_cpu_us: float
    many_cpu_us: float
    idle_cpu_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A promise, and what was seen."""

    what: str
    seen: float
    limit: float
    unit: str
    is_most: bool = True

    @property
    def holds(self) -> bool:
        """Whether what was seen keeps it."""
        return self.seen <= self.limit if self.is_most else self.seen >= self.limit


Turn = TypeVar("Turn")
Tell = Callable[[str, object], None]
"""Takes a kind and a dataclass: one JSON line."""


def write_line(line: str) -> None:
    """To the standard output, at once."""
    sys.stdout.write(line)
    sys.stdout.flush()


def tell_to(write: Callable[[str], object] = write_line) -> Tell:
    """JSON lines: the kind, then the fields."""

    def tell(kind: str, what: object) -> None:
        write(json.dumps({"kind": kind, **asdict(what)}) + "\n")  # type: ignore[call-overload]  # every one is a dataclass

    return tell


class Driver:
    """The process of one peer."""

    def __init__(self, peer: str, folder: Path) -> None:
        self.peer = peer
        folder.mkdir()
        self._log = folder / "driver.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "driver.py"), peer, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=HERE,
                env=environment(folder),
            )
        self.missing = ""

    def wait_ready(self) -> None:
        """Return when its peer is open, or `missing` says why there is none."""
        self.missing = str(self._hear().get("missing", ""))

    def latency(self, number: int, n: int) -> Latency:
        """`n` calls, one after the other."""
        seconds, cpu = self._measure("one", n)
        p50, p90, p99 = (quantile(seconds, part) * 1e6 for part in (0.5, 0.9, 0.99))
        return Latency(peer=self.peer, round=number, calls=n, p50_us=p50, p90_us=p90, p99_us=p99, cpu_us=cpu / n * 1e6)

    def throughput(self, number: int, n: int) -> Throughput:
        """`n` calls at once."""
        seconds, cpu = self._measure("many", n)
        return Throughput(peer=self.peer, round=number, calls=n, per_second=n / seconds[0], cpu_us=cpu / n * 1e6)

    def cpu_used(self) -> dict[int, int]:
        """CPU used so far by each of its processes."""
        return processes.cpu_used(self._process.pid)

    def close(self) -> None:
        """Let it leave with all it started; what has not left in time is killed."""
        below = processes.tree(self._process.pid)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in below:
                os.kill(pid, signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()

    def _measure(self, what: str, n: int) -> tuple[list[float], float]:
        assert self._process.stdin is not None
        before = self.cpu_used()
        self._process.stdin.write(json.dumps({"do": what, "n": n}) + "\n")
        self._process.stdin.flush()
        seconds = self._hear()["seconds"]
        assert isinstance(seconds, list)
        return seconds, processes.cpu_seconds(before, self.cpu_used())

    def _hear(self) -> dict[str, object]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            words = self._log.read_text(errors="replace").strip().splitlines()[-20:]
            raise RuntimeError(f"cannot measure {self.peer}: its process ended; it said:\n" + "\n".join(words))
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer


def environment(folder: Path) -> dict[str, str]:
    """A process's own: a home in `folder`, and no server, profile or setting of the caller."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELIGHT_")}
    return {**kept, "HOME": str(folder)}


@contextmanager
def open_drivers(peers: Sequence[str], folder: Path, skip: Callable[[str, str], None]) -> Iterator[list[Driver]]:
    """The processes of those peers that can be had; `skip` is told of each that cannot, and why."""
    with ExitStack() as stack:
        drivers = []
        for peer in peers:
            driver = Driver(peer, folder / peer)
            stack.callback(driver.close)
            driver.wait_ready()
            if driver.missing:
                skip(peer, driver.missing)
            else:
                drivers.append(driver)
        yield drivers


def run_rounds(drivers: Sequence[Driver], plan: Plan, tell: Tell) -> Seen:
    """Warm everything up, see what it does by itself, then measure round by round.  The warm-up is not told."""
    for driver in drivers:
        driver.latency(0, plan.warm)
        driver.throughput(0, _at_once(driver, plan) // 4)
    standing = see_standing(drivers, plan.standing_seconds)
    for one in standing:
        tell("standing", one)
    latencies: list[Latency] = []
    throughputs: list[Throughput] = []
    for number in range(1, plan.rounds + 1):
        for driver in turns(drivers, number):
            latencies.append(driver.latency(number, plan.one))
            tell("latency", latencies[-1])
        for driver in turns(drivers, number):
            throughputs.append(driver.throughput(number, _at_once(driver, plan)))
            tell("throughput", throughputs[-1])
    return Seen(latencies=tuple(latencies), throughputs=tuple(throughputs), standing=standing)


def see_standing(drivers: Sequence[Driver], seconds: float) -> tuple[Standing, ...]:
    """What each uses in so many seconds in which nobody calls."""
    before = [driver.cpu_used() for driver in drivers]
    time.sleep(seconds)
    return tuple(
        Standing(peer=driver.peer, cpu_percent=processes.cpu_seconds(used, driver.cpu_used()) / seconds * 100)
        for driver, used in zip(drivers, before, strict=True)
    )


def turns(peers: Sequence[Turn], number: int) -> Iterable[Turn]:
    """Another order each round: each peer begins in its turn, and every second round goes backwards."""
    at = number % len(peers) if peers else 0
    order = [*peers[at:], *peers[:at]]
    return reversed(order) if number % 2 else order


def _at_once(driver: Driver, plan: Plan) -> int:
    return min(plan.many, MOST_AT_ONCE.get(driver.peer, plan.many))


def figures_of(seen: Seen) -> dict[str, Figures]:
    """The median of each peer's rounds."""
    figures = {}
    for standing in seen.standing:
        ones = [one for one in seen.latencies if one.peer == standing.peer]
        manies = [one for one in seen.throughputs if one.peer == standing.peer]
        figures[standing.peer] = Figures(
            peer=standing.peer,
            p50_us=statistics.median(one.p50_us for one in ones),
            p90_us=statistics.median(one.p90_us for one in ones),
            p99_us=statistics.median(one.p99_us for one in ones),
            per_second=statistics.median(one.per_second for one in manies),
            one_cpu_us=statistics.median(one.cpu_us for one in ones),
            many_cpu_us=statistics.median(one.cpu_us for one in manies),
            idle_cpu_percent=standing.cpu_percent,
        )
    return figures


def quantile(values: Sequence[float], part: float) -> float:
    """The value that `part` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def table(figures: dict[str, Figures]) -> str:
    """The figures for people, each beside relight's."""
    head = ("", "p50 ms", "p90 ms", "p99 ms", "calls/s", "CPU us/call", "at once", "idle CPU %", "p50 x", "calls/s x")
    own = figures.get("relight")
    return columns([head, *(_row(one, own) for one in figures.values())])


def _row(one: Figures, own: Figures | None) -> tuple[str, ...]:
    beside = ("", "") if own is None else (f"{one.p50_us / own.p50_us:.2f}", f"{one.per_second / own.per_second:.2f}")
    return (
        one.peer,
        *(f"{value / 1000:.3f}" for value in (one.p50_us, one.p90_us, one.p99_us)),
        *(f"{value:,.0f}" for value in (one.per_second, one.one_cpu_us, one.many_cpu_us)),
        f"{one.idle_cpu_percent:.1f}",
        *beside,
    )


def conclude(targets: Sequence[Target], tables: Sequence[str], tell: Tell, *, checks: bool) -> int:
    """Tell what was promised and seen; the exit status, which is 1 where it `checks` and a promise does not hold."""
    for target in targets:
        tell("target", target)
    sys.stderr.write("\n" + "\n\n".join([*tables, verdicts(targets)]) + "\n")
    return 1 if checks and not all(one.holds for one in targets) else 0


def verdicts(targets: Sequence[Target]) -> str:
    """The promises for people."""
    return columns([_verdict(one) for one in targets])


def _verdict(one: Target) -> tuple[str, ...]:
    limit = f"{'at most' if one.is_most else 'at least'} {one.limit:g}"
    return (one.what, f"{one.seen:.2f} {one.unit}", limit, "holds" if one.holds else "DOES NOT HOLD")


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Lines with the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)
