"""What every test shares: on a machine that can run them all, CI lets none be skipped; who runs which, and what is compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from distribution import ByServer

hypothesis.settings.register_profile("quick", max_examples=25)
if os.environ.get("CI") != "true":  # which tries four times as many
    hypothesis.settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden`: write down anew what is compared with golden files."""
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")


def pytest_configure() -> None:
    """Have bytecode kept, whatever this machine says: hundreds of servers and commands are started, and none need compile anew."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByServer | None:
    """With `-n`, and nothing else said of it."""
    if config.getvalue("dist") != "load":
        return None
    from distribution import ByServer  # where there is no xdist nobody asks

    config.option.loadscopereorder = False  # in the order of the folders, of which the unit tests are the last
    return ByServer(config, log)


def must_not_skip() -> bool:
    """Whether this is CI, as root, where namespaces work: a `root` test has no reason to be skipped there."""
    is_ci = os.environ.get("CI") == "true" or os.environ.get("RELIGHT_CI_NO_SKIP") == "1"
    return is_ci and os.getuid() == 0 and has_namespaces()


def has_namespaces() -> bool:
    """Whether a process may have its own mounts and pids here, asked of util-linux rather than of the code under test."""
    unshare = shutil.which("unshare")
    command = [str(unshare), "--mount", "--pid", "--fork", "true"]
    return unshare is not None and subprocess.run(command, capture_output=True, timeout=10).returncode == 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a `root` test into a failure where it could have run."""
    report = yield
    is_skip = report.skipped and not hasattr(report, "wasxfail")
    if is_skip and item.get_closest_marker("root") and must_not_skip():
        report.outcome = "failed"
        report.longrepr = (
            f"cannot skip {item.nodeid}: this is CI, as root, with namespaces ({report.longrepr}); mend it"
        )
    return report
