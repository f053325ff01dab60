"""Cancelling, on a real server: whatever a call is at, it ends as cancelled, and nothing of it is left that shall not be.

How soon is measured by `bench/cancel.py`; here nothing looks at a clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import relight
from e2e import app_cancel as stubborn
from servers import Server, wait_until


@pytest.fixture(scope="module", autouse=True)
def deployed(server: Server) -> Iterator[None]:
    stubborn.app.deploy()
    yield
    assert stubborn.app._session is not None
    stubborn.app._session.connection.close()


def lines(server: Server, call: relight.Call[Any]) -> list[str]:
    return [line["text"] for line in server.lines(f"/v1/logs?call={call.id}") if line["source"] == "stdout"]


def begun(server: Server, call: relight.Call[Any]) -> relight.Call[Any]:
    """The call, once the function's own code runs."""
    wait_until(lambda: "begun" in lines(server, call), server)
    return call


def worker_of(server: Server, call: relight.Call[Any]) -> str:
    return str(server.get(f"/v1/calls/{call.id}")["call"]["worker"])


def sandbox_of(server: Server, call: relight.Call[Any]) -> str:
    """The name of the control groups of the worker that runs a call."""
    worker = worker_of(server, call)
    (found,) = [one for one in server.get("/v1/workers")["workers"] if one["id"] == worker]
    return str(found["sandbox"])


def inhabitants(server: Server, sandbox: str) -> list[str]:
    """The processes in a sandbox's control groups; none where the group itself is gone."""
    parents = (server.folder / "agent" / "sandboxes" / "groups").read_text().split()
    files = [Path(parent) / sandbox / "cgroup.procs" for parent in parents]
    return [pid for file in files if file.exists() for pid in file.read_text().split()]


def is_cancelled(call: relight.Call[Any]) -> bool:
    with pytest.raises(relight.CallCancelled):
        call.get(timeout=60)
    return call.status() is relight.CallState.CANCELLED


OBEYING: dict[str, tuple[relight.Function[..., Any], tuple[Any, ...]]] = {
    "computing in Python": (stubborn.spin, ()),
    "asleep": (stubborn.sleep, ()),
    "going on whatever goes wrong": (stubborn.persist, ()),
    "many threads": (stubborn.use_threads, (10,)),
    "awaiting": (stubborn.wait, ()),
    "holding up its event loop": (stubborn.spin_on_loop, ()),
}


@pytest.mark.parametrize("name", OBEYING)
def test_a_call_that_runs_python_is_stopped_and_its_worker_lives_on(server: Server, name: str) -> None:
    function, arguments = OBEYING[name]
    call = begun(server, function.spawn(*arguments))
    sandbox = sandbox_of(server, call)

    call.cancel()

    assert is_cancelled(call)
    assert inhabitants(server, sandbox)


def test_a_call_that_is_stopped_cleans_up_and_what_it_says_then_is_kept(server: Server) -> None:
    call = begun(server, stubborn.clean_up.spawn())

    call.cancel()

    assert is_cancelled(call)
    assert lines(server, call) == ["begun", "cleaned up"]


@pytest.mark.parametrize("function", [stubborn.count, stubborn.count_on_loop], ids=["plain", "on an event loop"])
def test_a_generator_that_is_cancelled_by_its_name_ends_its_reader(server: Server, function: Any) -> None:
    items = function.remote()
    assert [next(items), next(items)] == [0, 1]
    (newest,) = server.get("/v1/calls?app=cancel&limit=1")["calls"]

    relight.Call.from_id(newest["id"]).cancel()

    with pytest.raises(relight.CallCancelled):
        list(items)


DEAF: dict[str, relight.Function[..., Any]] = {
    "deaf to signals in C, with a child and a thread": stubborn.ignore_signals,
    "holding the interpreter's lock in C": stubborn.hold_the_interpreter,
    "taking all that is raised": stubborn.take_all_that_is_raised,
}


@pytest.mark.parametrize("name", DEAF)
def test_a_call_that_does_not_obey_is_killed_and_its_group_is_empty(server: Server, name: str) -> None:
    call = begun(server, DEAF[name].spawn())
    sandbox = sandbox_of(server, call)
    assert inhabitants(server, sandbox)

    call.cancel()

    assert is_cancelled(call)
    assert inhabitants(server, sandbox) == []


def test_a_call_that_waits_is_gone_at_once_and_the_one_before_it_goes_on(server: Server) -> None:
    one = stubborn.sleep.with_options(max_workers=1)
    before = begun(server, one.spawn())
    waiting = one.spawn()

    waiting.cancel()

    assert is_cancelled(waiting)
    assert lines(server, waiting) == []
    assert before.status() is relight.CallState.RUNNING
    before.cancel()


def test_a_map_of_a_thousand_calls_is_cancelled_by_one_request(server: Server) -> None:
    group = stubborn.sleep.spawn_map([3600.0] * 1000)
    wait_until(lambda: any(call.status() is relight.CallState.RUNNING for call in group[:2]), server)

    group.cancel()

    results = list(group.results(order_outputs=False, return_exceptions=True))
    assert len(results) == 1000
    assert {type(result) for result in results} == {relight.CallCancelled}
    assert stubborn.sleep.stats().backlog == 0


def test_a_call_takes_those_with_it_that_it_waits_for(server: Server) -> None:
    call = begun(server, stubborn.parent.spawn(20))
    wait_until(lambda: len(call.tree().children) == 20, server)

    call.cancel()

    assert is_cancelled(call)
    below = [relight.Call.from_id(child.id) for child in call.tree().children]
    assert all(is_cancelled(child) for child in below)


@pytest.mark.slow
def test_calls_behind_one_that_hears_nothing_are_run_by_others_and_cost_them_no_try(server: Server) -> None:
    assert [stubborn.quick_or_deaf.remote(n) for n in range(30)] == [n * n for n in range(30)]  # short: some go ahead
    calls = [stubborn.quick_or_deaf.spawn(n) for n in (-1, *range(200))]
    deaf = begun(server, calls[0])

    results = [call.get(timeout=60) for call in calls[1:]]

    assert results == [n * n for n in range(200)]
    shown = [server.get(f"/v1/calls/{call.id}") for call in calls[1:]]
    assert {one["call"]["attempts"] for one in shown} == {1}
    assert all(lines(server, call) == [f"began {n}"] for n, call in enumerate(calls[1:]))
    assert deaf.status() is relight.CallState.RUNNING
    deaf.cancel()
    assert is_cancelled(deaf)
