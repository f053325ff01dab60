"""Templates are killed, given up and made again, on a real server: calls go on, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import relight
from faults.app_on_templates import add, app, hold
from servers import Server, templates_of, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]
MODULE = """
import relight, sys
app = relight.App({name!r})
ballast = bytearray(b"x") * ({mib} << 20)

@app.function(scaledown_window=0)
def f():
    return len(ballast) >> 20
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts a server with options; the app is deployed to it."""
    monkeypatch.setenv("RELIGHT_DATA_DIR", str(tmp_path / "data"))
    started: list[Server] = []

    def begin(*options: str) -> Server:
        server = Server(tmp_path / "data", *options)
        started.append(server)
        server.start()
        app.deploy()
        return server

    yield begin
    assert app._session is not None
    app._session.connection.close()
    for server in started:
        server.stop()


def starts(server: Server, app_name: str, function: str) -> list[tuple[str, str]]:
    """The level of each start, and the reason's code, oldest first."""
    found = server.get(f"/v1/starts?app={app_name}&function={function}&limit=1000")["starts"]
    return [(one["level"], one["why"].partition(":")[0]) for one in reversed(found)]


def has_begun(server: Server, call: relight.Call[Any]) -> bool:
    return any(line["text"] == "begun" for line in server.lines(f"/v1/logs?call={call.id}"))


def is_asleep(server: Server) -> bool:
    """Whether no worker lives."""
    return server.get("/v1/workers")["workers"] == []


def test_a_template_that_is_killed_costs_no_call_and_is_made_again(start: Any) -> None:
    server = start()
    calls = [hold.spawn(1.0) for _ in range(2)]
    wait_until(lambda: all(has_begun(server, call) for call in calls), server)

    (template,) = templates_of(server)
    os.kill(template, signal.SIGKILL)

    assert [call.get(timeout=60) for call in calls] == [1.0, 1.0]
    assert add.remote(1, 2) == 3
    wait_until(lambda: bool(starts(server, "dying", "add")), server)  # a start is written down a moment later
    assert starts(server, "dying", "add") in ([("boot", "lost")], [("import", "lost")])
    assert all(server.get(f"/v1/calls/{call.id}")["call"]["attempts"] == 1 for call in calls)
    wait_until(lambda: is_asleep(server), server)
    assert add.remote(3, 4) == 7
    wait_until(lambda: len(starts(server, "dying", "add")) > 1, server)
    assert starts(server, "dying", "add")[-1] == ("fork", "")


def test_a_shell_that_dies_before_its_worker_is_forked_is_no_death_of_the_template(start: Any) -> None:
    server = start()
    assert add.remote(1, 2) == 3
    wait_until(lambda: is_asleep(server), server)
    (template,) = templates_of(server)
    keeper = _keeper_of(template)

    os.kill(template, signal.SIGSTOP)
    wait_until(lambda: len(_children(keeper) - {template}) >= 2, server)  # two shells wait
    before = len(_children(keeper))
    call = add.spawn(3, 4)
    wait_until(lambda: len(_children(keeper)) > before, server)  # one was taken, with the order, and one made anew
    for shell in _children(keeper) - {template}:
        os.kill(shell, signal.SIGKILL)
    os.kill(template, signal.SIGCONT)

    assert call.get(timeout=60) == 7
    assert templates_of(server) == [template]
    assert starts(server, "dying", "add")[-1] == ("fork", "")


def test_an_agent_that_is_killed_has_its_templates_back_before_a_call_asks(start: Any) -> None:
    server = start()
    assert add.remote(1, 2) == 3
    wait_until(lambda: is_asleep(server), server)
    before = server.agent_pid

    server.kill_agent()
    wait_until(lambda: server.agent_pid != before, server)
    wait_until(lambda: len(templates_of(server)) == 1, server)
    wait_until(lambda: "shell-" in _groups(server), server)

    assert add.remote(3, 4) == 7
    wait_until(lambda: len(starts(server, "dying", "add")) > 1, server)
    assert starts(server, "dying", "add")[-1] == ("fork", "")


