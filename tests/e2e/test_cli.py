"""The commands against a real server with a real agent, and the API as `curl` would use it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import Cli, beside_a_server, in_new_folders, read_line


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """The command line beside a server that has the app deployed."""
    with beside_a_server(tmp_path_factory.mktemp("cli")) as cli:
        yield cli


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Cli]:
    """The command line where no server is up."""
    with in_new_folders(tmp_path) as cli:
        yield cli


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("square", "--x", "7"), "squaring 7\n49\n"),
        (("Reader.read", "--text", "ab"), "ababab\n"),
        (("model",), "{1, 2}\n"),
    ],
)
def test_run_prints_what_one_function_of_a_file_returns(cli: Cli, words: tuple[str, ...], said: str) -> None:
    found = cli("run", f"shop.py::{words[0]}", *words[1:])

    assert (found.returncode, found.stdout) == (0, said), found.stderr


def test_run_needs_no_server(alone: Cli) -> None:
    found = alone("run", "shop.py::square", "--x", "7")

    assert (found.returncode, found.stdout) == (0, "squaring 7\n49\n"), found.stderr


LEAVING = """
import atexit
import relight

app = relight.App("leaving")
atexit.register(lambda: relight.is_remote() and print("at the exit of Python"))

@app.cls()
class Shelf:
    @relight.exit()
    def close(self):
        for number in range(5000):
            print("closing", number)

    @relight.method()
    def take(self) -> str:
        return "taken"

@app.local_entrypoint()
def main():
    print(Shelf().take.remote())
