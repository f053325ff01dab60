"""Versions that replace each other at once, on a real server: under requests, over a `kill -9`, and in the midst of calls."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import relight
from e2e.app_recreated import version
from servers import Server, serving, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "data", version(1)) as started:
        yield started


def named(name: str) -> relight.Function[[float], int]:
    return relight.Function.from_name("recreated", name)


def page(server: Server) -> object:
    """Which version answers, or with what error."""
    try:
        with urllib.request.urlopen(f"{server.url}/w/recreated/page", timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read().decode()}"


def is_running(server: Server, call: relight.FunctionCall[int]) -> bool:
    return bool(server.get(f"/v1/calls/{call.id}")["call"]["state"] == "running")


def test_no_request_is_lost_over_versions_that_are_recreated(server: Server) -> None:
    answers: Counter[object] = Counter()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            answers[page(server)] += 1

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(2, 6):
        version(number).deploy(strategy="recreate")
        before = answers[number]
        wait_until(lambda number=number, before=before: answers[number] > before, server)  # type: ignore[misc]  # the loop's own
    over.set()
    for thread in threads:
        thread.join(30)

    assert set(answers) <= {1, 2, 3, 4, 5}, dict(answers)


def test_a_server_that_is_killed_meanwhile_goes_on_with_it(server: Server) -> None:
    first = named("hold").spawn(4.0)
    wait_until(lambda: is_running(server, first), server)
    waiting = [named("hold").spawn(0.0) for _ in range(3)]
    version(2).deploy(strategy="recreate")
    waiting += [named("hold").spawn(0.0) for _ in range(3)]

    server.kill()
    server.start()
    reason = server.get(f"/v1/calls/{waiting[0].id}")["call"]["pending_reason"]
    wait_until(lambda: all(_ended(server, call.id) for call in (first, *waiting)), server)
    ran = [server.get(f"/v1/calls/{call.id}")["call"] for call in (first, *waiting)]

    assert reason.startswith(("replacing: ", "no_node: ", "no_worker: "))
    assert [one["state"] for one in ran] == ["succeeded"] * 7
    began = [one["started_at"] for one in ran[1:]]
    assert ran[0]["ended_at"] <= min(began)
    assert len({one["version"] for one in ran[1:]} | {ran[0]["version"]}) == 2


def _ended(server: Server, call: str) -> bool:
    return server.get(f"/v1/calls/{call}")["call"]["state"] not in ("queued", "running")


def test_what_a_running_call_waits_for_is_run_by_its_own_version(server: Server) -> None:
    outer: relight.Function[[float], list[int]] = relight.Function.from_name("recreated", "outer")
    call = outer.spawn(1.5)
    wait_until(lambda: bool(server.get(f"/v1/calls/{call.id}")["call"]["state"] == "running"), server)

    began = time.monotonic()
    version(2).deploy(strategy="recreate")
    after = named("hold").remote(0.0)
    took = time.monotonic() - began

    assert call.get() == [1, 1]
    assert after == 2
    assert took < 20
