"""Starts over HTTP: one by one and together, for those who may see their app."""

from __future__ import annotations

import json

import pytest

from relight.protocol.starts import StartLevel
from relight.protocol.startviews import StartQuery


async def test_starts_are_listed_with_their_phases(api) -> None:
    answer = await api.ask("GET", "/v1/starts")

    assert answer.status == 200
    (start,) = json.loads(answer.body)["starts"]
    assert start["level"] == "boot"
    assert start["phases"] == [{"name": "sandbox", "seconds": 0.25}]


@pytest.mark.parametrize("path", ["/v1/starts", "/v1/starts/summary"])
async def test_what_is_asked_for_is_narrowed_by_all_that_is_said(api, path) -> None:
    said = "app=shop&environment=staging&function=square&level=4&since=5&before=9&limit=7"

    assert (await api.ask("GET", f"{path}?{said}")).status == 200
    assert api.platform.starts.asked == [
        StartQuery(
            app="shop",
            environment="staging",
            function="square",
            level=StartLevel.BOOT,
            since=5.0,
            before=9.0,
            limit=7,
        )
    ]


@pytest.mark.parametrize(("text", "level"), [("fork", StartLevel.FORK), ("0p", StartLevel.PARKED), ("", None)])
async def test_a_level_is_named_or_numbered(api, text, level) -> None:
    await api.ask("GET", f"/v1/starts?level={text}")

    assert api.platform.starts.asked[0].level is level


async def test_a_level_that_is_none_is_refused_with_those_there_are(api) -> None:
    answer = await api.ask("GET", "/v1/starts?level=warm")

    assert answer.status == 400
    assert answer.json.detail.startswith("cannot list starts on level 'warm': the levels are parked (0p), fork (1)")


async def test_a_summary_is_one_object(api) -> None:
    answer = await api.ask("GET", "/v1/starts/summary?since=5")

    assert json.loads(answer.body) == {
        "starts": 1,
        "since": 5.0,
        "is_whole": True,
        "bounds": [0.1],
        "hit_rate": 0.0,
        "levels": [],
        "groups": [],
        "reasons": [],
    }


@pytest.mark.parametrize("path", ["/v1/starts", "/v1/starts/summary"])
async def test_a_token_for_one_app_sees_the_starts_of_that_app_alone(api, path) -> None:
    own = await api.ask_tcp("GET", path, Authorization="Bearer read:shop")
    other = await api.ask_tcp("GET", f"{path}?app=bank", Authorization="Bearer read:shop")

    assert (own.status, other.status) == (200, 403)
    assert [query.app for query in api.platform.starts.asked] == ["shop"]
