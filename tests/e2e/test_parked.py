"""Workers that are started ahead of any call, on a real server: a call that comes finds one."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import dedent
from typing import Any

import pytest

from command_line import Cli, beside_a_server
from e2e.app_parked import app, who

SHOP = dedent(
    """
    import os, relight

    app = relight.App("ahead")

    @app.cls(buffer_workers=1, scaledown_window=0)
    class Model:
        @relight.enter()
        def load(self):
            self.loaded_by = os.environ["RELIGHT_WORKER"]

        @relight.method()
        def who(self) -> str:
            return self.loaded_by
    """
)
pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with beside_a_server(tmp_path_factory.mktemp("parked")) as cli:
        (cli.folder / "ahead.py").write_text(SHOP)
        assert cli("deploy", "ahead.py").returncode == 0
        yield cli


def workers(cli: Cli, state: str) -> list[str]:
    return [one["id"] for one in cli.json("ps")["workers"] if (one["app"], one["state"]) == ("ahead", state)]


def wait_for(is_so: Any) -> Any:
    """Ask until something is so; each round waits for a command of its own."""
    while not (found := is_so()):
        pass
    return found


@pytest.mark.slow
def test_the_first_call_finds_a_worker_that_was_started_ahead_and_waits_for_no_start(cli: Cli) -> None:
    (parked,) = wait_for(lambda: workers(cli, "ready"))

    said = cli("call", "ahead/Model.who").stdout.strip().strip("'\"")

    (call,) = cli.json("calls", "list", "--function", "Model")["calls"]
    shown = cli.json("calls", "show", call["id"])
    assert said == parked
    assert (shown["start"]["level"], shown["start"]["why"]) == ("parked", "")
    assert [step["what"] for step in shown["timeline"]] == ["queued", "attempt 1", "succeeded"]
    assert shown["timeline"][0]["detail"] == "level 0p parked: its worker was started ahead"


@pytest.mark.slow
def test_another_takes_its_place_and_the_used_one_leaves(cli: Cli) -> None:
    before = workers(cli, "ready")
    said = cli("call", "ahead/Model.who").stdout.strip().strip("'\"")

    (parked,) = wait_for(lambda: [one for one in workers(cli, "ready") if one not in (*before, said)])
    wait_for(lambda: said not in [one["id"] for one in cli.json("ps")["workers"]])

    assert workers(cli, "ready") == [parked]


def test_starts_ahead_are_told_apart_and_the_hit_rate_is_that_of_the_calls(cli: Cli) -> None:
    wait_for(lambda: len(workers(cli, "ready")) == 1)
    assert cli("call", "ahead/Model.who").returncode == 0

    answer = cli.json("starts", "ahead")

    groups = {group["level"]: group for group in answer["groups"]}
    assert groups["parked"]["count"] >= 1
    assert groups["parked"]["ahead"] == 0
    others = [group for level, group in groups.items() if level != "parked"]
    assert sum(group["count"] for group in others) == sum(group["ahead"] for group in others)
    assert (answer["hit_rate"], [one["level"] for one in answer["levels"]]) == (1.0, ["parked"])
    assert "all: 100.0 % level 0p parked; hit rate 100.0 %" in cli("starts", "ahead").stdout


def test_a_redeploy_and_a_stop_leave_none_of_the_workers_before(cli: Cli) -> None:
    before = wait_for(lambda: workers(cli, "ready"))
    assert cli("deploy", "ahead.py").returncode == 0
    after = wait_for(lambda: [one for one in workers(cli, "ready") if one not in before])
    wait_for(lambda: not set(before) & {one["id"] for one in cli.json("ps")["workers"]})

    assert cli("stop", "ahead").returncode == 0

    wait_for(lambda: not set(after) & {one["id"] for one in cli.json("ps")["workers"]})


def test_a_run_has_its_buffer_while_it_lasts(cli: Cli) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELIGHT_DATA_DIR", str(cli.data))
        with app.run():
            (parked,) = wait_for(
                lambda: [
                    one["id"] for one in cli.json("ps")["workers"] if (one["app"], one["state"]) == ("brief", "ready")
                ]
            )
            assert who.remote() == parked

    wait_for(lambda: not [one for one in cli.json("ps")["workers"] if one["app"] == "brief"])
