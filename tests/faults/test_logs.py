"""Workers and servers are killed while they write and keep lines: none is lost, doubled, or given to another call."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import relight
from faults.app_that_writes import app, crowd, leave, write, write_at_once
from servers import Server, serving, wait_until, workers_of

pytestmark = pytest.mark.slow

PAGE = 10_000
CALLS = 50
KILLS = 10


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "data", app, crowd) as started:
        yield started


def all_lines(server: Server, asked: str = "") -> list[dict[str, Any]]:
    """Every line that is kept, oldest first."""
    lines: list[dict[str, Any]] = []
    while page := server.lines(f"/v1/logs?limit={PAGE}&after={lines[-1]['id'] if lines else 0}{asked}"):
        lines += page
    return lines


def idle_workers(server: Server) -> list[dict[str, Any]]:
    """The workers that wait for calls."""
    return [one for one in server.get("/v1/workers")["workers"] if one["state"] in ("ready", "idle")]


def runs_of(lines: Sequence[dict[str, Any]], names: dict[str, str]) -> dict[str, dict[tuple[str, str], list[int]]]:
    """By call, for each try and its worker: the numbers of its lines in order.  No line may be of another call."""
    runs: dict[str, dict[tuple[str, str], list[int]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        if line["source"] == "stdout":
            name, run, number = line["text"].split()
            assert names[line["call"]] == name, line
            runs[line["call"]][run, line["worker"]].append(int(number))
    return runs


def check(server: Server, calls: dict[str, str], count: int) -> int:
    """Each try wrote a row of numbers without a gap, the last of each call all of them; how many lines there are."""
    lines = all_lines(server)
    runs = runs_of(lines, calls)
    for call in calls:
        tries = list(runs[call].values())
        assert all(numbers == list(range(len(numbers))) for numbers in tries), f"{call} lost or doubled lines"
        assert len(tries[-1]) == count
        assert len({worker for _, worker in runs[call]}) == len(tries)
    assert set(runs) == set(calls)
    return sum(len(numbers) for tries in runs.values() for numbers in tries.values())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_thousand_lines_of_fifty_calls_survive_kills_of_their_workers(server: Server) -> None:
    chance = random.Random(7)
    crowd.deploy()
    wait_until(lambda: len(idle_workers(server)) == CALLS, server)
    calls = {f"name-{number}": write_at_once.spawn(f"name-{number}", 2000, 10.0) for number in range(CALLS)}
    wait_until(lambda: len(server.lines("/v1/logs?app=crowd&search=name-&limit=1000")) == 1000, server)

    killed: set[int] = set()
    while len(killed) < KILLS:
        killed.add(pid := chance.choice([pid for pid in workers_of(server) if pid not in killed]))
        os.kill(pid, signal.SIGKILL)
        threading.Event().wait(0.2)
    running = sum(call.status() is relight.CallState.RUNNING for call in calls.values())
    assert [call.get(timeout=200) for call in calls.values()] == [2000] * CALLS

    assert running > CALLS / 2
    assert check(server, {call.id: name for name, call in calls.items()}, 2000) > 2000 * CALLS


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_line_is_lost_when_the_server_is_killed_in_the_middle(server: Server) -> None:
    calls = {f"name-{number}": write.spawn(f"name-{number}", 4000, 6.0) for number in range(8)}
    names = {call.id: name for name, call in calls.items()}
    for _ in range(3):
        seen = len(all_lines(server))
        wait_until(lambda seen=seen: len(all_lines(server)) > seen + 1000, server)  # type: ignore[misc]
        server.kill()
        server.start()
    assert [call.get(timeout=100) for call in calls.values()] == [4000] * 8

    assert check(server, names, 4000) == 4000 * 8


@pytest.mark.parametrize("when", ["before_commit", "after_commit"])
def test_lines_are_kept_once_when_the_server_dies_as_it_keeps_them(
    server: Server, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    server.kill()
    with monkeypatch.context() as patch:
        patch.setenv("RELIGHT_FAULT_POINTS", f"logs.{when}:8")
        server.start()
        call = write.spawn("name", 4000, 2.0)
        server.wait_dead()
    server.start()

    assert call.get(timeout=60) == 4000
    assert check(server, {call.id: "name"}, 4000) == 4000


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_what_a_worker_wrote_before_it_died_is_there_when_its_call_has_failed(server: Server, how: str) -> None:
    call = leave.spawn(how)
    with pytest.raises(relight.RelightError):
        call.get(timeout=60)

    lines = all_lines(server, f"&call={call.id}")
    tries = len({line["worker"] for line in lines})

    texts = [line["text"] for line in lines if line["source"] == "stdout"]
    assert texts[:1000] == [f"{how} {number}" for number in range(1000)]
    assert texts.count(f"{how} 999") == tries
    assert texts.count("last words") == (tries if how == "exit" else 0)
    assert sum(line["text"].startswith("the worker ended") for line in lines if line["source"] == "system") == tries
