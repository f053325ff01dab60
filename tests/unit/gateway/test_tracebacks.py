"""The page that says what is wrong with an app that is being written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from relight.gateway.exchange import Ask, Body, Head, Limits, Peer
from relight.gateway.problems import HttpProblem
from relight.gateway.tracebacks import page_of, page_of_error, wants_page
from relight.protocol.errors import StartFailed, Unavailable

if TYPE_CHECKING:
    from conftest import Api


def ask(method: str, accept: bytes) -> Ask:
    return Ask(Head(method, "/", headers=((b"accept", accept),)), Body(), Peer(), Limits())


@pytest.mark.parametrize(
    ("method", "accept", "is_page"),
    [
        ("GET", b"text/html,application/xhtml+xml,*/*;q=0.8", True),
        ("GET", b"*/*", False),
        ("GET", b"application/json", False),
        ("POST", b"text/html", False),
    ],
)
def test_a_page_is_for_what_a_browser_shows_by_itself(method: str, accept: bytes, is_page: bool) -> None:
    assert wants_page(ask(method, accept)) is is_page


def test_a_page_shows_the_text_as_it_is_and_runs_none_of_it() -> None:
    answer = page_of("shop does not load", "ValueError: <script>alert({})</script>")

    assert answer.status == 500
    assert b"ValueError: &lt;script&gt;alert({})&lt;/script&gt;" in answer.body
    assert b"location.reload()" in answer.body
    assert ("cache-control", "no-store") in answer.headers


def test_an_error_keeps_its_status_and_what_raised_it() -> None:
    error = StartFailed("cannot answer: ValueError: no")
    error.add_note("Traceback (most recent call last): …")

    answer = page_of_error("shop", error)
    waiting = page_of_error("shop", HttpProblem(503, Unavailable("cannot answer: no worker")))

    assert (answer.status, waiting.status) == (error.status, 503)
    assert b"Traceback (most recent call last)" in answer.body
    assert b"no worker" in waiting.body


async def test_what_is_wrong_is_told_as_a_text(api: Api) -> None:
    told = await api.ask("POST", "/v1/runs/run-1/fault", json.dumps({"text": "ValueError"}))
    refused = await api.ask("POST", "/v1/runs/run-1/fault", json.dumps({"text": 5}))

    assert (told.status, refused.status) == (200, 400)
    assert api.platform.runs.faults == {"run-1": "ValueError"}
