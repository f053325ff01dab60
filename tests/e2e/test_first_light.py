"""Calls, from the decorator to the durable result and back, on a real server with a real agent."""

from __future__ import annotations

import itertools
import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import relight
from e2e.app_first_light import (
    Counter,
    Odd,
    fail,
    fail_twice,
    later,
    leave_in_tmp,
    length,
    look,
    make,
    on_gpu,
    sleep_long,
    square,
    wait_long,
)
from servers import Server, wait_until

pytestmark = pytest.mark.usefixtures("server")


def test_a_call_returns_what_the_function_returns() -> None:
    assert square.remote(7) == square.local(7) == square(7) == 49


def test_an_async_function_is_called_as_any_other() -> None:
    assert later.remote(1) == 2


def test_an_exception_comes_back_as_its_own_type() -> None:
    with pytest.raises(Odd, match="3 is odd"):
        fail.remote(3)


def test_a_function_that_fails_is_tried_again_as_often_as_it_says(server: Server) -> None:
    call = fail_twice.spawn("tries")

    assert call.get(timeout=30) == "try 3"
    assert server.get(f"/v1/calls/{call.id}")["call"]["attempts"] == 3


def test_a_map_is_ordered_and_right() -> None:
    assert list(square.map(range(500))) == [n * n for n in range(500)]


def test_a_map_over_an_endless_input_takes_only_what_it_needs() -> None:
    taken = 0

    def endless() -> itertools.chain[int]:
        def count() -> object:
            nonlocal taken
            taken += 1
            return taken - 1

        return itertools.chain(iter(count, object()))

    results = square.map(endless())
    first = list(itertools.islice(results, 50))
    results.close()

    assert first == [n * n for n in range(50)]
    assert taken < 5000


def test_a_class_keeps_what_it_loaded_from_call_to_call() -> None:
    counter = Counter()

    assert [counter.add.remote(1), counter.add.remote(2)] == [101, 103]


def test_large_values_go_both_ways() -> None:
    assert length.remote(b"x" * 3_000_000) == 3_000_000
    assert make.remote(2_000_000) == b"x" * 2_000_000


def test_a_call_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(relight.FunctionTimeout):
        sleep_long.remote(30.0)


def test_a_running_call_is_cancelled_and_a_final_one_stays_as_it_is(server: Server) -> None:
    call = wait_long.spawn(60.0)
    wait_until(lambda: call.status() is relight.CallState.RUNNING, server)

    call.cancel()

    with pytest.raises(relight.CallCancelled):
        call.get(timeout=30)
    call.cancel()
    assert call.status() is relight.CallState.CANCELLED


def test_a_call_that_no_node_can_run_says_so_and_can_be_cancelled(server: Server) -> None:
    call = on_gpu.spawn("hello")

    reason = server.get(f"/v1/calls/{call.id}")["call"]["pending_reason"]
    call.cancel()

    assert reason.startswith("no_capacity:gpu: it asks for 1 × A100 and the nodes have no GPU")
    assert call.status() is relight.CallState.CANCELLED


def test_what_a_call_wrote_is_kept_under_its_id(server: Server) -> None:
    call = square.spawn(12)
    call.get(timeout=30)

    lines = server.lines(f"/v1/logs?call={call.id}")

    assert [line["text"] for line in lines if line["source"] == "stdout"] == ["squaring 12"]


def test_the_life_of_a_worker_is_kept_without_gaps(server: Server) -> None:
    call = square.spawn(3)
    call.get(timeout=30)

    intervals = server.get(f"/v1/calls/{call.id}")["worker_intervals"]

    assert [one["state"] for one in intervals][:4] == ["requested", "placing", "pulling", "starting"] or [
        one["state"] for one in intervals
    ][:3] == ["requested", "placing", "starting"]
    # The start of its life, then the part that this call had: between the two, what it did for others is left out.
    pairs = [(one["until"], after["since"]) for one, after in itertools.pairwise(intervals)]
    assert all(until == since for until, since in pairs[:4])
    assert all(until <= since for until, since in pairs)


@pytest.mark.root
def test_a_worker_sees_itself_and_nothing_of_the_host_or_of_its_neighbours(server: Server, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("not root")
    (tmp_path / "secret").write_text("x")
    leave_in_tmp.remote("left-by-a-neighbour")
    hidden = [
        "/etc/shadow",
        os.path.expanduser("~/.bashrc"),
        str(server.folder),
        str(tmp_path),
        "/tmp/left-by-a-neighbour",
    ]

    seen = look.remote(hidden)

    commands = seen["ps"].splitlines()[1:]
    assert all(seen[path].startswith("refused") for path in hidden), seen
    assert sum("relight.runtime." in command for command in commands) == 1
    assert len(commands) <= 3, commands
    assert int(seen["uid_map"].split()[1]) != 0


def test_curl_with_the_token_calls_a_function_in_json_and_without_it_is_refused(server: Server) -> None:
    url = f"{server.url}/v1/apps/first_light/functions/square/call"
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {server.token}"}

    with urllib.request.urlopen(urllib.request.Request(url, b'{"x": 7}', headers), timeout=30) as answer:
        told = json.load(answer)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, b'{"x": 7}'), timeout=30)

    with refused.value as problem:
        assert (told["state"], told["result"]) == ("succeeded", 49)
        assert (problem.status, problem.headers["content-type"]) == (401, "application/problem+json")
        assert json.load(problem)["code"] == "unauthenticated"


def test_a_wrong_name_is_told_with_the_nearest_right_one(server: Server) -> None:
    with pytest.raises(relight.NotFound, match="did you mean 'square'"):
        relight.Function.from_name("first_light", "sqare").remote(1)
