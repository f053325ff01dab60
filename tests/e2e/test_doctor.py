"""`relight doctor` says what is so, whoever asks; and wherever it is asked, an app runs."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from surroundings import KINDS, Surroundings, give_back, surroundings

LIMITS = ("limit.memory", "limit.cpu", "limit.pids")
HELLO = Path(__file__).parents[2] / "examples" / "hello.py"
pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(kind, marks=[pytest.mark.slow] * (kind not in ("delegated", "no_namespaces"))) for kind in KINDS
    ],
)
def here(request: pytest.FixtureRequest) -> Iterator[Surroundings]:
    made = surroundings(request.param, Path(tempfile.mkdtemp(prefix="rl-")))
    yield made
    give_back(made)


def test_it_says_what_is_so_and_an_app_runs(here: Surroundings) -> None:
    done = here.relight("doctor", "--json")
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    checks = {check["name"]: check for check in answer["checks"]}
    verdicts = {name: check["verdict"] for name, check in checks.items()}

    assert verdicts["trial"] == "ok", checks["trial"]["sentence"]
    is_walled = here.kind not in ("no_namespaces", "no_unshare")
    assert verdicts["isolation"] == ("ok" if is_walled else "broken"), checks["isolation"]
    assert verdicts["users"] == ("ok" if here.kind == "root" else "weak")
    enforced = "ok" if here.kind in ("root", "delegated") else "weak"
    assert {verdicts[name] for name in (*LIMITS, "control groups")} == {enforced}, checks["control groups"]
    assert verdicts["data folder"] == verdicts["clock"] == verdicts["python"] == verdicts["server"] == "ok"
    assert verdicts["start.fork"] == ("ok" if is_walled else "weak")
    assert checks["start.fetch"]["value"] > 0
    assert {"start.import", "start.boot"} & set(checks)
    assert checks["disk sync"]["value"] > 0
    assert [name for name, check in checks.items() if check["verdict"] != "ok" and not check["advice"]] == []
    assert (answer["is_fit"], done.returncode) == ((True, 0) if is_walled else (False, 3))


@pytest.mark.slow
def test_the_example_runs(here: Surroundings) -> None:
    example = here.folder / "home" / "hello.py"
    shutil.copy(HELLO, example)

    done = here.relight("run", str(example))

    assert done.returncode == 0, done.stderr
    assert done.stdout
