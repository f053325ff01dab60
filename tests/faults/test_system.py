"""Servers, agents and workers are killed; every call that was acknowledged ends, once, with its own result."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import relight
from faults import app_that_loads_slowly as slow
from faults.app_under_fire import app, double
from faults.history import History, What, check
from servers import Server, serving, templates_of, wait_until, workers_of


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "data", app) as started:
        yield started


def spawn(count: int, seconds: float = 0.0) -> list[relight.Call[int]]:
    return [double.spawn(n, seconds) for n in range(count)]


@pytest.mark.slow
def test_two_hundred_calls_survive_the_death_of_the_server(server: Server) -> None:
    calls = spawn(200, 0.01)

    server.kill()
    server.start()

    assert [call.get(timeout=60) for call in calls] == [2 * n for n in range(200)]


@pytest.mark.slow
def test_two_hundred_calls_survive_the_death_of_the_agent_and_no_sandbox_stays(server: Server) -> None:
    calls = spawn(200, 0.01)
    calls[0].get(timeout=30)
    agent, before = server.agent_pid, workers_of(server)

    server.kill_agent()
    results = [call.get(timeout=60) for call in calls]

    assert results == [2 * n for n in range(200)]
    assert server.agent_pid != agent
    assert before
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)


def test_a_call_whose_worker_is_killed_runs_again_and_has_one_result(server: Server) -> None:
    call = double.spawn(21, 1.0)
    wait_until(lambda: call.status() is relight.CallState.RUNNING, server)

    for pid in workers_of(server):
        os.kill(pid, signal.SIGKILL)

    assert call.get(timeout=30) == 42
    shown = server.get(f"/v1/calls/{call.id}")
    assert (shown["call"]["attempts"], [one["outcome"] for one in shown["attempts"]]) == (
        2,
        ["lease_lost", "succeeded"],
    )


@pytest.mark.slow
def test_calls_whose_template_is_killed_while_it_loads_run_all_the_same(server: Server) -> None:
    known = set(templates_of(server))
    slow.app.deploy(wait=False)
    try:
        calls = [slow.double.spawn(n) for n in range(8)]
        wait_until(lambda: set(templates_of(server)) > known, server)

        for pid in set(templates_of(server)) - known:
            os.kill(pid, signal.SIGKILL)

        assert [call.get(timeout=60) for call in calls] == [2 * n for n in range(8)]
    finally:
        assert slow.app._session is not None
        slow.app._session.connection.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_calls_survive_fifty_random_deaths(server: Server) -> None:
    history, chance = History(), random.Random(7)
    is_over = threading.Event()
    nemesis = threading.Thread(target=_kill_at_random, args=(server, chance, is_over))
    calls: dict[str, tuple[int, relight.Call[int]]] = {}
    nemesis.start()
    try:
        for n in range(10_000):
            call = double.spawn(n)
            history.add(What.SUBMITTED, call.id, time.time())
            history.add(What.ACKNOWLEDGED, call.id, time.time())
            calls[call.id] = (n, call)
        for n, call in calls.values():
            assert call.get(timeout=300) == 2 * n
            history.add(What.SEEN, call.id, time.time(), value=str(2 * n))
    finally:
        is_over.set()
        nemesis.join()
    _add_what_is_kept(history, server)

    assert check(history) == []


def _kill_at_random(server: Server, chance: random.Random, is_over: threading.Event) -> None:
    for _ in range(50):
        is_over.wait(chance.uniform(0.05, 0.5))
        what = chance.choice(["server", "agent", "worker", "worker"])
        if what == "server":
            server.kill()
            server.start()
        elif what == "agent":
            with contextlib.suppress(ProcessLookupError):
                server.kill_agent()
        else:
            with contextlib.suppress(ProcessLookupError):
                for pid in chance.sample(found, 1) if (found := workers_of(server)) else []:
                    os.kill(pid, signal.SIGKILL)


def _add_what_is_kept(history: History, server: Server) -> None:
    """What the server keeps of each call: its tries, and how many of them it charged."""
    before = ""
    while calls := server.get(f"/v1/calls?app=under_fire&limit=500&before={before}")["calls"]:
        before = calls[-1]["id"]
        for call in calls:
            tries = server.get(f"/v1/calls/{call['id']}")["attempts"] if call["attempts"] > 1 else [call]
            for one in tries:
                history.add(What.STARTED, call["id"], one["started_at"])
