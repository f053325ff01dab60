"""The command line as a whole: its commands, its exit codes, its speed to start, and its docs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import click
import pytest

from relight.cli import tables
from relight.cli.main import COMMANDS, cli
from relight.cli.results import print_returned

DOCS = Path(__file__).parents[3] / "docs" / "cli.md"


def relight(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, where no server is up."""
    command = [sys.executable, "-m", "relight", *words]
    environ = {"RELIGHT_DATA_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there_and_has_help(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)

    assert command is not None
    assert command.help


def test_help_lists_the_commands_without_importing_them(tmp_path: Path) -> None:
    code = "import sys; from relight.cli.main import cli; cli.main(['--help'], standalone_mode=False); "
    code += "print([name for name in sys.modules if name.startswith('relight.cli.') or name == 'rich'])"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert "doctor" in found.stdout
    assert found.stdout.splitlines()[-1] == "['relight.cli.main']"


def test_running_a_file_imports_nothing_of_the_server(tmp_path: Path) -> None:
    code = "import sys; import relight.cli.run; "
    code += (
        "print([name for name in ('httptools', 'relight.server', 'rich', 'asyncio', 'msgspec') if name in sys.modules])"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert found.stdout == "[]\n"


def test_an_error_is_one_line_and_exit_code_3(tmp_path: Path) -> None:
    found = relight(tmp_path, "ps")

    assert found.returncode == 3
    assert found.stdout == ""
    assert found.stderr.startswith("relight: cannot find a server: nobody listens at ")
    assert len(found.stderr.splitlines()) == 1


def test_a_command_written_wrongly_is_exit_code_2(tmp_path: Path) -> None:
    assert relight(tmp_path, "nothing").returncode == 2
    assert relight(tmp_path, "call", "no-slash").returncode == 2
    assert relight(tmp_path, "up", "--embedded").returncode == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("depoy",), "there is no command 'depoy'; did you mean 'deploy'? `relight --help`"),
        (("calls", "lst"), "there is no command 'lst'; did you mean 'list'? `relight calls --help`"),
        (("token", "zzz"), "there is no command 'zzz'; there are create, list, revoke, show; `relight token --help`"),
        (("calls", "cancel"), "name the calls to cancel, or say --all; `relight calls cancel --help`"),
        (("calls", "list", "--since", "soon"), "'soon' is no time; write 15m, 2h or 3d (ago)"),
    ],
)
def test_a_wrong_word_is_one_line_with_the_nearest_right_one(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    found = relight(tmp_path, *words)

    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("relight: cannot read the command: ")
    assert says in found.stderr
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize(("words", "code", "kind"), [(("ps",), 3, "unavailable"), (("calls", "cancel"), 2, "usage")])
def test_an_error_of_a_command_that_speaks_json_is_json(
    tmp_path: Path, words: tuple[str, ...], code: int, kind: str
) -> None:
    found = relight(tmp_path, *words, "--json")

    said = json.loads(found.stderr)
    assert (found.returncode, found.stdout) == (code, "")
    assert said["error"]["code"] == kind
    assert said["error"]["message"].startswith("cannot ")


def test_debugging_shows_where_an_error_came_from(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "relight", "ps"]
    environ = {"RELIGHT_DATA_DIR": str(tmp_path), "RELIGHT_DEBUG": "1"}

    found = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert "Traceback (most recent call last)" in found.stderr
    assert "Unavailable: cannot find a server" in found.stderr.rstrip().splitlines()[-1]


def every_command() -> list[tuple[str, click.Command]]:
    """Each command and each one below it, by the words that lead to it."""
    found = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {word}", below) for word, below in command.commands.items()]
    return found


@pytest.mark.parametrize(("name", "command"), every_command(), ids=[name for name, _ in every_command()])
def test_the_help_of_every_command_has_an_example_of_it(name: str, command: click.Command) -> None:
    examples = re.split("Examples?:", command.help or "")[1:]

    assert f"relight {name.split()[0]}" in "".join(examples)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_what_it_needs_to_complete(tmp_path: Path, shell: str) -> None:
    found = relight(tmp_path, "completion", shell)

    assert found.returncode == 0
    assert f"_RELIGHT_COMPLETE={shell}_complete" in found.stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("relight de", ["deploy"]),
        ("relight calls re", ["retry"]),
        ("relight token create --sc", ["--scope"]),
        ("relight stop s", []),
    ],
)
def test_words_are_completed_even_where_no_server_answers(tmp_path: Path, words: str, completed: list[str]) -> None:
    environ = {
        "RELIGHT_DATA_DIR": str(tmp_path),
        "_RELIGHT_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    command = [sys.executable, "-c", "from relight.cli.main import main; main()"]

    found = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert [line.partition(",")[2] for line in found.stdout.splitlines() if line] == completed


def test_an_app_is_begun_with_a_file_named_as_its_folder(tmp_path: Path) -> None:
    begun = relight(tmp_path, "init", str(tmp_path / "my shop"), "--template", "map")
    again = relight(tmp_path, "init", str(tmp_path / "my shop"))

    assert begun.returncode == 0
    assert 'relight.App("my-shop")' in (tmp_path / "my shop" / "app.py").read_text()
    assert again.returncode == 3
    assert "it is there already" in again.stderr


def test_a_setting_out_of_range_stops_the_server_before_it_starts(tmp_path: Path) -> None:
    found = relight(tmp_path, "up", "--port", "70000")

    assert found.returncode == 3
    assert "cannot set port=70000 from the command: it must be 0 to 65535" in found.stderr


def test_what_the_machine_refuses_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    found = relight(tmp_path, "up", "--data-dir", str(tmp_path / "file" / "below"))

    assert found.returncode == 3
    assert found.stderr.startswith("relight: cannot keep anything in")
    assert len(found.stderr.splitlines()) == 1


def test_a_second_ctrl_c_does_not_wait_for_what_the_first_began() -> None:
    code = """
        import signal
        from relight.cli.interrupts import leave_at_second_interrupt

        leave_at_second_interrupt()
        try:
            print("running", flush=True)
            signal.pause()
        except KeyboardInterrupt:
            print("cleaning", flush=True)
            signal.pause()
    """
    command = [sys.executable, "-c", dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for word in ("running", "cleaning"):
            assert process.stdout.readline() == f"{word}\n"
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_a_token_is_only_told_where_a_server_was_started(tmp_path: Path) -> None:
    missing = relight(tmp_path, "token")
    (tmp_path / "run").mkdir()
    (tmp_path / "token").write_text("rl_x\n")
    (tmp_path / "run" / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:8700", "pid": 1}))
    found = relight(tmp_path, "token")

    assert missing.returncode == 3
    assert found.stdout == "RELIGHT_URL=http://127.0.0.1:8700\nRELIGHT_TOKEN=rl_x\n"


def test_doctor_says_each_fact_and_what_to_do(tmp_path: Path) -> None:
    told = relight(tmp_path, "doctor", "--quick")
    answer = json.loads(relight(tmp_path, "doctor", "--quick", "--json").stdout)

    names = {check["name"]: check for check in answer["checks"]}
    assert {"isolation", "users", "limit.memory", "python", "data folder", "disk sync", "clock", "server"} <= set(names)
    assert "none is up: `relight up` starts one" in told.stdout
    assert [name for name, check in names.items() if check["verdict"] != "ok" and not check["advice"]] == []
    assert told.returncode == (0 if answer["is_fit"] else 3)
    assert answer["is_fit"] is (names["isolation"]["verdict"] == "ok")


@pytest.mark.parametrize(
    ("result", "said"),
    [(None, ""), ("text", "text\n"), (49, "49\n"), ({"a": 1}, "{'a': 1}\n"), (iter([1, "b", None]), "1\nb\n")],
)
def test_a_result_is_printed_as_people_read_it(result: object, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_returned(result)

    assert capsys.readouterr().out == said


def test_rows_are_aligned_where_nobody_draws_tables(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show_table(("A", "LONG"), [("1", "x"), ("22", "[red]y")], "nothing")

    assert capsys.readouterr().out == "A   LONG\n1   x\n22  [red]y\n"


def test_no_rows_are_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show_table(("A",), [], "no workers")

    assert capsys.readouterr() == ("", "no workers\n")


@pytest.mark.parametrize(
    ("seconds", "age"), [(-1, "0.0s"), (0.42, "0.4s"), (59, "59s"), (200, "3m"), (7300, "2h"), (200_000, "2d")]
)
def test_an_age_is_short(seconds: float, age: str) -> None:
    assert tables.show_age(seconds) == age


def test_the_docs_show_every_command_and_every_option() -> None:
    page = DOCS.read_text()

    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert f"## `relight {name}" in page, name
        below = list(command.commands.values()) if isinstance(command, click.Group) else [command]
        for option in (
            one for sub in below if sub for one in sub.params if isinstance(one, click.Option) and not one.hidden
        ):
            assert f"`{max(option.opts, key=len)}" in page, (name, option.opts)
