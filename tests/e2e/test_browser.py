"""A browser at the pages that people see: what endpoints say of themselves, and what the examples serve."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Page, browsing, find_browser
from e2e.app_web import app
from servers import Server

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    program = find_browser()
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with browsing(program, tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def site(server: Server) -> Iterator[Server]:
    app.deploy()
    for name in ("fastapi_site.py", "websocket_room.py"):
        command = [sys.executable, "-m", "relight", "deploy", "--no-wait", str(EXAMPLES / name)]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
    yield server
    assert app._session is not None
    app._session.connection.close()


def host(server: Server, label: str) -> str:
    """The URL of an origin of its own."""
    return f"http://{label}.localhost:{server.url.rpartition(':')[2]}"


ANSWERED = "(text => /^[1-5]/.test(text) && text)(document.querySelector('#answer').textContent)"


def test_an_endpoint_is_tried_on_its_page_below_a_path_and_on_an_origin_of_its_own(site: Server, page: Page) -> None:
    for url in (f"{site.url}/w/web/add", host(site, "add--web")):
        page.open(f"{url}/docs")
        page.fill("input[name=x]", "2")
        page.fill("input[name=y]", "3")
        page.press("button")

        head, _, body = page.wait(ANSWERED).partition("\n\n")

        assert head.startswith("200 in ")
        assert json.loads(body) == {"sum": 5}
        assert page.run("document.querySelector('h1').textContent") == "web · add"
        assert page.troubles == []


def test_a_value_that_does_not_fit_is_told_on_the_page(site: Server, page: Page) -> None:
    page.open(f"{site.url}/w/web/add/docs")
    page.fill("input[name=x]", "two")
    page.press("button")

    head, _, body = page.wait(ANSWERED).partition("\n\n")

    assert head.startswith("422 in ")
    assert json.loads(body)["errors"][0]["pointer"] == "/x"


def test_an_endpoint_that_needs_a_token_shows_its_page_to_who_has_one(site: Server, page: Page) -> None:
    page.open(f"{site.url}/w/web/greet/docs")
    assert "greet" not in page.run("document.documentElement.outerHTML")
    page.fill("#token", "guessed")
    page.press("button")
    refused = json.loads(page.wait("document.querySelector('#refused').textContent"))
    page.run("document.querySelector('#token').value = ''")
    page.fill("#token", site.token)
    page.press("button")
    page.wait("document.querySelector('input[name=name]')")
    page.fill("input[name=name]", "Ada")
    page.fill("input[name=tags]", '["a", "b"]')
    page.press("button")

    answer = page.wait(ANSWERED)

    assert refused["status"] == 401
    assert answer.startswith("200 in ")
    assert answer.partition("\n\n")[2] == '"hello Ada #a #b"'


def test_the_description_of_an_endpoint_is_a_link_on_its_page(site: Server, page: Page) -> None:
    page.open(f"{host(site, 'add--web')}/docs")

    described = page.run("fetch(document.querySelector('a').href).then(answer => answer.json())")

    assert described["openapi"] == "3.1.0"
    assert [one["name"] for one in described["paths"]["/"]["get"]["parameters"]] == ["x", "y"]


def test_a_fastapi_site_echoes_over_a_websocket(site: Server, page: Page) -> None:
    page.open(f"{host(site, 'hello')}/")
    page.run("socket.readyState || new Promise(done => socket.onopen = done)")
    page.fill("input", "good morning")
    page.press("button")

    assert page.wait("document.querySelector('pre').textContent") == "you said good morning\n"
    assert page.troubles == []


def test_who_is_in_the_room_hears_what_others_say(site: Server, page: Page) -> None:
    page.open(f"{host(site, 'room')}/")
    page.wait("document.querySelector('pre').textContent")
    page.fill("input", "anybody here?")
    page.press("button")

    heard = page.wait("(text => text.split('\\n').length > 2 && text)(document.querySelector('pre').textContent)")

    assert heard.splitlines()[-1].endswith(": anybody here?")
    assert page.troubles == []
