"""Whatever is killed while items are read: none is lost, none comes twice, or the reader is told that it is over."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import relight
from e2e.app_generators import app, count, count_again, large
from servers import Server, serving, wait_until, workers_of

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "data", app) as started:
        yield started


def kill_workers(server: Server) -> None:
    for pid in workers_of(server):
        os.kill(pid, signal.SIGKILL)


def test_a_server_that_is_killed_while_items_are_read_loses_and_repeats_none(server: Server) -> None:
    read = []
    for number in count.remote(3000):
        read.append(number)
        if number in (1, 7, 800):
            server.kill()
            server.start()

    assert read == list(range(1, 3001))


def test_a_server_that_is_killed_while_items_are_made_loses_and_repeats_none(server: Server) -> None:
    deaths = iter(range(5))
    is_over = threading.Event()

    def kill() -> None:
        while not is_over.wait(0.2) and next(deaths, None) is not None:
            server.kill()
            server.start()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        read = list(count.remote(30_000))
    finally:
        is_over.set()
        killer.join()

    assert read == list(range(1, 30_001))


def test_items_that_were_made_when_their_server_died_are_read_from_the_next(server: Server) -> None:
    numbers = count.remote(6)
    first = [next(numbers) for _ in range(4)]  # asking for the fourth lets it make nine, so it ends
    call = server.get("/v1/calls?function=count&limit=1")["calls"][0]["id"]
    wait_until(lambda: server.get(f"/v1/calls/{call}")["call"]["state"] == "succeeded", server)

    server.kill()
    server.start()

    assert first + list(numbers) == [1, 2, 3, 4, 5, 6]


def test_large_items_survive_the_death_of_the_server(server: Server) -> None:
    read = []
    for item in large.remote(8, 3_000_000):
        read.append((item[0], len(item)))
        if len(read) == 3:
            server.kill()
            server.start()

    assert read == [(number, 3_000_000) for number in range(8)]


@pytest.mark.parametrize("victim", ["worker", "agent"])
def test_a_reader_whose_generator_is_killed_is_told_that_it_is_over(server: Server, victim: str) -> None:
    numbers = count.remote(100_000)
    read = [next(numbers) for _ in range(10)]

    if victim == "worker":
        kill_workers(server)
    else:
        server.kill_agent()
    with pytest.raises(relight.RelightError, match="of its items were delivered") as failed:
        read.extend(numbers)

    assert failed.value.code == "worker_lost"
    assert read == list(range(1, len(read) + 1)), "what came before is whole"


@pytest.mark.parametrize("victim", ["worker", "agent"])
def test_a_generator_that_may_be_run_again_goes_on_for_its_reader(server: Server, victim: str) -> None:
    read = []
    for number in count_again.remote(2000):
        read.append(number)
        if number in (3, 500):
            if victim == "worker":
                kill_workers(server)
            else:
                server.kill_agent()

    assert read == list(range(1, 2001))
