"""Typed inputs on a real server: over HTTP, from Python, and on the command line."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import relight
from e2e.app_inputs import Drawn, Size, Style, app, draw, invert, slug
from servers import Server

FILE = Path(__file__).parent / "app_inputs.py"


@pytest.fixture(autouse=True, scope="module")
def _deployed(server: Server) -> Iterator[None]:
    app.deploy()
    yield
    assert app._session is not None
    app._session.connection.close()


def post(server: Server, function: str, body: object, query: str = "") -> Any:
    """What the API answers to a call."""
    request = urllib.request.Request(
        f"{server.url}/v1/apps/studio/functions/{function}/call{query}",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)


def cli(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """A command, as this server's user gives it."""
    return subprocess.run(
        [sys.executable, "-m", "relight", *words],
        capture_output=True,
        text=True,
        timeout=90,
        env={"RELIGHT_DATA_DIR": str(server.folder), "PATH": "/usr/bin:/bin", "HOME": str(server.folder)},
    )


def test_json_becomes_what_the_annotations_say_and_the_result_json_again(server: Server) -> None:
    said = {"prompt": "a cat", "style": "oil", "size": {"width": 3}, "at": "2026-01-31"}

    answer = post(server, "draw", said)

    assert answer["result"] == {
        "title": "a cat in oil, 20 steps",
        "size": {"width": 3, "height": 1},
        "at": "2026-01-31",
    }


def test_what_does_not_fit_is_refused_without_a_call(server: Server) -> None:
    before = len(server.get("/v1/calls?app=studio")["calls"])

    answer = post(server, "draw", {"promt": "a cat", "steps": 0, "size": {"width": "wide"}})

    assert (answer["status"], answer["code"]) == (422, "invalid_input")
    assert {fault["pointer"]: fault["detail"] for fault in answer["errors"]} == {
        "": "'prompt' is missing",
        "/promt": "there is no 'promt'; did you mean 'prompt'?",
        "/steps": "0 is less than 1",
        "/size/width": "'wide' is not an integer",
    }
    assert len(server.get("/v1/calls?app=studio")["calls"]) == before


def test_a_pattern_that_may_take_long_is_tried_in_the_worker(server: Server) -> None:
    answer = post(server, "slug", {"name": "No slug"})

    assert (answer["status"], answer["code"]) == (422, "invalid_input")
    assert "does not match" in answer["detail"]
    assert post(server, "slug", ["a-slug"])["result"] == "a-slug"


def test_a_file_travels_in_json_and_comes_back(server: Server) -> None:
    answer = post(server, "invert", {"image": "data:image/png;name=a.png;base64,Z25w", "note": {"url": "data:,!"}})

    assert answer["result"] == {"url": "data:image/png;base64,cG5nIQ==", "name": "inverted-a.png"}


def test_a_file_on_the_web_needs_a_network(server: Server) -> None:
    answer = post(server, "invert", {"image": "https://example.com/a.png"})

    assert answer["code"] == "invalid_input"
    assert "the function has network='none'" in answer["detail"]


def test_from_python_values_travel_as_they_are_and_demands_are_looked_at(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"gnp")

    drawn = draw.remote("a cat", 5, Style.OIL, Size(2), datetime.date(2026, 1, 31))
    inverted = invert.remote(relight.File(picture))

    assert drawn == Drawn("a cat in oil, 5 steps", Size(2), datetime.date(2026, 1, 31))
    assert (inverted.read(), inverted.name, inverted.media_type) == (b"png", "inverted-a.png", "image/png")
    with pytest.raises(relight.InvalidInput, match=r"cannot call draw: steps: 101 is more than 100"):
        draw.remote("a cat", steps=101)
    with pytest.raises(relight.InvalidInput, match="'No' does not match"):
        slug.spawn("No")


def test_a_large_file_travels_from_python() -> None:
    data = bytes(range(256)) * 8192

    assert invert.remote(relight.File.from_bytes(data, name="big")).read() == data[::-1]


def test_commands_send_files_and_refuse_what_does_not_fit(server: Server, tmp_path: Path) -> None:
    picture, note = tmp_path / "a.png", tmp_path / "note.txt"
    picture.write_bytes(b"gnp")
    note.write_text("!")

    called = cli(server, "call", "studio/invert", "--image", str(picture), "--note", str(note))
    ran = cli(server, "run", f"{FILE}::invert", "--image", str(picture), "--note", str(note))
    refused = cli(server, "call", "studio/draw", "--prompt", "a cat", "--steps", "101")
    wrong = cli(server, "run", f"{FILE}::draw", "--prompt", "a cat", "--at", "noon")

    assert json.loads(called.stdout) == {"url": "data:image/png;base64,cG5nIQ==", "name": "inverted-a.png"}, (
        called.stderr
    )
    assert ran.stdout == "<relight file inverted-a.png: 4 bytes, image/png>\n", ran.stderr
    assert (refused.returncode, wrong.returncode) == (2, 2)
    assert "101 is not in the range 1<=x<=100" in refused.stderr
    assert "--at: 'noon' is not a date" in wrong.stderr


@pytest.mark.slow
def test_the_schema_of_a_file_and_of_what_is_deployed_are_the_same(server: Server) -> None:
    here, there = cli(server, "schema", f"{FILE}::draw"), cli(server, "schema", "studio/draw")

    assert json.loads(here.stdout) == json.loads(there.stdout), here.stderr + there.stderr
    assert json.loads(there.stdout)["input"]["properties"]["steps"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "description": "More is slower",
        "default": 20,
    }
    assert cli(server, "schema", "studio/drow").returncode == 3


def test_an_app_is_described_as_openapi(server: Server) -> None:
    paths = server.get("/v1/apps/studio/openapi.json")["paths"]

    assert [path.split("/")[-2] for path in paths] == ["draw", "invert", "slug", "sizes"]


def test_the_items_of_a_generator_are_json(server: Server) -> None:
    found = cli(server, "call", "studio/sizes", "--count", "2")

    assert [json.loads(line)["width"] for line in found.stdout.splitlines()] == [1, 2], found.stderr
