"""Scaling and queues over HTTP: who may ask, what goes in and what comes out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from relight.gateway.exchange import problem_answer
from relight.protocol.errors import LimitExceeded

if TYPE_CHECKING:
    from conftest import Api

PATH = "/v1/apps/shop/functions/square"
NAME = ("default", "shop", "staging", "square")


async def test_what_is_said_of_a_function_reaches_it_by_its_name_and_what_is_in_force_comes_back(api: Api) -> None:
    answer = await api.ask("POST", f"{PATH}/scaling?environment=staging", json.dumps({"max_workers": 5}))
    shown = await api.ask("GET", f"{PATH}/scaling?environment=staging")

    assert api.platform.tunings.asked == [(NAME, {"max_workers": 5})]
    assert (answer.json.app, answer.json.environment, answer.json.scaling.min_workers) == ("shop", "staging", 0)
    assert shown.body == answer.body


async def test_what_is_no_object_changes_nothing(api: Api) -> None:
    answer = await api.ask("POST", f"{PATH}/scaling", "[5]")

    assert (answer.status, api.platform.tunings.asked) == (400, [])


async def test_a_queue_is_shown_paused_resumed_purged_and_its_dead_are_run_again(api: Api) -> None:
    said = {
        what: (await api.ask(method, f"{PATH}/queue{what}")).json
        for method, what in (
            ("GET", ""),
            ("POST", "/pause"),
            ("POST", "/resume"),
            ("POST", "/purge"),
            ("GET", "/dead?limit=7"),
            ("POST", "/rerun?limit=9"),
        )
    }

    assert (said[""].waiting, said["/pause"].is_paused, said["/resume"].is_paused) == (3, True, False)
    assert (said["/purge"].cancelled, said["/dead?limit=7"].dead, said["/rerun?limit=9"].calls) == (3, 7, ["call-9"])


@pytest.mark.parametrize("what", ["scaling", "queue/pause", "queue/resume", "queue/purge", "queue/rerun"])
async def test_whoever_may_only_call_changes_nothing(api: Api, what: str) -> None:
    answer = await api.ask_tcp("POST", f"{PATH}/{what}", "{}", authorization="Bearer call")

    assert answer.status == 403


async def test_a_metric_is_told_by_whoever_may_call(api: Api) -> None:
    answer = await api.ask_tcp("POST", f"{PATH}/metrics", '{"tokens": 7}', authorization="Bearer call")

    assert (answer.status, api.platform.tunings.asked[0][1:]) == (200, ("", {"tokens": 7}))


def test_whoever_is_refused_for_now_hears_when_to_ask_again() -> None:
    answer = problem_answer(LimitExceeded("cannot take another call of f: 5 wait", 2.4))

    assert (answer.status, answer.headers) == (429, (("retry-after", "3"),))
    assert json.loads(answer.body)["retry_after_seconds"] == 2.4
