"""Servers, agents and workers are killed; what their workers used is metered all the same, and posted once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.app_under_fire import app, double
from relight.metering.cards import load_cards
from relight.metering.ledger import gaps, replay
from relight.protocol.workers import WorkerState as S
from relight.store.store import Store, open_store
from relight.store.usage import UsageQuery
from servers import Server, serving, wait_until, workers_of

pytestmark = pytest.mark.slow

WS = "default"
SHARE = 0.001
"""How far metered time may be from the wall clock."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "data", app) as started:
        yield started


def test_what_workers_used_is_metered_whatever_is_killed(server: Server) -> None:
    calls = [double.spawn(n, 0.02) for n in range(120)]
    calls[0].get(timeout=60)
    for harm in (_kill_worker, _kill_server, _kill_agent, _kill_worker, _kill_server):
        calls += [double.spawn(n, 0.02) for n in range(120)]
        harm(server)
        calls[-1].get(timeout=60)
    results = [call.get(timeout=60) for call in calls]
    _leave_all(server)

    assert results == [2 * (n % 120) for n in range(len(calls))]
    _check_ledger(server)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_calls_under_fifty_deaths_are_metered_to_a_thousandth(server: Server) -> None:
    chance = random.Random(11)
    calls = []
    for n in range(10_000):
        calls.append(double.spawn(n))
        if n % 200 == 199:
            chance.choice([_kill_worker, _kill_worker, _kill_server, _kill_agent])(server)
    for n, call in enumerate(calls):
        assert call.get(timeout=300) == 2 * n
    _leave_all(server)

    _check_ledger(server)


def _kill_worker(server: Server) -> None:
    with contextlib.suppress(ProcessLookupError):
        for pid in workers_of(server)[:1]:
            os.kill(pid, signal.SIGKILL)


def _kill_server(server: Server) -> None:
    server.kill()
    server.start()


def _kill_agent(server: Server) -> None:
    with contextlib.suppress(ProcessLookupError):
        server.kill_agent()


def _leave_all(server: Server) -> None:
    """Let every worker go, and all that is said of it be kept."""
    assert app._session is not None
    app._session.connection.json("POST", "/v1/apps/under_fire/stop")
    wait_until(lambda: not server.get("/v1/workers")["workers"], server)
    server.stop()


def _check_ledger(server: Server) -> None:
    metered_us, wall_us, workers = asyncio.run(_compare(server.folder))

    assert workers
    assert abs(metered_us - wall_us) <= SHARE * wall_us, f"{workers} workers: {metered_us} µs metered of {wall_us}"


async def _compare(folder: Path) -> tuple[int, int, int]:
    """The metered time of workers from their start, and how long they were there by what the server kept of their states."""
    store = await open_store(folder)
    try:
        entries = await store.usage.look(WS, UsageQuery(), list)
        keys = [(entry.row.record.worker, entry.row.record.n) for entry in entries]
        assert len(set(keys)) == len(keys), "a stretch was posted twice"
        assert gaps(entry.row for entry in entries) == []
        assert replay(entries, load_cards()) == sum(entry.posting.nanos or 0 for entry in entries)
        lives = {entry.row.record.worker: 0 for entry in entries}
        for entry in entries:
            before = sum(us for state, us in entry.row.record.states if state in (S.PLACING, S.PULLING, S.REQUESTED))
            lives[entry.row.record.worker] += entry.row.length_us - before
        walls = {worker: await _wall_us(store, worker) for worker in lives}
    finally:
        await store.close()
    known = [worker for worker, wall in walls.items() if wall is not None]
    assert len(known) >= 0.8 * len(lives), "most lives were seen to their end"
    return sum(lives[one] for one in known), sum(walls[one] or 0 for one in known), len(known)


async def _wall_us(store: Store, worker: str) -> int | None:
    life = await store.workers.intervals(WS, worker)
    begin = next((one.since for one in life if one.state is S.STARTING), None)
    end = next((one.since for one in life if one.state is S.GONE), None)
    return None if begin is None or end is None else round((end - begin) * 1e6)
