"""Versions on a real server: deploys, failed ones, canaries and rollbacks under calls that never stop."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import relight
from command_line import Cli, beside_a_server

SOURCE = (Path(__file__).parent / "app_versions.py").read_text()
pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with beside_a_server(tmp_path_factory.mktemp("versions")) as cli:
        yield cli


def write(cli: Cli, number: int, *, fails: bool = False) -> str:
    text = SOURCE.replace("NUMBER = 0", f"NUMBER = {number}").replace("FAILS = False", f"FAILS = {fails}")
    (cli.folder / "numbered.py").write_text(text)
    return "numbered.py"


def deploy(cli: Cli, number: int, *options: str) -> None:
    said = cli("deploy", write(cli, number), *options)
    assert said.returncode == 0, said.stderr


class Traffic:
    """Calls one after another from some threads; what they answered, and what went wrong."""

    def __init__(self, threads: int = 2) -> None:
        self.answers: Counter[int] = Counter()
        self.errors: list[BaseException] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(threads)]

    def _call(self) -> None:
        function = relight.Function.from_name("numbered", "number")
        while not self._over.is_set():
            call = function.spawn()
            if isinstance(answer := self._answer(call), int):
                self.answers[answer] += 1
            else:
                self.errors.append(answer)

    @staticmethod
    def _answer(call: relight.FunctionCall[int]) -> int | BaseException:
        try:
            return call.get()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the test looks for
            return error

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)


@pytest.fixture
def here(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The server's address, for the SDK in this process."""
    shown = cli.json("token", "show")
    monkeypatch.setenv("RELIGHT_URL", shown["url"])
    monkeypatch.setenv("RELIGHT_TOKEN", shown["token"])
    return cli


def go_through(cli: Cli, deploys: int, rollbacks: int, failures: int) -> Traffic:
    deploy(cli, 0)
    with Traffic() as traffic:
        for step in range(max(deploys, rollbacks, failures)):
            if step < deploys:
                deploy(cli, step + 1)
            if step < failures:
                assert cli("deploy", write(cli, -1, fails=True)).returncode == 3
            if step < rollbacks:
                assert cli("rollback", "numbered").returncode == 0
    return traffic


def check_lost_nothing(traffic: Traffic, deploys: int) -> None:
    assert traffic.errors == []
    assert set(traffic.answers) <= set(range(deploys + 1))
    assert len(traffic.answers) > deploys // 2
    assert -1 not in traffic.answers


