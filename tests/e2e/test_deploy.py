"""What a deploy says of its templates, from a real agent: that they are ready, or why there is none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from command_line import Cli, beside_a_server

MODULE = """
import threading, relight

app = relight.App({name!r})
{code}

@app.function()
def f() -> int:
    return 1

@app.function(template=False)
def alone() -> int:
    return 2
"""
THREAD = "threading.Thread(target=threading.Event().wait, name='ticker', daemon=True).start()"
pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with beside_a_server(tmp_path_factory.mktemp("deploy")) as cli:
        yield cli


def write(cli: Cli, name: str, code: str) -> str:
    (cli.folder / f"{name}.py").write_text(MODULE.format(name=name, code=code))
    return f"{name}.py"


def test_a_deploy_tells_how_soon_and_how_large_its_template_is(cli: Cli) -> None:
    said = cli("deploy", write(cli, "good", ""))

    assert (said.returncode, said.stderr) == (0, "")
    assert re.search(r"^  f      template ready in \d+\.\d s \([1-9]\d* MiB\)$", said.stdout, re.MULTILINE), said.stdout
    assert "  alone  no template: asked: the function has template=False\n" in said.stdout


@pytest.mark.slow
def test_a_deploy_says_why_its_template_cannot_be_forked(cli: Cli) -> None:
    file = write(cli, "threaded", THREAD)

    (app,) = cli.json("deploy", file)["apps"]

    (mine, other) = app["templates"]
    assert (mine["function"], mine["state"], mine["node"] != "") == ("f", "none", True)
    assert re.match(r"unsafe: .*ticker", mine["why"]), mine
    assert other["why"].startswith("asked: ")
    assert re.search(r"^  f      no template: unsafe: .*ticker", cli("deploy", file).stdout, re.MULTILINE)


def test_a_deploy_of_a_module_that_cannot_be_imported_changes_nothing(cli: Cli) -> None:
    write(cli, "failing", "")
    (app,) = cli.json("deploy", "failing.py")["apps"]

    said = cli("deploy", write(cli, "failing", "relight.is_remote() and 1 / 0"))

    assert (said.returncode, said.stdout) == (3, "")
    why = (
        "cannot deploy 'failing': workers of f do not start: cannot load failing.f: ZeroDivisionError: division by zero"
    )
    assert why in said.stderr
    assert json.loads(cli("call", "failing/f").stdout) == 1
    assert [(one["id"], one["percent"]) for one in cli.json("versions", "failing")["versions"]] == [
        (app["version"], 100)
    ]


def test_one_that_is_not_waited_for_is_led_to_whether_it_loads_or_not(cli: Cli) -> None:
    said = cli("deploy", write(cli, "hopeless", "relight.is_remote() and 1 / 0"), "--no-wait")

    assert (said.returncode, said.stderr) == (0, "")
    assert "deployed hopeless to main" in said.stdout


def test_a_deploy_that_does_not_wait_says_nothing_of_templates(cli: Cli) -> None:
    (app,) = cli.json("deploy", write(cli, "hasty", "relight.is_remote() and threading.Event().wait()"), "--no-wait")[
        "apps"
    ]

    assert app["templates"] == []
