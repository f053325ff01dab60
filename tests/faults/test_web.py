"""Requests while workers are killed, and while everything restarts as it should."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from faults.app_web_fire import app
from relight.store.requests import KEEP_SECONDS
from servers import Server, serving, wait_until, workers_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("web") / "data", app) as started:
        yield started


class Load:
    """Threads that ask one after the other, and what they were answered."""

    def __init__(self, server: Server) -> None:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        self._address = host, int(port)
        self._numbers = itertools.count()
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.answers: Counter[tuple[str, str, str]] = Counter()
        self.wrong: list[str] = []

    def begin(self, function: str, method: str, *, threads: int = 2, burst: int = 0) -> None:
        """Ask on and on; with `burst` so many, then nothing for a while."""
        for _ in range(threads):
            thread = threading.Thread(target=self._ask, args=(function, method, burst))
            self._threads.append(thread)
            thread.start()

    def end(self) -> int:
        """Ask no more; how often it was answered."""
        self._is_over.set()
        for thread in self._threads:
            thread.join(60)
        return sum(self.answers.values())

    def of(self, *codes: str) -> int:
        """How many answers had one of these codes."""
        return sum(count for (_, _, code), count in self.answers.items() if code in codes)

    def ask_once(self, function: str, method: str, number: int) -> str:
        """How one request is answered."""
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        try:
            return self._ask_one(connection, function, method, number)
        finally:
            connection.close()

    def _ask(self, function: str, method: str, burst: int) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        asked = 0
        while not self._is_over.is_set():
            number = next(self._numbers)
            asked += 1
            self.answers[function, method, self._ask_one(connection, function, method, number)] += 1
            if burst and asked % burst == 0:
                self._is_over.wait(2.5)
        connection.close()

    def _ask_one(self, connection: http.client.HTTPConnection, function: str, method: str, number: int) -> str:
        try:
            connection.request(method, f"/w/fire/{function}?x={number}", b"-" if method == "POST" else None)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return type(error).__name__
        if response.status != 200:
            return f"{response.status} {json.loads(body).get('code', '')}"
        expected = b"%d" % number if function == "one" else b"x=%d" % number + (b"-" if method == "POST" else b"")
        if body != expected:
            self.wrong.append(f"{expected!r} was answered {body!r}")
        return "200"


def test_only_what_was_with_a_killed_worker_and_may_not_be_asked_twice_is_lost(server: Server) -> None:
    load = Load(server)
    load.begin("steady", "GET", threads=4)
    load.begin("steady", "POST", threads=4)
    kills = 0
    while kills < 5:
        before = sum(load.answers.values())
        wait_until(lambda: sum(load.answers.values()) > before + 200, server)  # noqa: B023 - it is called here
        for pid in workers_of(server):
            os.kill(pid, signal.SIGKILL)
            kills += 1

    load.end()

    assert not load.wrong
    lost = load.answers["steady", "POST", "502 worker_lost"]
    assert load.of("200") + lost == sum(load.answers.values()), load.answers
    assert lost <= 4 * kills  # each of four threads had at most one with it
    failed = server.get("/v1/calls?app=fire&kind=request&state=failed&limit=1000")["calls"]
    assert [one["failure"]["code"] for one in failed] == ["worker_lost"] * lost


def test_a_server_that_is_killed_answers_again_when_it_is_back(server: Server) -> None:
    load = Load(server)
    before = load.ask_once("steady", "GET", 1)
    server.kill()
    server.start()

    after = [Load(server).ask_once(function, "GET", 1) for function in ("steady", "one")]

    assert (before, after) == ("200", ["200", "200"])


def test_a_server_that_is_killed_loses_the_records_of_its_last_half_second_at_most(server: Server) -> None:
    load, began = Load(server), time.time()
    old = [load.ask_once("steady", "GET", number) for number in range(50)]
    answered_at = time.monotonic()
    wait_until(lambda: time.monotonic() - answered_at > KEEP_SECONDS + 0.25, server)  # what is asked has nothing kept
    new = [load.ask_once("steady", "GET", number) for number in range(20)]
    server.kill()
    server.start()

    kept = server.get(f"/v1/calls?app=fire&kind=request&since={began:.3f}&limit=1000")["calls"]

    assert old + new == ["200"] * 70
    assert 50 <= len(kept) <= 70
    assert {one["state"] for one in kept} == {"succeeded"}


def cycle(server: Server, number: int) -> None:
    """One thing that must not be seen from outside."""
    if number % 4 == 0:
        app.deploy()
    elif number % 4 == 1:
        for pid in workers_of(server):
            os.kill(pid, signal.SIGTERM)
    elif number % 4 == 2:
        before = server.agent_pid
        os.kill(before, signal.SIGTERM)
        wait_until(lambda: server.agent_pid != before, server)
    else:
        before = time.monotonic()
        wait_until(lambda: time.monotonic() - before > 1.5, server)  # bursts come and go


def run_cycles(server: Server, cycles: int, requests: int) -> None:
    load = Load(server)
    load.begin("steady", "GET", threads=2)
    load.begin("steady", "POST", threads=2)
    load.begin("bursts", "POST", threads=2, burst=50)
    load.begin("one", "GET", threads=2, burst=20)
    for number in range(cycles):
        before = sum(load.answers.values())
        cycle(server, number)
        least = before + requests // cycles
        wait_until(lambda: sum(load.answers.values()) >= least, server)  # noqa: B023 - it is called here

    asked = load.end()

    assert not load.wrong
    assert load.of("200") == asked, load.answers


def test_nothing_that_restarts_as_it_should_is_seen_by_who_asks(server: Server) -> None:
    run_cycles(server, 8, 2000)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_thousand_requests_through_a_hundred_restarts(server: Server) -> None:
    run_cycles(server, 100, 50_000)
