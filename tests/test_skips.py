"""CI does not go green by leaving out the tests of the walls."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SKIPS = """
import pytest

@pytest.mark.root
def test_walls():
    pytest.skip("no namespaces")

def test_other():
    pytest.skip("no GPU")
"""


def outcome(folder: Path, ci: str) -> str:
    """The closing line of a run of two tests that skip, one of them marked `root`."""
    (folder / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text(encoding="utf-8"))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    root: needs root\n")
    (folder / "test_skips.py").write_text(SKIPS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    environment = {**os.environ, "CI": ci, "RELIGHT_CI_NO_SKIP": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout.splitlines()[-1]


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="only root has no excuse")
def test_in_ci_a_root_test_that_is_skipped_fails(tmp_path: Path) -> None:
    assert outcome(tmp_path, ci="true").startswith("1 failed, 1 skipped")


def test_elsewhere_it_may_be_skipped(tmp_path: Path) -> None:
    assert outcome(tmp_path, ci="").startswith("2 skipped")
