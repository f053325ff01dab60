"""Ends that only a server of one's own can show: a node that is lost, and a crash loop as long as one likes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import relight
from e2e import app_ends as ends
from relight.protocol.errors import WorkerLost
from relight.scheduler.brake import FIRST_SECONDS
from servers import Server, serving, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]


def shown(server: Server, call: relight.Call[Any]) -> dict[str, Any]:
    found: dict[str, Any] = server.get(f"/v1/calls/{call.id}")
    return found


@pytest.mark.slow
def test_twenty_times_out_of_memory_waits_longer_each_time_and_harms_nobody(tmp_path: Path) -> None:
    """The longest pause is a setting: 2 s here, so that it is reached."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "config.toml").write_text("crash_backoff_seconds = 2.0\n")
    with serving(folder, ends.app) as server:
        neighbour = ends.whoami.remote()
        call = ends.hog_often.spawn()
        with pytest.raises(WorkerLost):
            call.get(timeout=110)
        tries = shown(server, call)["attempts"]

        waits = [after["started_at"] - before["ended_at"] for before, after in pairwise(tries)]
        assert [one["exit"]["reason"] for one in tries] == ["out_of_memory"] * 20
        for crashes, waited in enumerate(waits[1:], 2):
            assert waited >= min(FIRST_SECONDS * 2 ** (crashes - 2), 2.0)
        assert max(waits) < 3.0
        assert ends.whoami.remote() == neighbour
        assert len(server.get("/v1/nodes")["nodes"]) == 1


def test_a_node_that_is_lost_is_told_and_its_call_runs_elsewhere_or_again(tmp_path: Path) -> None:
    with serving(tmp_path / "data", ends.app) as server:
        call = ends.wait_forever.spawn()
        wait_until(lambda: bool(server.lines(f"/v1/logs?call={call.id}")), server)

        server.kill_agent()
        wait_until(lambda: len(shown(server, call)["attempts"]) == 2, server)
        first = shown(server, call)["attempts"][0]
        gone = [one for one in server.get("/v1/workers?gone=true")["workers"] if one["state"] == "gone"]
        call.cancel()

        assert (first["outcome"], first["exit"]["reason"]) == ("lease_lost", "node_lost")
        assert [one["exit"]["reason"] for one in gone] == ["node_lost"]


def test_a_server_that_comes_back_goes_on_holding_up_a_crash_loop(tmp_path: Path) -> None:
    with serving(tmp_path / "data", ends.app) as server:
        call = ends.hog_often.spawn()
        wait_until(lambda: ": crash 6 in a row: " in shown(server, call)["call"]["pending_reason"], server)

        server.kill()
        server.start()
        told: list[str] = []

        def is_told() -> bool:
            told.append(shown(server, call)["call"]["pending_reason"])
            return told[-1].startswith("crash_loop:out_of_memory: crash ")

        wait_until(is_told, server)
        call.cancel()

        assert int(told[-1].split()[2]) >= 6
