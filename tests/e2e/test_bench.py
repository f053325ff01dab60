"""`bench/calls.py` and `bench/metering.py` as people run them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CALLS = Path(__file__).parents[2] / "bench" / "calls.py"


@pytest.mark.slow
def test_the_bench_measures_relight_beside_others_and_says_what_became_of_each_promise(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(CALLS), "--quick", "--only", "relight,pool,socket", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    figures = {line["peer"]: line for line in lines if line["kind"] == "figures"}
    assert list(figures) == ["relight", "pool", "socket"]
    assert figures["socket"]["p50_us"] < figures["pool"]["p50_us"] < figures["relight"]["p50_us"]
    idle = next(line for line in lines if line["kind"] == "idle")
    assert {name.split()[0] for name in idle["pss_mib"]} >= {"server", "agent"}
    said = {line["what"] for line in lines if line["kind"] == "target"}
    assert said == {"a warm .remote(), p50", "import relight", "an idle server and agent, PSS"}
    assert all(what in done.stderr for what in said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_bench_of_metering_measures_in_rounds() -> None:
    done = subprocess.run(
        [sys.executable, str(CALLS.with_name("metering.py")), "--pairs", "60"],
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert done.returncode == 0, done.stderr
    (figures,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert figures["pairs"] > 0
    assert isinstance(figures["more"], float)


@pytest.mark.slow
@pytest.mark.root
def test_versions_come_and_go_under_traffic_and_the_bench_holds_relight_to_losing_nothing() -> None:
    """The canary's share is of 3,000 calls, so that it is off by two percent once in five thousand runs."""
    done = subprocess.run(
        [sys.executable, str(CALLS.parent / "rollouts.py"), "--only", "traffic", "--deploys", "20", "--check"],
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert done.returncode == 0, done.stderr
    lines = {line["kind"]: line for line in map(json.loads, done.stdout.splitlines())}
    seen = lines["traffic"]
    assert (seen["deploys"], seen["rollbacks"], seen["failed_deploys"]) == (20, 10, 4)
    assert seen["calls"] > 50
    assert lines["canary"]["calls"] >= 3000
