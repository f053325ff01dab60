"""The pytest plugin, in pytest: apps in sandboxes, in the process of the tests, and what is shown where a test fails."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import Server

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parent.parent.parent / "docs" / "testing.md"
FILES = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPTIONS = ("-p", "no:cacheprovider", "-W", "error", "-o", "asyncio_default_fixture_loop_scope=function")

APP = """
import os
import time
import pytest
import relight

app = relight.App("shop")

@app.function()
def square(x):
    print("squaring", x)
    return x * x

@app.function()
def where():
    return os.getpid(), relight.is_remote(), relight.current_call()

@app.function()
def sleep(seconds):
    time.sleep(seconds)
"""

GOOD = """
def test_good(run_app):
    run_app(app)
    square.remote(14)
"""


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder of few letters, as a socket's path must be; no server is up in it."""
    for name in ("RELIGHT_URL", "RELIGHT_TOKEN", "RELIGHT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with tempfile.TemporaryDirectory(prefix="rl-") as folder:
        monkeypatch.setenv("RELIGHT_DATA_DIR", folder)
        yield Path(folder)


def servers_of(data: Path) -> int:
    """How many servers were started."""
    return len(list((data / "runs").iterdir())) if (data / "runs").exists() else 0


@pytest.fixture
def page(pytester: pytest.Pytester) -> pytest.Pytester:
    """The files of the page about tests."""
    files = FILES.findall(PAGE.read_text(encoding="utf-8"))
    assert len(files) == 5
    for name, text in files:
        (pytester.path / name).write_text(text, encoding="utf-8")
    return pytester


def test_the_tests_of_the_page_pass_on_one_server(page: pytest.Pytester, data: Path) -> None:
    result = page.runpytest_subprocess(*OPTIONS)

    result.assert_outcomes(passed=6)
    assert servers_of(data) == 1


def test_they_pass_in_processes_beside_one_another(page: pytest.Pytester, data: Path) -> None:
    result = page.runpytest_subprocess(*OPTIONS, "-n", "2", "test_shop.py", "test_till.py")

    result.assert_outcomes(passed=5)
    assert servers_of(data) == 2


def test_they_pass_in_the_process_of_the_tests(page: pytest.Pytester, data: Path) -> None:
    result = page.runpytest_subprocess(*OPTIONS, "--relight-local", "test_shop.py", "test_till.py")

    result.assert_outcomes(passed=5)
    assert servers_of(data) == 0


def test_an_app_runs_in_workers_or_here_as_was_asked(pytester: pytest.Pytester, data: Path) -> None:
    pytester.makepyfile(
        APP
        + """
def test_in_a_worker(run_app):
    run_app(app)
    pid, is_remote, call = where.remote()
    assert (pid == os.getpid(), is_remote, call[:5]) == (False, True, "call-")

def test_here(local_app):
    assert local_app(app) is app
    pid, is_remote, call = where.remote()
    assert (pid == os.getpid(), is_remote, call[:5]) == (True, True, "call-")

async def test_on_an_event_loop(run_app):
    run_app(app)
    assert await square.remote.aio(3) == 9

def test_it_runs_no_longer_than_its_test():
    with pytest.raises(relight.InvalidRequest, match="its app is not running"):
        where.remote()
"""
    )

    result = pytester.runpytest_subprocess(*OPTIONS, "-o", "asyncio_mode=auto")

    result.assert_outcomes(passed=4)


def test_a_failing_test_shows_what_its_workers_wrote_and_no_other_does(pytester: pytest.Pytester, data: Path) -> None:
    pytester.makepyfile(
        APP
        + """
@pytest.fixture(scope="module")
def running(relight_server):
    with relight_server.run(app):
        yield

def test_good(running):
    assert square.remote(11) == 121

def test_bad(running, run_app):
    square.remote(12)
    run_app(app)
    assert square.remote(13) == 0
"""
    )

    result = pytester.runpytest_subprocess(*OPTIONS)

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*- relight logs -*", "?square? squaring 12", "?square? squaring 13"])
    result.stdout.no_fnmatch_line("*squaring 11*")
    result.stdout.no_fnmatch_line("*Captured stdout*")


def test_with_capture_off_output_is_shown_as_it_comes(pytester: pytest.Pytester, data: Path) -> None:
    pytester.makepyfile(APP + GOOD)

    result = pytester.runpytest_subprocess(*OPTIONS, "-s")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*squaring 14"])


def test_a_failing_test_does_not_wait_for_what_it_left(pytester: pytest.Pytester, data: Path) -> None:
    pytester.makepyfile(
        APP
        + """
def test_bad(run_app):
    run_app(app)
    sleep.spawn(600)
    assert False
"""
    )

    result = pytester.runpytest_subprocess(*OPTIONS, timeout=60)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*cancelled 1 unfinished call*"])


def test_who_does_not_use_it_pays_for_nothing(pytester: pytest.Pytester, data: Path) -> None:
    pytester.makepyfile(
        """
import sys

def test_nothing_is_loaded():
    ours = {name for name in sys.modules if name.partition(".")[0] == "relight"}
    assert ours == {"relight", "relight.testing"}
"""
    )

    result = pytester.runpytest_subprocess(*OPTIONS)

    result.assert_outcomes(passed=1)
    assert servers_of(data) == 0


def test_tests_leave_servers_that_are_elsewhere_alone(
    pytester: pytest.Pytester, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELIGHT_URL", "http://127.0.0.1:9")
    pytester.makepyfile(APP + GOOD)

    result = pytester.runpytest_subprocess(*OPTIONS)

    result.assert_outcomes(passed=1)
    assert servers_of(data) == 1


def test_they_use_the_server_that_is_up_when_asked_to(pytester: pytest.Pytester, server: Server) -> None:
    pytester.makepyfile(APP + GOOD)

    result = pytester.runpytest_subprocess(*OPTIONS, "--relight-connect")

    result.assert_outcomes(passed=1)
    assert servers_of(server.folder) == 0


def test_they_say_so_where_none_is_up(pytester: pytest.Pytester, data: Path) -> None:
    pytester.makepyfile(APP + GOOD)

    result = pytester.runpytest_subprocess(*OPTIONS, "--relight-connect")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*cannot find a server: nobody listens at *"])


def test_options_that_contradict_one_another_are_refused(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(*OPTIONS, "--relight-connect", "--relight-local")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*cannot run apps both in this process and on a server*"])
