"""Advice on a real server: a plan that is written, a watch that warns, and what things will cost before they run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Cli, beside_a_server, in_new_folders, read_line

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with beside_a_server(tmp_path_factory.mktemp("advice")) as cli:
        assert cli("call", "shop/count", "--to", "3", "--seconds", "0.3").returncode == 0
        yield cli


def test_a_plan_is_written_to_its_function_and_can_be_taken_back(cli: Cli) -> None:
    before = cli.json("scale", "shop/count")["scaling"]
    made = cli.json("plan", "shop/count", "--card", "modal", "--start", "2", "--apply", "--yes")
    after = cli.json("scale", "shop/count")["scaling"]
    again = cli("plan", "shop/count", "--card", "modal", "--start", "2", "--apply", "--yes")

    applied = made["applied"]
    assert applied["is_written"]
    assert all(one["now"] == before[one["setting"]] != one["then"] for one in applied["changes"])
    assert after == {**before, **{one["setting"]: one["then"] for one in applied["changes"]}}
    best = made["best"]
    assert (after["min_workers"], after["scaledown_window_seconds"]) == (best["workers"], best["window_seconds"])
    assert after["scaledown_window_seconds"] != 60.0
    assert "priced on modal, and this server bills by machine" in applied["unwritten"][0]
    assert "its settings are as the plan would have them" in again.stderr
    assert cli.json("scale", "shop/count", "--reset")["scaling"] == before


def test_a_plan_is_written_nowhere_without_a_yes_nor_where_it_keeps_no_target(cli: Cli) -> None:
    unasked = cli("plan", "shop/count", "--card", "modal", "--apply")
    unmet = cli("plan", "shop/count", "--card", "modal", "--budget", "0.000000001", "--apply", "--yes")
    nowhere = cli("plan", "--trace", "shop.py", "--apply", "--yes")

    assert [(one.returncode, one.stderr.splitlines()[-1]) for one in (unasked, unmet, nowhere)] == [
        (3, "relight: cannot apply a plan to shop/count: nobody is here to be asked; add --yes"),
        (
            3,
            "relight: cannot apply the plan to shop/count: no option keeps every target; "
            "loosen --p95, --cold or --budget",
        ),
        (3, "relight: cannot apply a plan: nothing says to what; name APP/FUNCTION, also beside --trace"),
    ]
    assert cli.json("scale", "shop/count")["overrides"] == []


def test_a_watch_warns_of_cold_calls_and_says_so_to_scripts(cli: Cli) -> None:
    asked = ("watch", "shop/count", "--card", "modal", "--least", "0s", "--slow", "0s")
    found = cli(*asked, "--once", "--json")
    quiet = cli(*asked, "--once", "--cold", "1")
    too_soon = cli("watch", "--once")

    (warning,) = json.loads(found.stdout)["warnings"]
    assert (found.returncode, quiet.returncode, too_soon.returncode) == (4, 0, 0)
    assert (warning["topic"], warning["function"], warning["bound"]) == ("cold", "count", 0.05)
    assert warning["do"] == "relight plan shop/count --cold 0.05"
    assert quiet.stdout == "nothing to warn of\n"
    missing = cli("watch", "bakery", "--once")
    assert (missing.returncode, missing.stderr) == (
        3,
        "relight: cannot watch bakery: it is not deployed to main; `relight apps` says what is\n",
    )


def test_a_watch_that_goes_on_says_each_warning_once(cli: Cli) -> None:
    asked = ("watch", "shop/count", "--card", "modal", "--least", "0s", "--slow", "0s", "--every", "0.2s", "--json")
    watching = cli.begin(*asked)
    with watching:
        first = json.loads(read_line(watching))
        threading.Event().wait(1.0)  # it has looked a few times more
        watching.terminate()
        rest = watching.communicate(timeout=10)[0]

    assert "waited for a worker to start" in first["says"]
    assert not first["is_over"]
    assert rest == ""


def test_what_a_call_will_cost_is_known_from_those_before(cli: Cli) -> None:
    none = {
        row["function"]: row["estimate"] for row in cli.json("deploy", "shop.py", "--plan")["plans"][0]["functions"]
    }
    end = time.monotonic() + 60
    while not (told := cli.json("cost", "shop/count", "--by", "function")["rows"]) or not told[0]["calls"]:
        assert time.monotonic() < end, "the node has not said what was used"
        threading.Event().wait(0.5)
    estimated = {
        row["function"]: row["estimate"] for row in cli.json("deploy", "shop.py", "--plan")["plans"][0]["functions"]
    }["count"]
    by_hand = round(estimated["flex_hour_nanos"] * told[0]["billed_us"] / told[0]["calls"] / 3.6e9)

    assert none["square"]["calls"] == 0
    assert none["square"]["call_nanos"] is None
    assert estimated["calls"] == told[0]["calls"]
    assert estimated["call_nanos"] == pytest.approx(by_hand, abs=1)
    assert "a call, of" in cli("run", "--estimate", "shop.py::count").stdout


def test_an_estimate_without_a_server_runs_nothing_and_says_what_it_does_not_know(tmp_path: Path) -> None:
    with in_new_folders(tmp_path) as cli:
        said = cli("run", "--estimate", "shop.py::square")

        assert said.returncode == 0, said.stderr
        assert said.stdout.startswith("shop/square: $")
        assert said.stdout.endswith("by card machine; no call of it ended here in 30 days\n")
        assert not (cli.data / "runs").exists()
