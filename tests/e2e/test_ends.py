"""How workers end is told with its reason, wherever one asks: the exception, the API, the command line."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

import relight
from e2e import app_ends as ends
from relight.protocol.errors import FunctionTimeout, RelightError, StartFailed, WorkerLost
from relight.protocol.exits import WorkerExit
from servers import Server, wait_until

MIB = 1 << 20
pytestmark = pytest.mark.root


@pytest.fixture(scope="module", autouse=True)
def deployed(server: Server) -> Iterator[None]:
    ends.app.deploy()
    yield
    assert ends.app._session is not None
    ends.app._session.connection.close()


def how(call: relight.Call[Any]) -> tuple[RelightError, WorkerExit]:
    """The exception that a call ends with, and how its worker ended, by that."""
    with pytest.raises(RelightError) as raised:
        call.get(timeout=60)
    assert raised.value.exit is not None
    return raised.value, raised.value.exit


def shown(server: Server, call: relight.Call[Any]) -> dict[str, Any]:
    found: dict[str, Any] = server.get(f"/v1/calls/{call.id}")
    return found


def command(server: Server, *words: str) -> str:
    ran = [sys.executable, "-m", "relight", *words]
    env = {"RELIGHT_DATA_DIR": str(server.folder), "PATH": "/usr/bin:/bin"}
    return subprocess.run(ran, env=env, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.slow
def test_out_of_memory_is_told_at_once_with_its_peak_and_last_lines_and_harms_nobody(server: Server) -> None:
    neighbour = ends.whoami.remote()

    call = ends.hog.spawn()
    error, ending = how(call)
    told = shown(server, call)

    assert isinstance(error, WorkerLost)
    assert "ran out of memory (out_of_memory); it held 25" in str(error)
    assert str(error).endswith("; raise memory=, or use less")
    assert (ending.reason, ending.signal) == ("out_of_memory", signal.SIGKILL)
    assert 240 * MIB < ending.peak_memory_bytes <= 256 * MIB
    assert told["call"]["failure"]["exit"]["reason"] == "out_of_memory"
    assert [one["exit"]["reason"] for one in told["attempts"]] == [
        "out_of_memory"
    ] * 4  # 3 tries again, as for any lost worker
    for attempt in told["attempts"]:
        took_last = float(attempt["exit"]["last_lines"][-1])  # its last line says when it was about to take too much
        assert 0 <= attempt["ended_at"] - took_last < 1.0
    assert ends.whoami.remote() == neighbour


def test_a_child_that_runs_out_of_memory_ends_its_worker_which_would_have_waited_for_ever(server: Server) -> None:
    _, ending = how(ends.hog_by_child.spawn())

    assert ending.reason == "out_of_memory"


def test_a_call_that_runs_out_of_memory_is_tried_as_often_and_as_late_as_its_retries_say(server: Server) -> None:
    call = ends.hog_with_retries.spawn()
    how(call)
    tries = shown(server, call)["attempts"]

    waits = [after["started_at"] - before["ended_at"] for before, after in pairwise(tries)]
    assert len(tries) == 5
    assert min(waits) > 0.19


@pytest.mark.parametrize(
    ("what", "reason", "code", "number"),
    [("exit", "exited:3", 3, None), ("SIGSEGV", "signal:SIGSEGV", None, 11), ("SIGKILL", "signal:SIGKILL", None, 9)],
)
def test_a_worker_that_ends_by_itself_is_told_by_its_status(
    server: Server, what: str, reason: str, code: int | None, number: int | None
) -> None:
    error, ending = how(ends.end.spawn(what))
    ends.end.remote()

    assert (ending.reason, ending.code, ending.signal) == (reason, code, number)
    assert ending.last_lines[-1] == "about to end"
    assert "its last words: about to end" in str(error)
    assert ending.peak_memory_bytes > MIB


def test_a_worker_that_was_killed_for_its_call_says_so(server: Server) -> None:
    error, ending = how(ends.overrun.spawn())

    assert isinstance(error, FunctionTimeout)
    assert (ending.reason, ending.signal) == ("killed:timed_out", signal.SIGKILL)


@pytest.mark.parametrize(("model", "reason"), [(ends.Full, "disk_full"), (ends.Slow, "start_timed_out")])
def test_a_worker_that_cannot_be_started_says_why(server: Server, model: Any, reason: str) -> None:
    error, ending = how(model().ask.spawn())

    assert isinstance(error, StartFailed)
    assert ending.reason == reason


@pytest.mark.slow
def test_the_command_line_tells_how_a_call_and_its_workers_ended(server: Server) -> None:
    call = ends.end.spawn("exit")
    how(call)
    ends.end.remote()

    said = command(server, "calls", "show", call.id)
    listed = command(server, "ps", "--all")

    (line,) = [line for line in said.splitlines() if line.startswith("exit ")]
    assert line.split(None, 1)[1].startswith("exited:3, held ")
    assert "its worker's last lines\n  about to end\n" in said
    assert said.count("lease_lost, exited:3, held ") == 3
    assert "exited:3, held " in next(one for one in listed.splitlines() if shown(server, call)["call"]["worker"] in one)


def test_a_crash_loop_is_told_while_it_lasts_and_ends_with_a_worker_that_is_well(server: Server) -> None:
    call = ends.hog_often.spawn()
    reasons: set[str] = set()

    def has_been_told() -> bool:
        reason = str(shown(server, call)["call"]["pending_reason"])
        if reason.startswith("crash_loop:"):
            reasons.add(reason)
        return any(": crash 5 in a row: " in one for one in reasons)

    wait_until(has_been_told, server)
    call.cancel()

    assert all(one.startswith("crash_loop:out_of_memory: crash ") for one in reasons)
    assert all("ran out of memory (out_of_memory); it held 6" in one for one in reasons)
    assert any("; the next start is in 0." in one for one in reasons)
