"""The page for those who come from Modal: its programs run as they stand there, and only their imports are changed."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

import relight
from relight.sdk import verbs
from relight.sdk.elsewhere import (
    ABSENT_ERRORS,
    ABSENT_IMAGES,
    ABSENT_NAMES,
    ABSENT_OPTIONS,
    ABSENT_WORDS,
    OPTIONS,
    SO_ANYWAY,
    AppWords,
    CallWords,
    DeployWords,
    FindWords,
    MapWords,
    RunWords,
)
from relight.sdk.options import NAMES
from servers import Server

PAGE = (Path(__file__).parent.parent.parent / "docs" / "migrating-from-modal.md").read_text(encoding="utf-8")
SECTION = re.compile(
    r"^## \d+\. (?P<title>.+?)\n\n```diff\n(?P<imports>.*?)^```\n\n```python\n(?P<body>.*?)^```\n\n"
    r"```console\n\$ (?P<command>.*?)\n(?P<output>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SED = re.search(r"sed -i -E '([^']+)' \*\.py", PAGE)


@dataclass(frozen=True)
class Program:
    """One section: what its imports are before and after, its body, how it is started and what it prints."""

    title: str
    before: str
    after: str
    body: str
    command: str
    output: str


def _programs() -> Iterator[Program]:
    for found in SECTION.finditer(PAGE):
        lines = found["imports"].splitlines()
        before, after = ("".join(f"{line[1:]}\n" for line in lines if line[0] == sign) for sign in "-+")
        yield Program(found["title"], before, after, found["body"], found["command"], found["output"])


PROGRAMS = list(_programs())
EACH = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.title)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("port") / "data", "--declare-gpu", "A100:1")
    started.start()
    yield started
    started.stop()


def environment(data: Path) -> dict[str, str]:
    """No variable of ours leads elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELIGHT_")}
    return {**kept, "RELIGHT_DATA_DIR": str(data)}


