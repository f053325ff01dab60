"""`relight serve`: what is saved is served, under the same URL, and what does not load changes nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from servers import Server, bases_of, wait_until

APP = """
import relight
from words import WORD

app = relight.App("draft")

@app.function()
def say() -> str:
    print("said", WORD)
    return "{} " + WORD
"""


@dataclass
class Serving:
    """A command that serves a folder's `draft.py`."""

    server: Server
    folder: Path
    process: subprocess.Popen[str]

    def wait_line(self, pattern: str) -> str:
        """The next line that it writes and that has this in it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if re.search(pattern, line):
                return line
        raise AssertionError(f"it left without {pattern!r}")

    def url(self) -> str:
        """Where the function is, as the command says it."""
        found = re.search(r"http://\S+", self.wait_line(r"  say  http"))
        assert found
        return found[0]

    def ask(self, url: str) -> str:
        """What the function says."""
        request = urllib.request.Request(url, b"{}", {"Authorization": f"Bearer {self.server.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.load(answer)["result"])


@pytest.fixture
def serving(server: Server, tmp_path: Path) -> Iterator[Serving]:
    (tmp_path / "draft.py").write_text(APP.replace("{}", "first"))
    (tmp_path / "words.py").write_text("WORD = 'word'\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "relight", "serve", "draft.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "RELIGHT_DATA_DIR": str(server.folder)},
    )
    yield Serving(server, tmp_path, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


@pytest.mark.slow
def test_what_is_saved_is_served_under_the_same_url_soon(serving: Serving) -> None:
    url = serving.url()
    took = []

    for word in ("second", "third", "fourth", "fifth", "sixth"):
        began = time.perf_counter()
        (serving.folder / "draft.py").write_text(APP.replace("{}", word))
        wait_until(lambda word=word: serving.ask(url) == f"{word} word", serving.server)  # type: ignore[misc]  # its own
        took.append(time.perf_counter() - began)
        serving.wait_line("reloaded draft in")

    assert median(took) < 0.5


LARGE = """
import sys

WAS_THERE = "numpy" in sys.modules

import numpy
import relight

app = relight.App("draft")

@app.function(cpu=1)
def say() -> str:
    numpy.ones((200, 200)) @ numpy.ones((200, 200))
    return "{} " + str(WAS_THERE)
"""
APART = """
@app.function(cpu=1, env={"OF_ITS_OWN": "1"})
def apart() -> str:
    return str(WAS_THERE)
"""


@pytest.mark.slow
def test_what_an_app_imports_from_elsewhere_is_there_when_its_next_version_is_loaded(serving: Serving) -> None:
    url = serving.url()
    took = []

    for word in map(str, range(20)):
        began = time.perf_counter()
        (serving.folder / "draft.py").write_text(LARGE.replace("{}", word))
        wait_until(lambda word=word: serving.ask(url).startswith(f"{word} "), serving.server)  # type: ignore[misc]  # its own
        if serving.ask(url) == f"{word} True":
            took.append(time.perf_counter() - began)
        serving.wait_line("reloaded draft in")
        if len(took) == 5:
            break

    assert len(took) == 5, "each time it was imported anew"
    assert min(took) < 0.5
    (serving.folder / "draft.py").write_text(LARGE + APART)
    serving.wait_line("reloaded draft in")
    assert serving.ask(url.replace("/say/", "/apart/")) == "False"  # a package may read its environment
    warm = len(bases_of(serving.server))
    serving.process.send_signal(signal.SIGINT)
    assert serving.process.wait(30) == 0
    wait_until(lambda: len(bases_of(serving.server)) == warm - 1, serving.server)


def test_a_module_beside_it_is_loaded_anew_too_and_output_is_shown(serving: Serving) -> None:
    url = serving.url()

    (serving.folder / "words.py").write_text("WORD = 'other'\n")
    serving.wait_line("reloaded draft in")

    assert serving.ask(url) == "first other"
    assert serving.wait_line("said") == "said other\n"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("import relight\n\nraise ValueError('halfway')\n", "ValueError: halfway"),
        ("def x(:\n", "cannot read .*invalid"),
    ],
)
def test_what_does_not_load_is_shown_and_the_version_before_serves_on(
    serving: Serving, source: str, shown: str
) -> None:
    url = serving.url()

    (serving.folder / "draft.py").write_text(source)
    serving.wait_line(shown)
    serving.wait_line("draft.py does not load; the version before it serves on")
    before = serving.ask(url)
    (serving.folder / "draft.py").write_text(APP.replace("{}", "mended"))
    serving.wait_line("reloaded draft in")

    assert (before, serving.ask(url)) == ("first word", "mended word")


SITE = """
import relight

app = relight.App("site")

@app.function()
@relight.web_endpoint()
def page() -> str:
    return "{}"

@app.function()
@relight.asgi_app()
def broken():
    raise LookupError("no app can be made")
"""


@pytest.fixture
def site(serving: Serving) -> str:
    """The URL of the page of a site that is served beside; what is served is a file of the name `draft.py`."""
    serving.url()
    (serving.folder / "draft.py").write_text(SITE.replace("{}", "first"))
    found = re.search(r"http://\S+", serving.wait_line(r"  page  http"))
    assert found
    return found[0]


def browse(url: str, accept: str = "text/html,*/*") -> tuple[int, str]:
    """The status and the text that a browser is answered, or with another `accept` a program."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_browser_is_shown_what_does_not_load_until_it_does(serving: Serving, site: str) -> None:
    assert browse(site) == (200, '"first"')

    (serving.folder / "draft.py").write_text("import relight\n\nraise ValueError('<b>halfway</b>')\n")
    serving.wait_line("draft.py does not load; the version before it serves on")
    status, page = browse(site)
    program = browse(site, "*/*")
    (serving.folder / "draft.py").write_text(SITE.replace("{}", "mended"))
    serving.wait_line("reloaded site in")

    assert status == 500
    assert "ValueError: &lt;b&gt;halfway&lt;/b&gt;" in page
    assert "draft.py&quot;, line 3" in page
    assert "location.reload()" in page
    assert program == (200, '"first"')
    assert browse(site) == (200, '"mended"')


def test_a_browser_is_shown_why_an_app_cannot_be_made(serving: Serving, site: str) -> None:
    status, page = browse(site.removesuffix("page") + "broken")

    assert status == 500
    assert "LookupError: no app can be made" in page
    assert "in broken" in page
    assert json.loads(browse(site.removesuffix("page") + "broken", "*/*")[1])["code"] == "start_failed"


def test_it_ends_with_the_command(serving: Serving) -> None:
    url = serving.url()
    assert serving.ask(url) == "first word"

    serving.process.send_signal(signal.SIGINT)

    assert serving.wait_line("stopped serving")
    assert serving.process.wait(30) == 0
    assert [one for one in serving.server.get("/v1/apps")["apps"] if one["app"] == "draft"] == []
