"""What is made of cancels: the slowest is held to the promise, and a process that is left breaks it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Bench


def cancels(bench: Bench, kind: str, *ms: float, processes: int | None = None) -> list[Any]:
    return [bench.cancel.Cancelled(what=kind, round=at, ms=one, processes=processes) for at, one in enumerate(ms)]


def test_a_kind_of_cancel_comes_to_its_median_and_its_slowest(bench: Bench) -> None:
    seen = [*cancels(bench, "asleep", 2.0, 90.0, 3.0), *cancels(bench, "queued", 1.0)]

    asleep, queued = bench.cancel.figures_of(seen)

    assert (asleep.what, asleep.cancels, asleep.median_ms, asleep.slowest_ms, asleep.processes) == (
        "asleep",
        3,
        3.0,
        90.0,
        None,
    )
    assert (queued.what, queued.cancels) == ("queued", 1)


def test_the_slowest_cancel_is_held_to_the_limit_of_its_kind(bench: Bench) -> None:
    deaf = bench.cancel.DEAF[0]
    limits = {"queued": 50.0, "asleep": 500.0, deaf: 2000.0}
    within = [one for kind, limit in limits.items() for one in cancels(bench, kind, 1.0, limit)]
    past = [one for kind, limit in limits.items() for one in cancels(bench, kind, 1.0, 1.0, 1.0, limit + 0.1)]

    kept, broken = (bench.cancel.targets_of(bench.cancel.figures_of(seen)) for seen in (within, past))

    assert {one.what: one.limit for one in kept} == limits
    assert [one.holds for one in kept] == [True] * 3
    assert [one.holds for one in broken] == [False] * 3


def test_a_process_that_is_left_of_any_killed_worker_breaks_a_promise(bench: Bench) -> None:
    deaf = bench.cancel.DEAF[0]
    clean = cancels(bench, deaf, 1000.0, 1000.0, processes=0)
    left = [*clean, *cancels(bench, deaf, 1000.0, processes=2)]

    kept, broken = (bench.cancel.targets_of(bench.cancel.figures_of(seen))[-1] for seen in (clean, left))

    assert (kept.what, kept.seen, kept.holds) == (f"processes left, {deaf}", 0.0, True)
    assert (broken.seen, broken.holds) == (2.0, False)


def test_plain_processes_and_many_calls_at_once_are_shown_and_promise_nothing(bench: Bench) -> None:
    c = bench.cancel
    seen = [one for kind in (c.SIGNALLED, c.KILLED, *c.MANY) for one in cancels(bench, kind, 9000.0)]

    assert bench.cancel.targets_of(bench.cancel.figures_of(seen)) == []


def test_the_table_puts_each_cancel_beside_the_plain_process_that_ends_in_the_same_way(bench: Bench) -> None:
    c = bench.cancel
    seen = [
        *cancels(bench, "asleep", 3.0, 5.0),
        *cancels(bench, c.DEAF[1], c.GRACE_MS + 8.0),
        *cancels(bench, c.SIGNALLED, 1.5),
        *cancels(bench, c.KILLED, 2.0),
    ]

    _, asleep, deaf, signalled, killed = c.table(c.figures_of(seen)).splitlines()

    assert asleep.split() == ["asleep", "4.0", "5.0", "+2.5", "ms"]
    assert deaf.endswith("+6.0 ms and the grace")
    assert signalled.split()[-2:] == ["1.5", "1.5"]
    assert killed.split()[-2:] == ["2.0", "2.0"]


def test_a_call_that_has_a_result_is_no_measurement_of_a_cancel(bench: Bench) -> None:
    class Call:
        """Hears nothing of its cancel."""

        def cancel(self) -> None:
            pass

        def get(self, timeout: float) -> int:
            return 7

    with pytest.raises(ValueError, match="every call was to be cancelled, and this was seen: 7"):
        bench.cancel._time_cancel(Call())


def test_a_plain_process_is_timed_from_the_signal_to_its_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.cancel, "SETTLE_SECONDS", 0.0)
    began = time.perf_counter()

    killed = bench.cancel._killed(3)

    assert (killed.what, killed.round, killed.processes) == (bench.cancel.KILLED, 3, None)
    assert 0 < killed.ms < (time.perf_counter() - began) * 1000


def test_the_processes_of_a_worker_are_counted_once_over_all_hierarchies(bench: Bench, tmp_path: Path) -> None:
    for hierarchy, pids in {"memory": "7\n8\n", "pids": "8\n9\n"}.items():
        (tmp_path / hierarchy / "worker-1").mkdir(parents=True)
        (tmp_path / hierarchy / "worker-1" / "cgroup.procs").write_text(pids)
    for folder in ("run", "agent/sandboxes"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "run" / "server.json").write_text('{"url": "http://127.0.0.1:1"}')
    (tmp_path / "token").write_text("token\n")
    groups = tmp_path / "agent" / "sandboxes" / "groups"
    groups.write_text(f"{tmp_path}/memory\n{tmp_path}/pids\n")

    server = bench.cancel.Server(tmp_path)

    assert (server.processes_of("worker-1"), server.processes_of("worker-2")) == (3, 0)
    groups.write_text("")
    assert server.processes_of("worker-1") is None


@pytest.mark.slow
def test_the_bench_cancels_all_kinds_and_says_what_became_of_each_promise(bench: Bench, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, bench.cancel.__file__, "--rounds", "1", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    cancelled = [line["what"] for line in lines if line["kind"] == "cancelled"]
    assert len(set(cancelled)) == len(cancelled) == 14
    assert [line["what"] for line in lines if line["kind"] == "figures"] == cancelled
    held = [line for line in lines if line["kind"] == "target"]
    assert {line["what"]: line["seen"] for line in held if line["unit"] == ""} == {
        f"processes left, {kind}": 0.0 for kind in bench.cancel.DEAF
    }
    assert all(line["what"] in done.stderr for line in held)
    assert list(tmp_path.iterdir()) == []
