"""Wrong uses: each says what cannot be done, why, and what to do, and shows nothing of relight's own code.

`pytest tests/wrong_use --update-golden` writes down anew what they say.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest

from servers import Server
from wrong_use import arguments, commands, decorators, failures, places, values, web, workers
from wrong_use.harness import OWN, Case, Place, told

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"
ALL: dict[str, Case] = {
    **arguments.CASES,
    **decorators.CASES,
    **failures.CASES,
    **workers.CASES,
    **places.CASES,
    **commands.CASES,
    **web.CASES,
    **values.CASES,
}
_PYTHONS = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
OLD_PYTHON = next(map(str, _PYTHONS.glob("3.10.*/bin/python")), shutil.which("python3.10") or "")
FORM = re.compile(r"\bcannot .+?: .+(; |\?)", re.DOTALL)


@pytest.fixture
def writes(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are written rather than compared with."""
    return bool(request.config.getoption("--update-golden"))


@pytest.mark.parametrize("name", ALL)
def test_a_wrong_use_says_what_why_and_what_next(name: str, place: Place, writes: bool) -> None:
    check(name, ALL[name], place, writes=writes)


@pytest.mark.root
@pytest.mark.parametrize("name", workers.NEEDS_CGROUPS)
def test_a_limit_that_is_enforced_says_what_to_raise(name: str, place: Place, server: Server, writes: bool) -> None:
    if not enforces_memory(server):
        pytest.skip("this machine has no control groups for memory")

    check(name, workers.NEEDS_CGROUPS[name], place, writes=writes)


@pytest.mark.skipif(not OLD_PYTHON, reason="no Python 3.10 is here")
def test_a_python_too_old_for_a_server_says_which_it_takes(place: Place, writes: bool) -> None:
    (place.folder / "packages").mkdir()
    (place.folder / "packages" / "click").symlink_to(Path(click.__file__).parent)
    paths = {"PYTHONPATH": f"{Path(OWN).parent}:{place.folder}/packages"}
    case = Case(command=("relight", "up", "--data-dir", "{folder}/d"), python=OLD_PYTHON, environ=paths)

    check("python-too-old", case, place, writes=writes)


def test_debugging_shows_the_way_through_relight(place: Place) -> None:
    case = ALL["raises"]

    said = told(replace(case, environ={"RELIGHT_DEBUG": "1"}), place)

    assert f'File "{OWN}/sdk/connection.py"' in said
    assert said.endswith("ValueError: bad 3\n")


def check(name: str, case: Case, place: Place, *, writes: bool) -> None:
    """What is said is as it should be, and as it was."""
    golden = GOLDEN / f"{name}.txt"
    said = told(case, place)
    if writes:
        golden.write_text(said, encoding="utf-8")
    assert "\nexit code 0\n" not in said
    assert OWN not in said
    assert "src/relight/" not in said
    assert case.is_users or FORM.search(said)
    assert said == golden.read_text(encoding="utf-8")


def test_there_are_as_many_as_were_promised() -> None:
    assert len(ALL) >= 34
    assert sorted([*ALL, *workers.NEEDS_CGROUPS, "python-too-old"]) == sorted(
        path.stem for path in GOLDEN.glob("*.txt")
    )


def enforces_memory(server: Server) -> bool:
    """Whether `relight doctor` finds that limits of memory hold here."""
    done = subprocess.run(
        [sys.executable, "-m", "relight", "doctor", "--quick", "--json"],
        env={**os.environ, "RELIGHT_DATA_DIR": str(server.folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    checks = json.loads(done.stdout)["checks"]
    return any(check["name"] == "limit.memory" and check["verdict"] == "ok" for check in checks)