def _keeper_of(template: int) -> int:
    """The first process of a template's sandbox; its parent may be a base, in another one."""
    space = os.readlink(f"/proc/{template}/ns/pid")
    for process in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with suppress(OSError):
            numbers = Path(f"/proc/{process}/status").read_text().partition("NSpid:")[2].split("\n")[0].split()
            if numbers[-1] == "1" and os.readlink(f"/proc/{process}/ns/pid") == space:
                return process
    raise AssertionError(f"no first process is in the sandbox of {template}")


def _groups(server: Server) -> str:
    """The names of the control groups of its sandboxes."""
    parents = (server.folder / "agent" / "sandboxes" / "groups").read_text().split()
    return " ".join(name for parent in parents if os.path.isdir(parent) for name in os.listdir(parent))


def test_templates_that_do_not_fit_are_given_up_and_every_call_answers(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELIGHT_TEMPLATE_MEMORY_MIB", "120")
    server = start()
    apps = [f"big{number}" for number in range(6)]
    for name in apps:
        (tmp_path / f"{name}.py").write_text(MODULE.format(name=name, mib=40))
        subprocess.run([sys.executable, "-m", "relight", "deploy", f"{name}.py"], cwd=tmp_path, check=True)
    functions = {name: relight.Function.from_name(name, "f") for name in apps}

    for _ in range(2):
        for name in apps:
            assert functions[name].remote() == 40
            wait_until(lambda: is_asleep(server), server)
    assert functions["big5"].remote() == 40

    reasons = Counter(why for name in apps for _, why in starts(server, name, "f"))
    assert reasons["evicted"] >= 4, reasons
    assert starts(server, "big5", "f")[-1] == ("fork", "")
    assert 1 <= len(templates_of(server)) <= 3


def _held(server: Server) -> dict[str, int]:
    """What the agent, its launcher and all that lives below them hold."""
    launcher = int(Path(f"/proc/{server.agent_pid}/task/{server.agent_pid}/children").read_text().split()[0])
    return {
        "descriptors of the agent": len(os.listdir(f"/proc/{server.agent_pid}/fd")),
        "descriptors of the launcher": len(os.listdir(f"/proc/{launcher}/fd")),
        "descriptors of the template": len(os.listdir(f"/proc/{templates_of(server)[0]}/fd")),
        "mounts": len(Path(f"/proc/{launcher}/mountinfo").read_text().splitlines()),
        "groups": len(_groups(server).split()),
        "processes": sum(1 for _ in _below(server.agent_pid)),
    }


def _children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def _below(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        yield from _below(child)


@pytest.mark.slow
def test_two_hundred_starts_leave_nothing_behind(start: Any) -> None:
    server = start()
    for number in range(20):
        assert add.remote(number, 1) == number + 1
    wait_until(lambda: is_asleep(server), server)
    before = _held(server)

    for number in range(200):
        assert add.remote(number, 1) == number + 1
        wait_until(lambda: is_asleep(server), server)

    more = {what: count - before[what] for what, count in _held(server).items()}
    assert len(starts(server, "dying", "add")) > 100
    shells = 16
    allowed = {"groups": 4 * shells, "processes": shells, "descriptors of the agent": 16 * shells}
    assert all(count <= allowed.get(what, 0) + 2 * shells for what, count in more.items()), more
    errors = (server.folder / "agent" / "agent.log").read_text()
    assert "Traceback" not in errors
    assert "never retrieved" not in errors


def test_a_run_that_stops_leaves_no_template(start: Any, tmp_path: Path) -> None:
    server = start()
    wait_until(lambda: len(templates_of(server)) == 1, server)  # that of what is deployed
    (tmp_path / "passing.py").write_text(MODULE.format(name="passing", mib=1))

    done = subprocess.run(
        [sys.executable, "-m", "relight", "run", "passing.py::f"], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    wait_until(lambda: len(templates_of(server)) == 1, server)
