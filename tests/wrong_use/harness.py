"""One wrong use, from the user's side: what is written, what is run, and what it says, made the same on every machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import relight

OWN = str(Path(relight.__file__).parent)

HEAD = """\
import relight

app = relight.App("wrong")

"""
SECONDS = 90


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request as any HTTP client may send it."""

    method: str = "POST"
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A wrong use.  `{url}`, `{token}`, `{data}` and the like in words and variables are those of the `Place`.

    `is_users`: what is told is the user's own exception, in its own words.
    """

    script: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ("python", "script.py")
    environ: Mapping[str, str] = field(default_factory=dict)
    stdin: str | None = None
    ask: Ask | None = None
    python: str = sys.executable
    is_users: bool = False


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a case is tried: a folder of its own, and the words that stand for what is there."""

    folder: Path
    words: Mapping[str, str]

    def fill(self, text: str) -> str:
        """The text with the words in the place of their names."""
        for name, word in self.words.items():
            text = text.replace("{" + name + "}", word)
        return text


def app(body: str) -> str:
    """A script with an app, and below it `body`."""
    return HEAD + dedent(body).lstrip("\n")


def told(case: Case, place: Place) -> str:
    """What the case says, as its golden file has it."""
    return _asked(case.ask, place) if case.ask is not None else _run(case, place)


def _run(case: Case, place: Place) -> str:
    files = {**case.files, **({"script.py": case.script} if case.script else {})}
    for name, text in files.items():
        (place.folder / name).write_text(dedent(text))
    words = [place.fill(word) for word in case.command]
    start = {"python": [case.python], "relight": [case.python, "-m", "relight"]}.get(words[0], [words[0]])
    done = subprocess.run(
        [*start, *words[1:]],
        cwd=place.folder,
        env=_environ(case, place),
        input=case.stdin or "",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    parts = [f"$ {' '.join(case.command)}", f"exit code {done.returncode}"]
    parts += [
        f"--- {name}\n{text.rstrip()}" for name, text in (("stdout", done.stdout), ("stderr", done.stderr)) if text
    ]
    return same_everywhere("\n".join(parts) + "\n", place)


def _environ(case: Case, place: Place) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RELIGHT_", "PYTHON"))}
    given = {name: place.fill(value) for name, value in case.environ.items()}
    return {
        **kept,
        "RELIGHT_DATA_DIR": place.words["data"],
        "COLUMNS": "200",
        "PYTHONPATH": str(Path(OWN).parent),
        **given,
    }


def _asked(ask: Ask, place: Place) -> str:
    headers = {"Authorization": "Bearer {token}", "Content-Type": "application/json", **ask.headers}
    filled = {name: place.fill(value) for name, value in headers.items() if value}
    request = urllib.request.Request(place.words["url"] + ask.path, ask.body, filled, method=ask.method)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read()
    return same_everywhere(f"{ask.method} {ask.path}\nHTTP {status}\n{body.decode().rstrip()}\n", place)


# -- the same on every machine

_SOMETIMES = r"\s+[\^~]+\s*$|relight: \S+ is waiting: (?!no_capacity)"
"""Marks below code, which not every Python makes, and how far a worker had come when something was late."""

_FRAME_OF_PYTHON = r'  File "[^"]*/lib/python3\.\d+/(?!site-packages)[^"]*", line \d+, in .*\n(    .*\n)*'
"""What asyncio and threading do on the way, which each Python does in its own way."""

_SAME = (
    (r"\b(call|run|version|worker|node|group|token)-[0-9a-z]{16,40}\b", r"\1-ID"),
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r"0x[0-9a-f]{6,}", "0xADDRESS"),
    (r"\b(pid|process) \d+", r"\1 PID"),
    (r"\b\d+(\.\d+)? ms\b", "N ms"),
    (r"(?<=:)\d{4,5}\b(?=[\s/;:'\"]|$)", "PORT"),
    (r"\b20\d\d-\d\d-\d\d[T ][\d:.]+(Z|[+-]\d\d:\d\d)?", "TIME"),
    (r"\bhas \d+ (MiB|bytes or more)", r"has N \1"),
    (r"Python/?3\.\d+(\.\d+)?", "Python VERSION"),
)


def same_everywhere(text: str, place: Place) -> str:
    """Without what differs from one machine, one Python and one run to the next."""
    text = re.sub(_FRAME_OF_PYTHON, "", text).replace(sys.executable, "PYTHON")
    for name in ("folder", "data", "token"):
        if place.words.get(name):
            text = text.replace(place.words[name], name.upper())
    for pattern, word in _SAME:
        text = re.sub(pattern, word, text)
    lines = [line.rstrip() for line in text.splitlines() if not re.match(_SOMETIMES, line)]
    return "\n".join(line for at, line in enumerate(lines) if at == 0 or line != lines[at - 1]) + "\n"
