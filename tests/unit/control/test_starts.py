"""What starts come to: by function and level, how quick, and why no quicker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relight.blobs.store import BlobStore
from relight.clock import SystemClock
from relight.control import starts as module
from relight.control.platform import Control, Rules, open_control
from relight.control.starts import BOUNDS, percentile, start_for, summarize
from relight.protocol import PROTOCOL
from relight.protocol.calls import CallView
from relight.protocol.exits import WorkerExit
from relight.protocol.link import HeldWorker, Hello, Reports, WorkerChange, WorkerSpec
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest
from relight.protocol.payload import Payload
from relight.protocol.starts import Phase, StartLevel, StartReport
from relight.protocol.startviews import StartQuery, StartView
from relight.protocol.workers import WorkerInterval, WorkerState
from relight.scheduler.loop import Timing
from relight.scheduler.queue import FunctionKey, WaitingCall
from relight.store.rows import NewVersion
from relight.store.store import open_store

WS = "default"
VERSION = "version-1"
IMAGE = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
FUNCTION = FunctionSpec(name="square", module="m", qualname="square", image=IMAGE)
CODE = CodeBundle(digest="d" * 64, size=1, folder="/a")
SPEC = WorkerSpec(workspace=WS, app="shop", environment="main", version=VERSION, function=FUNCTION, code=CODE)
REPORT = StartReport(level=StartLevel.FORK, phases=(Phase(name="place", seconds=0.5), Phase(name="fork", seconds=1.5)))
QUERY = StartQuery(limit=1000)


def start(seconds: float, level: StartLevel = StartLevel.FORK, **fields: Any) -> StartView:
    known = StartView(
        worker="w",
        node="n",
        app="shop",
        environment="main",
        version="v1",
        function="square",
        binding="",
        level=level,
        why="",
        phases=(Phase(name="fork", seconds=seconds),),
        seconds=seconds,
        at=1.0,
    )
    return replace(known, **fields)


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(n) for n in range(1, 11)]

    assert [percentile(values, share) for share in (0.01, 0.5, 0.9, 0.91, 0.99, 1.0)] == [1, 5, 9, 10, 10, 10]
    assert percentile([7.0], 0.99) == 7
    assert percentile([], 0.5) == 0


def test_starts_are_told_by_function_and_level_the_quickest_level_first() -> None:
    seen = [
        *(start(0.4, StartLevel.BOOT, why="first: of all") for _ in range(2)),
        *(start(0.001 * n) for n in range(1, 7)),
        start(9.0, function="cube", level=StartLevel.FETCH),
    ]

    told = summarize(seen, QUERY)

    assert [(one.function, one.level.value, one.count, one.share) for one in told.groups] == [
        ("cube", "fetch", 1, 1.0),
        ("square", "fork", 6, 0.75),
        ("square", "boot", 2, 0.25),
    ]
    fork = told.groups[1]
    assert (fork.p50, fork.p90, fork.p99) == (0.003, 0.006, 0.006)
    assert [(one.name, one.seconds) for one in fork.phases] == [("fork", 0.003)]
    assert [(one.level.value, one.count, round(one.share, 3)) for one in told.levels] == [
        ("fork", 6, 0.667),
        ("boot", 2, 0.222),
        ("fetch", 1, 0.111),
    ]


def test_each_start_is_in_one_bucket_the_one_up_to_its_bound() -> None:
    told = summarize([start(0.0), start(BOUNDS[0]), start(0.0015), start(BOUNDS[-1] + 1)], QUERY)

    assert told.bounds[:3] == (0.001, 0.002, 0.005)
    assert told.groups[0].buckets == (2, 1, *[0] * (len(BOUNDS) - 2), 1)


def test_a_start_that_failed_counts_as_that_alone() -> None:
    told = summarize([start(0.001), start(60.0, failure="start_failed", why="first: of all")], QUERY)

    (group,) = told.groups
    assert (group.count, group.failed, group.share, group.p99) == (1, 1, 1.0, 0.001)
    assert told.reasons == ()
    assert [one.count for one in told.levels] == [1]


def test_a_function_that_never_started_is_told_without_figures() -> None:
    (group,) = summarize([start(60.0, failure="start_failed")], QUERY).groups

    assert (group.count, group.failed, group.share, group.p50, group.phases) == (0, 1, 0.0, 0.0, ())


def test_reasons_are_told_by_their_code_the_most_frequent_first_in_the_newest_words() -> None:
    seen = [
        start(1.0, StartLevel.BOOT, why="new_version: the newest"),
        start(1.0, StartLevel.BOOT, why="evicted: for others"),
        start(1.0, StartLevel.BOOT, why="new_version: an older one"),
        start(0.001),
    ]

    told = summarize(seen, QUERY).reasons

    assert [(one.code, one.why, one.count) for one in told] == [
        ("new_version", "new_version: the newest", 2),
        ("evicted", "evicted: for others", 1),
    ]


def test_more_starts_than_are_looked_at_are_said_not_to_be_all() -> None:
    told = summarize([start(0.1, at=9.0), start(0.1, at=8.0)], replace(QUERY, limit=2, since=1.0))
    all_of_them = summarize([start(0.1, at=9.0)], replace(QUERY, limit=2, since=1.0))

    assert (told.is_whole, told.since, told.starts) == (False, 8.0, 2)
    assert (all_of_them.is_whole, all_of_them.since) == (True, 1.0)


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    """A platform with one node, on which a worker of `shop` starts."""
    store = await open_store(tmp_path)
    row = NewVersion(workspace=WS, id=VERSION, app="shop", environment="main", manifest=MANIFEST, at=1.0)
    await store.versions.deploy(row)
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
    opened = await open_control(store, BlobStore(tmp_path / "blobs"), SystemClock(), rules)
    held = HeldWorker(worker="w1", spec=SPEC, state=WorkerState.STARTING, since=1.0)
    opened.nodes.connect(hello(held), lambda _: None)
    yield opened
    await store.close()


MANIFEST = Manifest(app="shop", code=CODE, functions=(FUNCTION,))


def hello(*workers: HeldWorker) -> Hello:
    return Hello(node="n1", incarnation="i1", protocol=PROTOCOL, cpu=2.0, memory_mib=1000, workers=workers)


def ready(worker: str = "w1") -> Reports:
    change = WorkerChange(worker=worker, state=WorkerState.READY, at=50.0, start=REPORT)
    return Reports(workers=(change,))


async def test_a_worker_that_is_ready_has_a_start_that_can_be_read(control: Control) -> None:
    control.nodes.report("n1", ready())

    (kept,) = await control.starts.list(WS, StartQuery())
    assert (kept.worker, kept.node, kept.app, kept.function, kept.version) == ("w1", "n1", "shop", "square", VERSION)
    assert (kept.level, kept.phases, kept.seconds, kept.at, kept.failure) == (
        StartLevel.FORK,
        REPORT.phases,
        2.0,
        50.0,
        "",
    )
    assert control.nodes.workers(WS)[0].start == REPORT


async def test_a_start_that_failed_is_kept_with_the_reason_of_the_exit(control: Control) -> None:
    gone = WorkerChange(
        worker="w1", state=WorkerState.GONE, at=51.0, exit=WorkerExit(reason="start_timed_out"), start=REPORT
    )
    control.nodes.report("n1", Reports(workers=(gone,)))
    control.nodes.report("n1", Reports(workers=(gone,)))  # as on a new link

    (kept,) = await control.starts.list(WS, StartQuery())
    assert kept.failure == "start_timed_out"


async def test_a_node_tells_nothing_of_workers_that_are_not_its_own(control: Control) -> None:
    control.nodes.report("n2", ready())
    control.nodes.report("n1", ready("w2"))

    assert await control.starts.list(WS, StartQuery()) == ()


async def test_a_worker_that_was_there_before_the_server_is_still_known_by_its_start(control: Control) -> None:
    held = HeldWorker(worker="w2", spec=SPEC, state=WorkerState.IDLE, since=1.0, start=REPORT)
    control.nodes.connect(hello(held), lambda _: None)

    assert [view.start for view in control.nodes.workers(WS)] == [REPORT]


async def test_a_summary_looks_at_the_newest_only(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LOOKED_AT", 1)
    control.nodes.report("n1", ready())

    told = await control.starts.summary(WS, StartQuery(app="shop"))

    assert (told.starts, told.is_whole, told.groups[0].p50) == (1, False, 2.0)


async def test_a_start_ahead_of_any_call_is_told_apart_and_the_call_that_finds_it_has_one_on_level_0p(
    control: Control,
) -> None:
    control.nodes.report("n1", ready())
    (ahead,) = await control.starts.list(WS, StartQuery())
    key = FunctionKey(VERSION, "square")
    payload = Payload(format="json", data=b"{}")
    control.scheduler.submit([WaitingCall(id="call-1", workspace=WS, key=key, payload=payload)])

    found, _ = await control.starts.list(WS, StartQuery())

    assert (ahead.level, ahead.is_ahead) == (StartLevel.FORK, True)
    assert (found.level, found.is_ahead, found.why, found.worker) == (StartLevel.PARKED, False, "", "w1")
    assert [phase.name for phase in found.phases] == ["take"]
    assert found.phases[0].seconds == pytest.approx(found.seconds, abs=1e-6)


def test_starts_ahead_are_in_no_share() -> None:
    starts = [
        *[start(0.0001, StartLevel.PARKED)] * 6,
        *[start(0.004, is_ahead=True)] * 7,
        *[start(0.004)] * 3,
        start(0.5, StartLevel.BOOT, why="first: it was"),
    ]

    told = summarize(starts, QUERY)

    assert [(group.level, group.count, group.ahead, group.share) for group in told.groups] == [
        (StartLevel.PARKED, 6, 0, 0.6),
        (StartLevel.FORK, 10, 7, 0.3),
        (StartLevel.BOOT, 1, 0, 0.1),
    ]
    assert [(one.level, one.count, one.share) for one in told.levels] == [
        (StartLevel.PARKED, 6, 0.6),
        (StartLevel.FORK, 3, 0.3),
        (StartLevel.BOOT, 1, 0.1),
    ]
    assert told.hit_rate == 0.9


@pytest.mark.parametrize(
    ("submitted", "started", "is_parked"),
    [(20.0, 20.001, True), (9.0, 20.001, False), (20.0, 25.0, False)],
    ids=["came while it was parked", "waited for it", "was not its first"],
)
def test_only_the_call_that_found_a_worker_ready_has_a_start_on_level_0p(
    submitted: float, started: float, is_parked: bool
) -> None:
    life = [
        WorkerInterval(worker="w", state=WorkerState.STARTING, since=8.0, until=10.0),
        WorkerInterval(worker="w", state=WorkerState.READY, since=10.0, until=20.001),
        WorkerInterval(worker="w", state=WorkerState.BUSY, since=20.001),
    ]
    call = CallView(
        id="call-1",
        app="shop",
        environment="main",
        version=VERSION,
        function="square",
        submitted_at=submitted,
        started_at=started,
    )

    told = start_for(call, life, REPORT)

    assert told is not None
    assert (told.level is StartLevel.PARKED, told is REPORT) == (is_parked, not is_parked)
