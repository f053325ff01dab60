"""The phases of a start: they tile the time from the order to the end of it, whatever a worker says."""

from __future__ import annotations

import math

import pytest

from relight.agent.starts import FETCHED, Start
from relight.protocol.errors import StartFailed
from relight.protocol.link import StartWorker
from relight.protocol.starts import PHASES, StartLevel, StartReport


def phases(report: StartReport) -> dict[str, float]:
    """What took how long, to the microsecond."""
    return {phase.name: round(phase.seconds, 6) for phase in report.phases}


class Clock:
    """Goes on when the test says so."""

    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        """Its time."""
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start(clock: Clock) -> Start:
    return Start(clock.monotonic)


def test_a_fork_is_its_template_s_work_and_what_the_worker_says_it_did_itself(clock: Clock, start: Start) -> None:
    clock.time += 0.001
    start.begin("fork")
    clock.time += 0.002
    start.begun(StartLevel.FORK, "")
    clock.time += 0.007
    report = start.ready(0.003, 0.001)
    assert (report.level, report.why) == (StartLevel.FORK, "")
    assert phases(report) == {"place": 0.001, "fork": 0.002, "thaw": 0.003, "import": 0.003, "enter": 0.001}
    assert report.seconds == pytest.approx(0.010)


def test_a_start_that_waits_for_a_template_says_how_long_and_why(clock: Clock, start: Start) -> None:
    start.begin("template")
    clock.time += 0.4
    start.begin("fork")
    clock.time += 0.003
    start.begun(StartLevel.BOOT, "first: nobody was here before")
    clock.time += 0.002
    report = start.ready(0.0, 0.0)
    assert (report.level, report.why) == (StartLevel.BOOT, "first: nobody was here before")
    assert phases(report) == {"place": 0.0, "template": 0.4, "fork": 0.003, "thaw": 0.002, "import": 0.0, "enter": 0.0}


def test_a_fresh_process_spends_in_python_what_is_neither_import_nor_enter(clock: Clock, start: Start) -> None:
    start.begin("layout")
    clock.time += 0.001
    start.begin("sandbox")
    clock.time += 0.012
    start.begun(StartLevel.BOOT, "gpu: by itself")
    clock.time += 0.5
    report = start.ready(0.3, 0.15)
    assert list(phases(report)) == ["place", "layout", "sandbox", "python", "import", "enter"]
    assert phases(report)["python"] == 0.05
    assert report.seconds == pytest.approx(0.513)


def test_a_fresh_process_after_a_fork_that_failed_starts_python(clock: Clock, start: Start) -> None:
    for phase in ("fork", "layout", "sandbox"):
        start.begin(phase)
        clock.time += 0.002
    start.begun(StartLevel.BOOT, "lost: its template's process had ended")
    clock.time += 0.05

    report = start.ready(0.01, 0.0)

    names = {
        "place": 0.0,
        "fork": 0.002,
        "layout": 0.002,
        "sandbox": 0.002,
        "python": 0.04,
        "import": 0.01,
        "enter": 0.0,
    }
    assert phases(report) == names


def test_code_that_is_brought_makes_it_the_slowest_kind_of_start(clock: Clock, start: Start) -> None:
    start.fetch()
    clock.time += 2
    start.begin("fork")
    start.begun(StartLevel.FORK, "")
    report = start.ready(0.0, 0.0)
    assert (report.level, report.why) == (StartLevel.FETCH, FETCHED)
    assert phases(report)["fetch"] == 2


@pytest.mark.parametrize(
    ("said", "believed"),
    [
        ((5.0, 9.0), (0.0, 1.0)),
        ((5.0, 0.4), (0.6, 0.4)),
        ((-1.0, -1.0), (0.0, 0.0)),
        ((math.nan, math.inf), (0.0, 0.0)),
    ],
)
def test_a_worker_is_believed_only_the_seconds_that_there_were(
    clock: Clock, start: Start, said: tuple[float, float], believed: tuple[float, float]
) -> None:
    start.begin("sandbox")
    start.begun(StartLevel.BOOT, "")
    clock.time += 1
    report = start.ready(*said)
    assert (phases(report)["import"], phases(report)["enter"]) == believed
    assert report.seconds == pytest.approx(1)


def test_a_start_that_fails_tells_what_it_was_at(clock: Clock, start: Start) -> None:
    start.begin("layout")
    start.begin("sandbox")
    clock.time += 0.25
    assert phases(start.failed()) == {"place": 0.0, "layout": 0.0, "sandbox": 0.25}


def test_a_start_that_fails_while_it_loads_does_not_guess_where(clock: Clock, start: Start) -> None:
    start.begin("sandbox")
    start.begun(StartLevel.BOOT, "asked: no template")
    clock.time += 3
    report = start.failed()
    assert (phases(report)["load"], report.why) == (3, "asked: no template")


async def test_a_worker_that_is_ready_tells_its_start_once(bench):
    worker, sandbox = await bench.begin()
    bench.clock.time += 0.5
    sandbox.hear()
    sandbox.say(bench.word_ready())
    await bench.settle()
    told = bench.changes[-1].start
    assert told.level is StartLevel.FORK
    assert phases(told) == {"place": 0.0, "fork": 0.0, "thaw": 0.4, "import": 0.1, "enter": 0.0}
    worker.stop(now=True)
    await bench.settle()
    assert [change.start for change in bench.changes].count(None) == len(bench.changes) - 1


async def test_a_worker_that_is_gone_before_it_was_ready_tells_how_far_it_came(bench):
    bench.sandboxes.refusal = StartFailed("no room")
    bench.workers.start(StartWorker(worker="worker-1", spec=bench.spec()))
    await bench.settle()
    told = bench.changes[-1].start
    assert [phase.name for phase in told.phases] == ["place", "fork"]
    assert set(PHASES) >= {"place", "fork"}


async def test_a_worker_that_was_stopped_while_it_started_did_not_fail(bench):
    worker, _ = await bench.begin()
    worker.stop()
    await bench.settle()
    assert (bench.changes[-1].exit.reason, bench.changes[-1].start) == ("stopped", None)