@pytest.mark.slow
def test_no_call_is_lost_while_versions_come_fail_and_go_back(here: Cli) -> None:
    check_lost_nothing(go_through(here, deploys=4, rollbacks=2, failures=1), 4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_call_is_lost_over_a_hundred_deploys(here: Cli) -> None:
    check_lost_nothing(go_through(here, deploys=100, rollbacks=50, failures=20), 100)


def test_a_canary_gets_its_part_of_the_calls_and_takes_over(here: Cli) -> None:
    deploy(here, 1)
    deploy(here, 2, "--canary", "10")
    number = relight.Function.from_name("numbered", "number")

    before = Counter(number.remote() for _ in range(300))
    said = here("canary", "numbered", "100")
    after = {number.remote() for _ in range(10)}

    assert set(before) == {1, 2}
    assert 10 <= before[2] <= 60
    assert (said.returncode, after) == (0, {2})


@pytest.mark.slow
def test_no_worker_is_beside_one_of_a_version_that_is_recreated(here: Cli) -> None:
    """There, and back: what runs ends, what waits is for the version after, and nothing is lost."""
    deploy(here, 1)
    hold: relight.Function[[float], list[float]] = relight.Function.from_name("numbered", "hold")
    hold.update_scaling(max_workers=1)
    hold.remote(0.0)

    first = [hold.spawn(1.5) for _ in range(4)]
    wait_for(lambda: here.json("calls", "show", first[0].object_id)["call"]["state"] == "running")
    deploy(here, 2, "--strategy", "recreate")
    second = [hold.spawn(0.1) for _ in range(4)]
    reason = here.json("calls", "show", second[0].object_id)["call"]["pending_reason"]
    ran = [call.get() for call in (*first, *second)]
    assert here("rollback", "numbered").returncode == 0
    ran += [hold.remote(0.0) for _ in range(2)]

    assert reason.startswith("replacing: ")
    versions = [one[0] for one in ran]
    assert versions[:4] == sorted(versions[:4])
    assert (versions[0], versions[3:8], versions[8:]) == (1, [2] * 5, [1, 1])
    lives = worker_lives(here, "hold")
    for earlier, later in itertools.pairwise(sorted(lives)):
        assert lives[earlier][1] <= lives[later][0], f"{earlier} and {later} were there at once"
    assert [one["strategy"] for one in here.json("versions", "numbered")["switches"][:2]] == ["recreate", "recreate"]


def wait_for(is_so: Callable[[], bool]) -> None:
    """Ask until something is so; what is asked has an answer of its own each time."""
    while not is_so():
        pass


def moment(worker: str) -> float:
    """When a worker was asked for, in seconds since 1970: its id says so."""
    number = 0
    for letter in worker.partition("-")[2]:
        number = number << 5 | "0123456789abcdefghjkmnpqrstvwxyz".index(letter)
    return (number >> 80) / 1000


def worker_lives(cli: Cli, function: str) -> dict[int, tuple[float, float]]:
    """From when to when workers of each deploy of that function were there, by the order in which they came."""
    lives: dict[int, tuple[float, float]] = {}
    shown = [one for one in cli.json("ps", "--all")["workers"] if one["function"] == function]
    turn, last = -1, ""
    for worker in sorted(shown, key=lambda one: one["id"]):
        turn, last = (turn, last) if worker["version"] == last else (turn + 1, worker["version"])
        gone = worker["since"] if worker["state"] == "gone" else float("inf")
        asked = moment(worker["id"])
        since, until = lives.get(turn, (asked, gone))
        lives[turn] = (min(since, asked), max(until, gone))
    return lives


@pytest.mark.slow
def test_a_shadow_gets_copies_and_its_answers_are_thrown_away_until_it_takes_over(here: Cli) -> None:
    deploy(here, 1)
    deploy(here, 2, "--strategy", "shadow", "--share", "50")
    number = relight.Function.from_name("numbered", "number")

    answers = {number.remote() for _ in range(60)}
    wait_for(lambda: shadow_of(here)["ended"] == shadow_of(here)["copies"])
    seen, shown = shadow_of(here), here("versions", "numbered").stdout
    calls = here.json("calls", "list", "--limit", "1000")["calls"]
    assert here("canary", "numbered", "100").returncode == 0
    after = {number.remote() for _ in range(10)}

    assert (answers, after) == ({1}, {2})
    assert 15 <= seen["copies"] <= 45
    assert (seen["failed"], seen["dropped"]) == (0, 0)
    assert seen["differed"] == seen["compared"] == seen["copies"]
    assert 0 < seen["p50_seconds"] <= seen["p99_seconds"]
    assert "copies of 50%" in shown
    assert f"{seen['differed']} of {seen['compared']}" in shown
    assert not [one for one in calls if one["id"].startswith("shadow-")]
    assert "shadow" in {one["kind"] for one in here.json("ps", "--all")["workers"]}


def shadow_of(cli: Cli) -> dict[str, Any]:
    """How the copies went of the version that was deployed last."""
    (one,) = cli.json("versions", "numbered")["versions"][-1]["shadow"]
    return dict(one)


@pytest.mark.slow
def test_what_serves_is_shown_planned_promoted_and_rolled_back(here: Cli) -> None:
    deploy(here, 7, "--environment", "staging", "--tag", "team=a", "--commit", "abc123")
    deploy(here, 8, "--environment", "staging")
    file = write(here, 9)

    (shown,) = [one for one in here.json("versions", "numbered", "-e", "staging")["versions"] if one["percent"]]
    (plan,) = here.json("deploy", file, "--plan", "-e", "staging")["plans"]
    back = here("rollback", "numbered", "-e", "staging")
    promoted = here.json("promote", "numbered", "--from", "staging", "--to", "live")

    assert (shown["number"], shown["tags"], shown["made_by"]) == (2, [], "")
    assert [one["field"] for one in plan["difference"]["changes"]] == ["code"]
    assert plan["functions"][0]["nodes"] != []
    assert "numbered in staging is at version 1 again" in back.stdout
    assert json.loads(here("call", "numbered/number", "--environment", "live").stdout) == 7
    (live,) = here.json("versions", "numbered", "-e", "live")["versions"]
    assert (live["id"], live["source"] != "") == (promoted["version"], True)
    assert "team=a" in here("versions", "numbered", "-e", "staging").stdout


@pytest.mark.slow
def test_a_ci_deploys_by_the_script_of_the_action(here: Cli, tmp_path: Path) -> None:
    shown = here.json("token", "show")
    script = Path(__file__).parents[2] / ".github" / "actions" / "deploy" / "deploy.sh"
    variables = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RELIGHT_URL": shown["url"],
        "RELIGHT_TOKEN": shown["token"],
        "FILE": write(here, 5),
        "ENVIRONMENT": "ci",
        "GITHUB_SHA": "c" * 40,
        "GITHUB_REF_NAME": "main",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
    }

    done = subprocess.run([script], env=variables, cwd=here.folder, capture_output=True, text=True, check=False)
    refused = subprocess.run([script], env={"PATH": variables["PATH"]}, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    (version,) = here.json("versions", "numbered", "-e", "ci")["versions"]
    assert (version["commit"], version["tags"]) == ("c" * 40, [["branch", "main"]])
    assert (tmp_path / "output").read_text() == f"version={version['id']}\n"
    assert (refused.returncode, refused.stderr) == (2, "cannot deploy: RELIGHT_URL is not set; set it\n")