def outcome(command: str, folder: Path, data: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the page, with this Python."""
    program, *words = command.split()
    start = [sys.executable, "-m", "relight"] if program == "relight" else [sys.executable]
    return subprocess.run(
        [*start, *words], cwd=folder, env=environment(data), capture_output=True, text=True, timeout=110, check=False
    )


def test_the_page_has_more_than_ten_programs_and_none_is_overlooked() -> None:
    assert len(PROGRAMS) == len(re.findall(r"^## \d+\. ", PAGE, re.MULTILINE)) >= 14


@pytest.mark.slow
@EACH
def test_a_program_prints_what_the_page_says(program: Program, server: Server, tmp_path: Path) -> None:
    (file,) = re.findall(r"\w+\.py", program.command)
    (tmp_path / file).write_text(program.after + "\n" + program.body, encoding="utf-8")

    done = outcome(program.command, tmp_path, server.folder)

    assert (done.stdout, done.returncode) == (program.output, 0), done.stderr


@EACH
def test_only_imports_are_changed_and_by_the_command_of_the_page(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(program.before + "\n" + program.body, encoding="utf-8")
    assert SED is not None

    subprocess.run(["sed", "-i", "-E", SED[1], str(file)], check=True)

    assert file.read_text(encoding="utf-8") == program.after + "\n" + program.body
    assert all(isinstance(line, ast.Import | ast.ImportFrom) for line in ast.parse(program.before).body)
    assert "relight" not in program.before + program.body


def test_a_program_that_names_an_image_changes_by_one_line(server: Server, tmp_path: Path) -> None:
    before, after = re.findall(r"^  [-+](image = .*)$", PAGE, re.MULTILINE)
    rest = """
app = modal.App("images", image=image)

with image.imports():
    import json, that_only_workers_have_not

@app.function()
def here() -> str:
    return "never"

@app.local_entrypoint()
def main():
    print("loaded")
"""
    for name, line in (("before", before), ("after", after)):
        (tmp_path / f"{name}.py").write_text(f"import relight as modal\n{line}\n{rest}", encoding="utf-8")

    refused, loaded = (outcome(f"relight run {name}.py", tmp_path, server.folder) for name in ("before", "after"))

    assert "cannot build an image yet: relight.Image has no debian_slim; use relight.Image.host()" in refused.stderr
    assert (refused.returncode, loaded.returncode, loaded.stdout) != (0, 0, "loaded\n")
    assert (loaded.returncode, loaded.stdout) == (0, "loaded\n"), loaded.stderr


def test_what_is_not_there_says_what_the_page_says() -> None:
    shown = re.findall(r"^modal\.(\w+)\n#> (.*)$", PAGE, re.MULTILINE)

    assert shown
    for name, said in shown:
        with pytest.raises(relight.InvalidRequest) as refused:
            getattr(relight, name)
        assert str(refused.value) == said


def test_the_page_lists_all_that_is_not_there_and_nothing_that_is() -> None:
    listed = PAGE.partition("## What is not there yet")[2]
    names = {name for row in re.findall(r"^\| (`.*?) \|", listed, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    options = set(re.findall(r"`(\w+)`", listed.partition("So do the options")[2]))

    assert names == set(ABSENT_NAMES)
    assert options == {*ABSENT_OPTIONS, *ABSENT_WORDS, *SO_ANYWAY}
    assert not names & set(relight.__all__)


def test_every_name_of_modal_is_here_or_says_that_it_is_not() -> None:
    modal = pytest.importorskip("modal", reason="modal is not installed: its names cannot be compared")
    here = {*relight.__all__, *ABSENT_NAMES}

    assert set(modal.__all__) - here == set()
    options = {name for name in signature(modal.App.function).parameters if name != "self" and name[0] != "_"}
    assert options - {*NAMES, *OPTIONS, *ABSENT_OPTIONS, *SO_ANYWAY} == set()
    mine = {name for name in dir(modal.Image) if not name.startswith("_")}
    assert mine >= ABSENT_IMAGES
    errors = {name for name in dir(modal.exception) if name in (*relight.exception.__all__, *ABSENT_ERRORS)}
    assert errors == {*relight.exception.__all__, *ABSENT_ERRORS}


def test_every_argument_of_modal_is_taken_here() -> None:
    modal = pytest.importorskip("modal", reason="modal is not installed: its arguments cannot be compared")
    pairs: list[tuple[Callable[..., Any], Callable[..., Any], type | None]] = [
        (relight.App, modal.App, AppWords),
        (relight.App.run, modal.App.run, RunWords),
        (relight.App.deploy, modal.App.deploy, DeployWords),
        (relight.App.local_entrypoint, modal.App.local_entrypoint, None),
        (relight.Function.from_name, modal.Function.from_name, FindWords),
        (relight.Cls.from_name, modal.Cls.from_name, FindWords),
        (relight.method, modal.method, None),
        (relight.parameter, modal.parameter, None),
        (verbs.Map.__call__, modal.Function.map, MapWords),
        (verbs.Starmap.__call__, modal.Function.starmap, MapWords),
        (verbs.ForEach.__call__, modal.Function.for_each, None),
        (verbs.SpawnMap.__call__, modal.Function.spawn_map, None),
    ]

    for ours, theirs, words in pairs:
        here = {*signature(ours).parameters, *(words.__annotations__ if words else ())}
        asked = {one.name for one in signature(theirs).parameters.values() if one.kind is one.KEYWORD_ONLY}
        assert asked - here == set(), theirs
    for theirs in (modal.FunctionCall.get, modal.FunctionCall.cancel, modal.FunctionCall.from_id):
        given = {"self", "cls", "timeout", "function_call_id", *CallWords.__annotations__}
        assert set(signature(theirs).parameters) - given == set(), theirs


def test_each_program_is_one_for_modal_too(tmp_path: Path) -> None:
    modal = pytest.importorskip("modal", reason="modal is not installed: the programs cannot be loaded with it")

    for number, program in enumerate(PROGRAMS):
        (tmp_path / f"program_{number}.py").write_text(program.before + "\n" + program.body, encoding="utf-8")
        loaded = runpy.run_path(str(tmp_path / f"program_{number}.py"), run_name=f"program_{number}")
        assert isinstance(loaded["app"], modal.App)
        for name in re.findall(r"\bmodal\.(\w+(?:\.\w+)?)", program.body):
            reduce(getattr, name.split("."), modal)
