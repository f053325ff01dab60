"""Several nodes: a worker is started where its template is, as long as there is room, and elsewhere when there is none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import relight
from e2e.app_nodes import app, hold, ready
from servers import Server, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]


@contextmanager
def second_node(server: Server, folder: Path) -> Iterator[None]:
    """A second agent on this machine, `there`, beside the server's own, `here`."""
    socket = str(server.folder / "run" / "link.sock")
    command = [sys.executable, "-m", "relight.agent", "--socket", socket, "--data-dir", str(folder), "--node", "there"]
    with (server.folder / "there.log").open("ab") as output:
        agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        wait_until(lambda: len(connected(server)) == 2, server)
        yield
    finally:
        agent.terminate()
        agent.wait(40)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("RELIGHT_DATA_DIR", str(tmp_path / "data"))
    started = Server(tmp_path / "data")
    started.start()
    yield started
    if app._session is not None:
        app._session.connection.close()
        app._session = None
    started.stop()


def connected(server: Server) -> list[str]:
    return [node["id"] for node in server.get("/v1/nodes")["nodes"] if node["is_connected"]]


def has_worker(server: Server, call: relight.Call[Any]) -> bool:
    return server.get(f"/v1/calls/{call.id}")["call"]["state"] == "running"


def starts(server: Server, function: str) -> list[tuple[str, str]]:
    """Where each worker of it was started, and on which level, oldest first."""
    found = server.get(f"/v1/starts?app=nodes&function={function}")["starts"]
    return [(one["node"], one["level"]) for one in reversed(found)]


def test_a_worker_is_started_where_its_template_is_and_elsewhere_when_there_is_no_room(
    server: Server, tmp_path: Path
) -> None:
    wait_until(lambda: connected(server) == ["here"], server)
    app.deploy()
    templates = server.get("/v1/apps/nodes/templates?wait=60")["templates"]
    assert {one["node"] for one in templates if one["function"] == "ready"} == {"here"}
    held = [hold.spawn()]
    wait_until(lambda: has_worker(server, held[0]), server)

    with second_node(server, tmp_path / "there"):
        assert ready.remote() == 1  # though `there` has more of its CPU left
        wait_until(lambda: len(starts(server, "ready")) == 1, server)
        assert starts(server, "ready") == [("here", "fork")]
        wait_until(
            lambda: not [one for one in server.get("/v1/workers")["workers"] if one["function"] == "ready"], server
        )

        most = hold.with_options(cpu=server.get("/v1/nodes")["nodes"][0]["cpu"] - 0.6)
        held += [most.spawn(), most.spawn()]
        wait_until(lambda: all(has_worker(server, call) for call in held), server)
        wait_until(lambda: len(starts(server, "hold")) == 3, server)
        assert sorted(node for node, _ in starts(server, "hold")) == ["here", "here", "there"]

        assert ready.with_options(cpu=0.3).remote() == 1
        wait_until(lambda: len(starts(server, "ready")) == 2, server)
        assert starts(server, "ready")[1][0] == "there"
        for call in held:
            call.cancel()
