"""Which packages of an image a template tells: those that are imported, and few names of each."""

from __future__ import annotations

import subprocess
import sys

import pytest

from relight.runtime import loader
from relight.runtime.loader import packages


def test_what_was_imported_of_the_image_is_told_in_the_order_in_which_it_was() -> None:
    program = "import iniconfig, pluggy; from relight.runtime.loader import packages; print(*packages())"

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert told.index("iniconfig") < told.index("pluggy")
    assert not any("._" in name or name.count(".") > 1 for name in told)
    assert "json" not in told  # Python's own is there anyway, or soon


def test_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "MOST_PACKAGES", 3)

    assert len(list(packages())) == 3
