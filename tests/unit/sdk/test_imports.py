"""What it costs to have relight, and where it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import relight

SOURCE = str(Path(relight.__file__).parent.parent)
ROOT = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
PYTHONS = [
    str(path) for path in sorted(ROOT.glob("3.*/bin/python")) if int(path.parent.parent.name.split(".")[1]) >= 10
] or [sys.executable]


def run(python: str, code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [python, "-I", "-c", f"import sys; sys.path.insert(0, {SOURCE!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    return done.stdout


def test_importing_relight_loads_nothing_that_costs() -> None:
    loaded = json.loads(
        run(
            sys.executable,
            "import json; b = set(sys.modules); import relight; print(json.dumps(sorted(set(sys.modules) - b)))",
        )
    )

    assert set(loaded) <= {"relight", "__future__"}


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.split("/")[-3])
def test_every_public_name_can_be_had_on_every_python(python: str) -> None:
    names = run(python, "import relight; print([getattr(relight, name) for name in relight.__all__] and 'all')")

    assert names.strip() == "all"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'relight' has no attribute 'lamp'"):
        relight.lamp  # type: ignore[attr-defined]  # noqa: B018 - that is what is tested