"""


@pytest.mark.slow
@pytest.mark.parametrize("beside", ["a server", "none"])
def test_run_shows_what_workers_write_as_they_leave(cli: Cli, alone: Cli, beside: str) -> None:
    here = cli if beside == "a server" else alone
    (here.folder / "leaving.py").write_text(LEAVING, encoding="utf-8")

    found = here("run", "leaving.py")

    said = ["taken", *(f"closing {number}" for number in range(5000)), "at the exit of Python"]
    assert (found.returncode, found.stdout.splitlines()) == (0, said), found.stderr


def libraries(alone: Cli) -> tuple[list[str], list[str]]:
    """What is prepared for workers in the folder that runs share, and in those of their own."""
    shared = [path.name for path in (alone.data / "library").iterdir()]
    return shared, [path.parent.parent.parent.name for path in (alone.data / "runs").glob("*/agent/library/*")]


@pytest.mark.slow
def test_what_is_prepared_for_workers_is_there_for_the_next_run(alone: Cli) -> None:
    first = alone("run", "shop.py::square", "--x", "2")
    (made,) = libraries(alone)[0]
    when = (alone.data / "library" / made).stat().st_ctime_ns
    second = alone("run", "shop.py::square", "--x", "3")

    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    assert libraries(alone) == ([made], [])
    assert (alone.data / "library" / made).stat().st_ctime_ns == when


@pytest.mark.slow
def test_a_folder_that_others_may_write_is_not_shared(alone: Cli) -> None:
    (alone.data / "library").mkdir(mode=0o777, parents=True)
    (alone.data / "library").chmod(0o777)

    found = alone("run", "shop.py::square", "--x", "2")

    assert (found.returncode, found.stdout) == (0, "squaring 2\n4\n"), found.stderr
    shared, own = libraries(alone)
    assert (shared, len(own)) == ([], 1)


def test_run_local_needs_neither_server_nor_workers(alone: Cli) -> None:
    found = alone("run", "--local", "shop.py::square", "--x", "7")
    script = alone("run", "--local", "script.py", "you")
    items = alone("run", "--local", "shop.py::count", "--to", "2")
    method = alone("run", "--local", "shop.py::Reader.read", "--text", "ab")

    assert (found.returncode, found.stdout) == (0, "squaring 7\n49\n"), found.stderr
    assert (script.returncode, script.stdout) == (0, "hello you\n"), script.stderr
    assert items.stdout == "counting 0\n{'number': 0}\ncounting 1\n{'number': 1}\n"
    assert method.stdout == "ababab\n"
    assert not (alone.data / "runs").exists()


def test_run_local_shows_the_functions_own_frames(alone: Cli) -> None:
    found = alone("run", "--local", "shop.py::fail", "--x", "3")

    assert found.returncode == 1
    assert found.stderr.endswith("ValueError: bad 3\n")
    assert "in deeper" in found.stderr
    assert "/src/relight/" not in found.stderr


def test_a_breakpoint_in_a_function_stops_here(alone: Cli) -> None:
    (alone.folder / "buggy.py").write_text(
        (alone.folder / "shop.py").read_text().replace('print("squaring", x)', "breakpoint()")
    )
    command = [sys.executable, "-m", "relight", "run", "--local", "buggy.py::square", "--x", "7"]

    found = subprocess.run(
        command,
        cwd=alone.folder,
        env=alone.environ,
        input="p x + 1000\nc\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert found.returncode == 0, found.stderr
    assert "(Pdb) 1007" in found.stdout
    assert found.stdout.endswith("49\n")


def test_run_of_a_script_is_as_python_would_run_it(cli: Cli) -> None:
    found = cli("run", "script.py", "you")

    assert (found.returncode, found.stdout) == (0, "hello you\n"), found.stderr


def test_one_function_of_a_script_runs_without_the_script(cli: Cli) -> None:
    found = cli("run", "script.py::greet", "--name", "you")

    assert (found.returncode, found.stdout) == (0, "hello you\n"), found.stderr


def test_run_shows_the_users_traceback_and_nothing_of_ours(cli: Cli) -> None:
    found = cli("run", "shop.py::fail", "--x", "3")

    assert found.returncode == 1
    assert found.stderr.startswith("Traceback (most recent call last):\n")
    assert found.stderr.endswith("ValueError: bad 3\n")
    assert "in deeper" in found.stderr
    assert "/src/relight/" not in found.stderr


@pytest.mark.slow
def test_ctrl_c_cancels_what_run_started(cli: Cli) -> None:
    with cli.begin("run", "shop.py::sleep") as process:
        assert read_line(process) == "sleeping\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)

    assert (process.returncode, errors.splitlines()[-1]) == (130, "relight: interrupted")
    newest = cli.json("calls", "list", "--function", "sleep", "--limit", "1")["calls"][0]
    assert newest["state"] in ("cancelled", "running")  # told to stop: its function is being interrupted
    assert cli.json("calls", "show", newest["id"])["call"]["environment"].startswith("run-")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("shop/square", "--x", "7"), "49\n"),
        (("shop/square", "--json", "[8]"), "64\n"),
        (("shop/square", "--json", '{"x": 9, "loudly": true}'), "81\n"),
        (("shop/Reader.read", "--text", "ab"), "ababab\n"),
        (("shop/model",), "{1, 2}\n"),
    ],
)
def test_call_prints_what_a_deployed_function_returns(cli: Cli, words: tuple[str, ...], said: str) -> None:
    found = cli("call", *words)

    assert (found.returncode, found.stdout) == (0, said), found.stderr


def test_call_shows_the_options_that_were_deployed(cli: Cli) -> None:
    found = cli("call", "shop/square", "--help")

    assert "--x INTEGER" in found.stdout
    assert "--loudly / --no-loudly" in found.stdout


def test_a_call_that_fails_is_exit_code_1_with_the_users_traceback(cli: Cli) -> None:
    found = cli("call", "shop/fail")

    assert (found.returncode, found.stderr.splitlines()[-1]) == (1, "ValueError: bad 1")


def test_an_unknown_function_is_told_with_those_there_are(cli: Cli) -> None:
    found = cli("call", "shop/sqare", "--x", "1")

    assert found.returncode == 3
    assert "did you mean 'square'?" in found.stderr


def test_a_call_is_submitted_shown_and_its_lines_read(cli: Cli) -> None:
    call = cli("call", "shop/square", "--x", "5", "--no-wait").stdout.strip()
    finished = cli("call", "shop/square", "--x", "6")  # one worker takes them in order, so the first has ended by now
    assert finished.returncode == 0

    shown = cli.json("calls", "show", call)
    told = cli("calls", "show", call).stdout
    lines = cli("logs", "--call", call).stdout

    assert (shown["call"]["state"], shown["call"]["result"], len(shown["attempts"])) == ("succeeded", 25, 1)
    assert [one["state"] for one in shown["worker_intervals"]][:3] == ["requested", "placing", "starting"]
    assert re.search(r"^result +25$", told, re.MULTILINE)
    assert lines == "squaring 5\n"


def test_a_call_is_cancelled_by_its_id(cli: Cli) -> None:
    call = cli("call", "shop/sleep", "--no-wait").stdout.strip()

    found = cli("calls", "cancel", call)
    ended = cli("run", "script.py::greet", "--name", "x")

    assert found.returncode == ended.returncode == 0
    assert found.stdout.startswith(call)


def test_logs_are_followed(cli: Cli) -> None:
    with cli.begin("logs", "--follow", "--function", "square", "--search", "1234") as follower:
        assert cli("call", "shop/square", "--x", "1234").returncode == 0
        line = read_line(follower)
        follower.send_signal(signal.SIGINT)
        follower.communicate(timeout=30)

    assert line == "squaring 1234\n"


def test_workers_and_apps_are_listed(cli: Cli) -> None:
    assert cli("call", "shop/square", "--x", "1").returncode == 0

    workers = cli.json("ps")["workers"]
    apps = cli.json("apps")["apps"]

    assert "square" in {worker["function"] for worker in workers}
    assert "shop/square" in cli("ps").stdout
    assert {"app": "shop", "environment": "main"}.items() <= next(one for one in apps if one["app"] == "shop").items()


@pytest.mark.slow
def test_a_finished_embedded_run_can_be_looked_into(alone: Cli) -> None:
    assert alone("run", "shop.py::square", "--x", "7").returncode == 0
    (run,) = os.listdir(alone.data / "runs")

    calls = alone.json("calls", "list", "--run", run)["calls"]
    lines = alone("logs", "--run", run)

    assert [(call["function"], call["state"]) for call in calls] == [("square", "succeeded")]
    assert lines.stdout == "squaring 7\n"


def test_an_app_is_stopped(cli: Cli) -> None:
    assert cli("deploy", "shop.py", "--environment", "staging").returncode == 0

    stopped = cli("stop", "shop", "--environment", "staging")
    again = cli("stop", "shop", "--environment", "staging")

    assert (stopped.returncode, stopped.stdout) == (0, "stopped shop in staging; 0 calls cancelled\n")
    assert again.returncode == 3


def test_over_tcp_the_token_opens_the_api_and_without_it_nothing_does(cli: Cli) -> None:
    token = cli.json("token")
    host = token["url"].removeprefix("http://")
    path = "/v1/apps/shop/functions/square/call"

    refused = _post(host, path, '{"x": 7}', {})
    answered = _post(host, path, '{"x": 7}', {"Authorization": f"Bearer {token['token']}"})

    assert (refused[0], refused[1]["code"]) == (401, "unauthenticated")
    assert (answered[0], answered[1]["state"], answered[1]["result"]) == (200, "succeeded", 49)


def test_a_python_value_over_json_is_406_and_a_failure_is_a_problem(cli: Cli) -> None:
    token = cli.json("token")
    host, headers = token["url"].removeprefix("http://"), {"Authorization": f"Bearer {token['token']}"}

    value = _post(host, "/v1/apps/shop/functions/model/call", "{}", headers)
    failure = _post(host, "/v1/apps/shop/functions/fail/call", "[4]", headers)

    assert (value[0], value[1]["code"], value[1]["preview"]) == (406, "value_is_python", "{1, 2}")
    assert (failure[0], failure[1]["code"], failure[1]["exception"]) == (500, "function_failed", "ValueError")


def test_another_client_uses_the_url_and_the_token(cli: Cli) -> None:
    token = cli.json("token")
    environ = {**os.environ, "RELIGHT_URL": token["url"], "RELIGHT_TOKEN": token["token"]}
    command = [sys.executable, "-m", "relight", "call", "shop/square", "--x", "3"]

    found = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    refused = subprocess.run(
        command, env={**environ, "RELIGHT_TOKEN": "x"}, capture_output=True, text=True, timeout=60, check=False
    )

    assert (found.returncode, found.stdout) == (0, "9\n"), found.stderr
    assert refused.returncode == 3
    assert "the token is missing or not one of this server's" in refused.stderr


def _post(host: str, path: str, body: str, headers: dict[str, str]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
