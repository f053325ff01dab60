"""A peer in its process: opened, told what to do, wrong answers refused, nothing left behind."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Bench


def test_orders_are_done_until_they_end(bench: Bench) -> None:
    calls = bench.peers.Calls(one=lambda x: x, many=lambda n: list(range(n)))
    answers = io.StringIO()

    bench.driver.serve(calls, io.StringIO('{"do": "one", "n": 3}\n{"do": "many", "n": 5}\n'), answers)

    one, many = (json.loads(line)["seconds"] for line in answers.getvalue().splitlines())
    assert (len(one), len(many)) == (3, 1)
    assert all(seconds >= 0 for seconds in (*one, *many))


def test_a_wrong_answer_is_no_measurement(bench: Bench) -> None:
    calls = bench.peers.Calls(one=lambda x: x + 1, many=lambda n: list(range(n - 1)))

    with pytest.raises(ValueError, match="the answer to 0 is 1"):
        bench.driver.time_one(calls, 1)
    with pytest.raises(ValueError, match="4 calls gave 3 answers"):
        bench.driver.time_many(calls, 4)


def test_the_echo_answers_more_at_once_than_a_window_holds(bench: Bench, tmp_path: Path) -> None:
    with bench.peers.socket_peer(tmp_path) as calls:
        assert calls.one(7) == 7
        assert calls.many(250) == list(range(250))


def test_an_echo_that_ends_is_said(bench: Bench, tmp_path: Path) -> None:
    with bench.peers.socket_peer(tmp_path) as calls:
        echo = [pid for pid in bench.processes.tree(os.getpid()) if str(tmp_path) in command_of(pid)]
        for pid in echo:
            os.kill(pid, 9)

        with pytest.raises(ConnectionError):
            bench.driver.time_one(calls, 100)


def test_what_is_not_installed_is_skipped_with_what_to_do(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with (
        pytest.raises(bench.peers.Missing, match="no redis-server; apt-get install redis-server"),
        bench.peers.celery_peer(tmp_path),
    ):
        pass


def test_a_peer_that_cannot_be_opened_is_told_and_the_others_go_on(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    skipped: list[tuple[str, str]] = []

    with bench.harness.open_drivers(["celery", "socket"], tmp_path, lambda *what: skipped.append(what)) as drivers:
        opened = [driver.peer for driver in drivers]

    assert opened == ["socket"]
    assert [peer for peer, _ in skipped] == ["celery"]


def test_a_drivers_figures_are_of_the_calls_it_made_and_it_leaves_nothing_behind(bench: Bench, tmp_path: Path) -> None:
    with bench.harness.open_drivers(["socket"], tmp_path, lambda *_: None) as [driver]:
        latency = driver.latency(1, 50)
        throughput = driver.throughput(1, 500)
        below = [pid for pid in bench.processes.tree(os.getpid()) if str(tmp_path) in command_of(pid)]

    assert 0 < latency.p50_us <= latency.p90_us <= latency.p99_us
    assert latency.cpu_us > 0
    assert throughput.per_second > 0
    assert len(below) == 2
    assert [pid for pid in below if Path(f"/proc/{pid}").exists()] == []


def test_a_peer_that_dies_is_said_with_its_last_words(bench: Bench, tmp_path: Path) -> None:
    driver = bench.harness.Driver("nobody", tmp_path / "nobody")

    try:
        with pytest.raises(RuntimeError, match=r"cannot measure nobody: its process ended(?s:.)*KeyError: 'nobody'"):
            driver.wait_ready()
    finally:
        driver.close()


def test_a_peers_process_knows_no_server_of_the_caller(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELIGHT_URL", "https://elsewhere")

    env = bench.harness.environment(tmp_path)

    assert env["HOME"] == str(tmp_path)
    assert [name for name in env if name.startswith("RELIGHT_")] == []


def test_memory_and_cpu_are_those_of_the_whole_tree(bench: Bench, tmp_path: Path) -> None:
    alone = bench.processes.cpu_used(os.getpid())

    with bench.peers.socket_peer(tmp_path) as calls:
        calls.many(100)
        sizes = bench.processes.pss_mib(os.getpid())

        assert len(bench.processes.tree(os.getpid())) == len(sizes) >= 2
        assert all(size > 0 for size in sizes.values())
        used = bench.processes.cpu_used(os.getpid())

        assert set(used) > set(alone)
        assert bench.processes.cpu_seconds(alone, used) > (used[os.getpid()] - alone[os.getpid()]) / 1e9 > 0


def test_a_process_that_has_gone_has_no_memory_and_used_nothing(bench: Bench) -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", "pass"])
    process.wait()

    assert bench.processes.pss_mib(process.pid) == {}
    assert bench.processes.cpu_used(process.pid) == {process.pid: 0}


def test_a_process_that_ends_between_two_looks_takes_nothing_from_the_others(bench: Bench) -> None:
    before, after = {1: 1_000_000_000, 2: 9_000_000_000}, {1: 1_500_000_000, 3: 250_000_000}

    assert bench.processes.cpu_seconds(before, after) == 0.75


def command_of(pid: int) -> str:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text()
