"""Several calls in one worker, and batches of them, on a real server."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import relight
from e2e.app_concurrency import Model, app, count, meet, sit, spread, square, stay
from servers import Server, wait_until


@pytest.fixture(autouse=True, scope="module")
def _deployed(server: Server) -> Iterator[None]:
    app.deploy()
    yield
    assert app._session is not None
    app._session.connection.json("POST", "/v1/apps/crowd/stop")  # its floor is not to take other tests' room
    app._session.connection.close()


def test_calls_share_a_worker_and_keep_their_own_lines(server: Server) -> None:
    calls = [meet.spawn(8) for _ in range(8)]

    assert len({call.get(timeout=30) for call in calls}) == 1
    for call in calls:
        assert [line["text"] for line in server.lines(f"/v1/logs?call={call.id}")] == [f"here is {call.id}"]


def test_one_that_is_cancelled_or_late_leaves_its_neighbours_alone(server: Server) -> None:
    calls = {how: stay.spawn(how) for how in ("obedient", "late", "brief")}
    wait_until(lambda: len(server.lines(f"/v1/logs?call={calls['obedient'].id}")) > 0, server)

    calls["obedient"].cancel()

    with pytest.raises(relight.CallCancelled):
        calls["obedient"].get(timeout=20)
    assert calls["brief"].get(timeout=20) == "brief"
    with pytest.raises(relight.FunctionTimeout):
        stay.with_options(timeout=1).remote("obedient")
    assert {server.get(f"/v1/calls/{one.id}")["call"]["attempts"] for one in calls.values()} == {1}


def test_neighbours_of_one_that_is_killed_run_again_uncharged(server: Server) -> None:
    stubborn = stay.spawn("stubborn")
    wait_until(lambda: len(server.lines(f"/v1/logs?call={stubborn.id}")) > 0, server)
    stubborn.cancel()
    neighbours = [stay.spawn("brief") for _ in range(2)]

    with pytest.raises(relight.CallCancelled):
        stubborn.get(timeout=20)
    assert [call.get(timeout=30) for call in neighbours] == ["brief"] * 2
    shown = [server.get(f"/v1/calls/{call.id}")["call"] for call in neighbours]
    assert [(one["state"], one["attempts"]) for one in shown] == [("succeeded", 1)] * 2


def test_generators_of_one_worker_are_read_side_by_side() -> None:
    readers = [count.remote(40) for _ in range(3)]

    rows = list(zip(*readers, strict=True))

    assert rows == [(number,) * 3 for number in range(40)]


def test_more_calls_than_the_target_are_more_workers() -> None:
    workers = {call.get(timeout=30) for call in [spread.spawn() for _ in range(8)]}

    assert 2 <= len(workers) <= 4


def test_a_class_is_entered_on_the_loop_of_its_calls() -> None:
    assert list(Model().infer.map(range(8))) == [True] * 8


def test_a_thousand_calls_are_few_batches_and_each_has_its_own_result() -> None:
    results = list(square.map(range(1000)))

    assert [one["square"] for one in results] == [number * number for number in range(1000)]
    assert len({one["batch"] for one in results}) <= 60


@pytest.mark.slow
def test_a_thousand_single_requests_are_few_batches(server: Server) -> None:
    def ask(number: int) -> dict[str, int]:
        request = urllib.request.Request(
            f"{server.url}/v1/apps/crowd/functions/square/call",
            json.dumps({"numbers": number}).encode(),
            {"Authorization": f"Bearer {server.token}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            result: dict[str, int] = json.load(answer)["result"]
            return result

    with ThreadPoolExecutor(64) as threads:
        results = list(threads.map(ask, range(1000)))

    assert [one["square"] for one in results] == [number * number for number in range(1000)]
    assert len({one["batch"] for one in results}) <= 60


def test_an_item_of_a_batch_fails_alone() -> None:
    calls = [square.spawn(number) for number in (-1, 2)]

    with pytest.raises(ValueError, match="no -1"):
        calls[0].get(timeout=20)
    assert calls[1].get(timeout=20)["square"] == 4


def test_a_session_stays_with_its_worker_and_a_strict_one_says_when_that_is_gone(server: Server) -> None:
    wait_until(lambda: server.get("/v1/apps/crowd/functions/sit/stats")["workers"] == 3, server)
    mine = sit.with_options(session="mine", affinity="strict")

    first = mine.remote()
    others = [sit.spawn() for _ in range(12)]
    seats = {call.get(timeout=30) for call in [mine.spawn() for _ in range(6)]}

    assert seats == {first}
    assert len({call.get(timeout=30) for call in others}) > 1
    with pytest.raises(relight.SessionLost):  # the call that ends its worker is run again, which cannot be
        mine.remote(ends=True)
    assert mine.remote() != first
