"""The command line as a whole: its commands, its exit codes, its speed to start, and its docs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import click
import pytest

from relight.cli import tables
from relight.cli.main import COMMANDS, cli
from relight.cli.run import show_result

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
        "print([name for name in ('uvicorn', 'relight.server', 'rich', 'asyncio', 'msgspec') if name in sys.modules])"
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


def test_a_setting_out_of_range_stops_the_server_before_it_starts(tmp_path: Path) -> None:
    found = relight(tmp_path, "up", "--port", "70000")

    assert found.returncode == 3
    assert "cannot set port=70000 from the command: it must be 0 to 65535" in found.stderr


def test_what_the_machine_refuses_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    found = relight(tmp_path, "up", "--data-dir", str(tmp_path / "file" / "below"))

    assert found.returncode == 3
    assert found.stderr.startswith("relight: cannot go on: [Errno 20] Not a directory")
    assert len(found.stderr.splitlines()) == 1


def test_a_second_ctrl_c_does_not_wait_for_what_the_first_began() -> None:
    code = """
        import signal
        from relight.cli.run import leave_at_second_interrupt

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
    told = relight(tmp_path, "doctor")
    facts = json.loads(relight(tmp_path, "doctor", "--json").stdout)

    names = {fact["name"]: fact for fact in facts}
    assert {"isolation", "users", "limit.memory", "python", "data folder", "server"} <= set(names)
    assert names["server"]["holds"] is False
    assert "→ `relight run` needs none: it starts its own" in told.stdout
    assert told.returncode == (0 if names["isolation"]["holds"] else 3)


@pytest.mark.parametrize(("result", "said"), [(None, ""), ("text", "text\n"), (49, "49\n"), ({"a": 1}, "{'a': 1}\n")])
def test_a_result_is_printed_as_people_read_it(result: object, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_result(result)

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
