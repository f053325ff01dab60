"""What workers use beside their time, metered on a real server, and told by tags."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e import app_metering as there
from servers import Server, serving, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("RELIGHT_DECLARE_GPU", "L4:1")
    with serving(tmp_path / "data", there.app) as started:
        yield started


def leave_all(server: Server) -> None:
    """Let every worker go, so that all it used is kept."""
    assert there.app._session is not None
    there.app._session.connection.json("POST", "/v1/apps/metered/stop")
    wait_until(lambda: not server.get("/v1/workers")["workers"], server)
    budget = {"app": "metered", "nanos": 10**12}
    there.app._session.connection.json("PUT", "/v1/budgets", budget)  # what was told before it is kept with it


def rows_by(server: Server, by: str, *more: str) -> dict[str, Any]:
    return {row["key"]: row for row in server.get("&".join((f"/v1/costs?by={by}", *more)))["rows"]}


def test_tokens_cpu_shares_of_gpus_and_tags_are_in_the_ledger(server: Server) -> None:
    there.app.deploy(tags={"branch": "b", "team": "deploys"})
    there.think.remote(10, 20)
    there.think.remote(1, 2)
    there.think.with_options(tags={"customer": "acme"}).remote(100, 200)
    used = there.compute.remote(0.5)
    there.quarter.remote()
    with urllib.request.urlopen(f"{server.url}/w/metered/chat?words=7", timeout=60) as answer:
        assert json.load(answer) == 7
    leave_all(server)

    functions = {key.removeprefix("metered/"): row for key, row in rows_by(server, "function").items()}
    assert (functions["think"]["tokens_in"], functions["think"]["tokens_out"]) == (111, 222)
    assert functions["chat"]["tokens_out"] == 7
    calls = [row for key, row in rows_by(server, "call").items() if key.endswith("metered/think")]
    assert sorted((row["tokens_in"], row["tokens_out"]) for row in calls) == [(1, 2), (10, 20), (100, 200)]
    if os.geteuid() == 0:  # then it has control groups
        assert functions["compute"]["cpu_us"] >= used * 1e6, "all that its process used, and what its sandbox took"

    tagged = rows_by(server, "tag")
    assert set(tagged) == {
        "branch=b, team=search",
        "branch=b, team=search, tier=gold",
        "branch=b, customer=acme, team=search, tier=gold",
    }
    for by in ("tag", "tag:customer", "tag:tier,day", "workspace", "day"):
        report = server.get(f"/v1/costs?by={by}")
        assert sum(row["nanos"] for row in report["rows"]) == report["total"]["nanos"] > 0
    assert set(rows_by(server, "tag:customer")) == {"acme", "untagged"}

    there_too = rows_by(server, "tag:tier,day", "against=all", "region=us", "forecast=1")
    assert {one["card"] for row in there_too.values() for one in row["against"]} == {"modal/us", "modal@included/us"}
    assert {key.split()[0] for key in there_too} == {"gold", "untagged"}
    assert all(row["forecast_nanos"] >= row["month_nanos"] > 0 for row in there_too.values())

    (quarter,) = rows_by(server, "gpu", "against=own-h100", "function=quarter").values()
    assert quarter["against"][0]["unknown"] == ["0.25 × L4"]


def test_where_nothing_is_metered_nothing_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELIGHT_METERING", "off")
    with serving(tmp_path / "data", there.app) as server:
        there.think.remote(1, 1)
        leave_all(server)

        report = server.get("/v1/costs")

    assert (report["rows"], report["total"]["life_us"]) == ([], 0)
