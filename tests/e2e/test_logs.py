"""`relight logs` against a real server: what is shown of what workers wrote, and how it is narrowed."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from command_line import Cli, beside_a_server, in_new_folders, read_line

NOISY = dedent(
    """
    import os
    import sys
    import relight

    app = relight.App("noisy")
    print("importing noisy")

    @app.function()
    def speak(word: str, lines: int = 1):
        for number in range(lines):
            print(f"{word} {number}")
        print(f"{word} aside", file=sys.stderr)

    @app.function()
    def die():
        print("about to die")
        os.kill(os.getpid(), 9)
    """
)
BROKEN = dedent(
    """
    import os
    import relight

    app = relight.App("broken")

    @app.function()
    def never():
        pass

    if "DEPLOYING" not in os.environ:
        print("loading broken")
        raise RuntimeError("no model here")
    """
)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """The command line beside a server that has a noisy app deployed."""
    folder = tmp_path_factory.mktemp("logs")
    (folder / "noisy.py").write_text(NOISY)
    with beside_a_server(folder) as cli:
        deployed = cli("deploy", "noisy.py")
        assert deployed.returncode == 0, deployed.stderr
        yield cli


def speak(cli: Cli, word: str, lines: int = 1) -> str:
    """A call that has written; its id."""
    whole = cli("call", "noisy/speak", "--word", word, "--lines", str(lines), "--whole")
    found = re.search(r'"(call-[a-z0-9]+)"', whole.stdout)
    assert found, whole.stderr
    return found[1]


def shown(cli: Cli, *words: str) -> list[str]:
    """The lines that are shown on stdout."""
    found = cli("logs", *words)
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


def test_a_call_is_shown_by_its_id_and_its_errors_go_to_stderr(cli: Cli) -> None:
    call = speak(cli, "apple", 2)

    found = cli("logs", call)

    assert (found.stdout, found.stderr) == ("apple 0\napple 1\n", "apple aside\n")
    assert cli("logs", "--call", call, "--source", "stderr").stdout == ""
    assert cli("logs", "--call", call, "--source", "stdout").stderr == ""


def test_lines_are_found_by_text_in_either_case(cli: Cli) -> None:
    speak(cli, "Banana")

    assert shown(cli, "--search", "anana 0") == ["Banana 0"]
    assert shown(cli, "--search", "BANANA 0") == []
    assert shown(cli, "--search", "BANANA 0", "--ignore-case") == ["Banana 0"]


def test_the_newest_thousand_are_shown_and_all_when_that_is_asked(cli: Cli) -> None:
    speak(cli, "cherry", 1100)

    newest = shown(cli, "noisy/speak", "--search", "cherry", "--source", "stdout")

    assert newest == [f"cherry {number}" for number in range(100, 1100)]
    assert len(shown(cli, "noisy", "--search", "cherry", "--tail", "0", "--source", "stdout")) == 1100
    assert shown(cli, "--search", "cherry 10", "--tail", "2") == ["cherry 1098", "cherry 1099"]


def test_lines_are_found_by_their_time(cli: Cli) -> None:
    speak(cli, "date")
    now = time.time()

    assert shown(cli, "--since", "10m", "--search", "date 0") == ["date 0"]
    assert shown(cli, "--since", f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(now + 60))}") == []
    assert shown(cli, "--until", "10m", "--search", "date 0") == []
    assert cli("logs", "--since", "yesterday").returncode == 2


def test_a_line_can_begin_with_its_time_and_with_who_wrote_it(cli: Cli) -> None:
    call = speak(cli, "elder")

    (line,) = shown(cli, call, "--source", "stdout", "--timestamps", "--prefix")

    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT[\d:.]+[+-]\d\d:\d\d \[speak {call}\] elder 0", line)


def test_what_a_worker_wrote_while_it_started_is_shown_by_its_function(cli: Cli) -> None:
    speak(cli, "fig")

    assert "importing noisy" in shown(cli, "noisy/speak", "--tail", "0")


def test_what_a_worker_wrote_before_it_was_killed_is_shown_with_what_became_of_it(cli: Cli) -> None:
    found = cli("call", "noisy/die")
    lines = [json.loads(line) for line in shown(cli, "noisy/die", "--json")]

    texts = [line["text"] for line in lines]
    worker = next(line["worker"] for line in lines if line["text"] == "about to die")
    assert found.returncode != 0
    assert "about to die" in texts
    assert any(line["source"] == "system" and "the worker ended" in line["text"] for line in lines)
    assert "about to die" in shown(cli, worker)


@pytest.mark.slow
def test_a_finished_run_is_shown_by_its_id(tmp_path: Path) -> None:
    with in_new_folders(tmp_path) as alone:
        assert alone("run", "shop.py::square", "--x", "7").returncode == 0
        (run,) = os.listdir(alone.data / "runs")

        assert shown(alone, run) == ["squaring 7"]


def test_followed_lines_pass_the_same_filters(cli: Cli) -> None:
    with cli.begin("logs", "-f", "--search", "grape 1", "--source", "stdout", "--since", "1m") as follower:
        speak(cli, "grape", 3)
        speak(cli, "grape", 2)
        assert follower.stdout is not None
        lines = [read_line(follower), follower.stdout.readline()]
        follower.send_signal(signal.SIGINT)
        follower.communicate(timeout=30)

    assert lines == ["grape 1\n", "grape 1\n"]


def test_the_traceback_of_a_load_that_failed_is_shown_by_its_function(cli: Cli) -> None:
    (cli.folder / "broken.py").write_text(BROKEN)
    deployed = Cli(cli.folder, cli.data, {"DEPLOYING": "1"})("deploy", "broken.py", "--no-wait")
    assert deployed.returncode == 0, deployed.stderr

    called = cli("call", "broken/never")
    found = cli("logs", "broken")

    assert called.returncode != 0
    assert "loading broken" in found.stdout.splitlines()
    assert "RuntimeError: no model here" in found.stderr
