"""The examples run as their docstrings say, on a server of their own, and print what is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder with a short name: the sockets in it may not have a long one."""
    with tempfile.TemporaryDirectory(prefix="relight-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def run(data_dir: Path, *arguments: str) -> str:
    """What `relight run …` prints."""
    unset = ("RELIGHT_URL", "RELIGHT_TOKEN")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-m", "relight", "run", *arguments],
        env={**environment, "RELIGHT_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def costs_of_the_run(data_dir: Path) -> Any:
    """What `relight cost` says of the only run in a data folder, call by call, beside every card."""
    (name,) = [folder.name for folder in (data_dir / "runs").iterdir() if folder.name.startswith("run-")]
    done = subprocess.run(
        [sys.executable, "-m", "relight", "cost", "--run", name, "--by", "call", "--against", "all", "--json"],
        env={**os.environ, "RELIGHT_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_hello_runs_its_entrypoint(data_dir: Path) -> None:
    lines = run(data_dir, str(EXAMPLES / "hello.py"), "--n", "5").splitlines()

    assert [line.split(":", 1)[1].strip() for line in lines] == ["49", "49", "[0, 1, 4, 9, 16]", "144"]


@pytest.mark.slow
def test_hello_runs_one_function_with_its_parameter_as_an_option(data_dir: Path) -> None:
    assert run(data_dir, f"{EXAMPLES / 'hello.py'}::square", "--x", "7").strip() == "49"


@pytest.mark.slow
def test_weights_are_nobodys_own(data_dir: Path) -> None:
    pytest.importorskip("numpy", reason="needs numpy: pip install '.[dev]'")

    lines = run(data_dir, str(EXAMPLES / "weights.py"), "--gb", "0.1", "--calls", "3").splitlines()

    assert [line.split(" answer")[0] for line in lines[:2]] == ["first", "second"]
    assert lines[2:]
    assert all(line.endswith(": uses 101 MB of weights, 0 bytes of them its own") for line in lines[2:])
    assert not list(Path(sys.prefix, "share").glob("relight-weights-*"))


@pytest.mark.slow
def test_the_reader_reads_what_the_images_say(data_dir: Path) -> None:
    pytest.importorskip("rapidocr", reason="needs the examples extra: pip install '.[examples]'")
    expected: dict[str, list[str]] = json.loads((EXAMPLES / "images" / "expected.json").read_text(encoding="utf-8"))

    printed = run(data_dir, str(EXAMPLES / "ocr.py"))

    read: dict[str, list[str]] = {}
    for line in printed.splitlines():
        if line.startswith("    "):
            read[next(reversed(read))].append(line.strip())
        else:
            read[line] = []
    assert read == expected
    told = costs_of_the_run(data_dir)
    calls = [row for row in told["rows"] if row["calls"]]
    assert sum(row["nanos"] for row in told["rows"]) == told["total"]["nanos"] > 0
    assert {row["key"].split()[1].partition("/")[0] for row in calls} == {"ocr"}
    assert all(row["key"].startswith("call-") and row["nanos"] > 0 for row in calls)
    cards = {"machine", "runpod", "modal", "replicate", "baseten", "beam", "dedicated", "own-h100"}
    assert all(cards <= {one["card"] for one in row["against"]} for row in calls)
    assert all(one["nanos"] for row in calls for one in row["against"] if one["card"] in ("machine", "modal"))
    assert all(one["nanos"] is None for row in calls for one in row["against"] if one["card"] == "beam")
