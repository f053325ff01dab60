"""A start explains itself: from the node to the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from textwrap import dedent

import pytest

from command_line import Cli, beside_a_server
from relight.protocol.starts import NUMBERS, PHASES, StartLevel

PAGE = Path(__file__).parents[2] / "docs" / "cold-starts.md"
BROKEN = dedent(
    """
    import relight

    app = relight.App("broken")

    @app.cls()
    class Model:
        @relight.enter()
        def load(self):
            raise ValueError("no weights")

        @relight.method()
        def run(self) -> int:
            return 1
    """
)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with beside_a_server(tmp_path_factory.mktemp("starts")) as cli:
        yield cli


def test_a_call_tells_the_start_it_waited_for_and_the_next_call_has_none(cli: Cli) -> None:
    calls = [cli("call", "shop/square", "--x", "7").returncode for _ in range(2)]
    assert calls == [0, 0]
    warm, cold = cli.json("calls", "list", "--function", "square")["calls"]

    shown = cli.json("calls", "show", cold["id"])

    start = shown["start"]
    phases = [step for step in shown["timeline"] if step["level"] == 2]
    (starting,) = (step for step in shown["timeline"] if step["what"] == "starting")
    assert starting["detail"].startswith(f"level {NUMBERS[StartLevel(start['level'])]} {start['level']}")
    assert start["why"] in starting["detail"]
    assert {step["what"] for step in phases} <= {phase["name"] for phase in start["phases"]} <= set(PHASES)
    assert all(first["until"] <= then["at"] + 0.0001 for first, then in pairwise(phases))
    ends = [step["until"] for step in phases]
    assert max(ends) == pytest.approx(starting["until"], abs=0.005)
    told = cli("calls", "show", cold["id"]).stdout
    assert re.search(rf"^ .* {phases[-1]['what']} +[\d.]+m?s$", told, re.MULTILINE), told
    assert [step["what"] for step in cli.json("calls", "show", warm["id"])["timeline"]] == [
        "queued",
        "attempt 1",
        "succeeded",
    ]


def test_starts_are_told_together_by_function_and_level(cli: Cli) -> None:
    assert cli("call", "shop/model").returncode == 0
    answer = cli.json("starts", "shop/model")
    (group,) = answer["groups"]

    assert (group["app"], group["function"], group["count"], group["failed"], group["share"]) == (
        "shop",
        "model",
        1,
        0,
        1.0,
    )
    assert group["p50"] == group["p99"] == pytest.approx(sum(phase["seconds"] for phase in group["phases"]), abs=1e-4)
    assert sum(group["buckets"]) == 1
    assert answer["levels"] == [{"level": group["level"], "count": 1, "share": 1.0}]
    assert all(reason["why"].startswith(f"{reason['code']}: ") for reason in answer["reasons"])

    told = cli("starts", "shop/model").stdout.splitlines()

    assert told[0].split()[:6] == ["FUNCTION", "LEVEL", "STARTS", "AHEAD", "SHARE", "FAILED"]
    assert told[1].startswith(f"shop/model  {NUMBERS[StartLevel(group['level'])]} {group['level']}")
    assert told[1].endswith("█")


def test_starts_of_nothing_are_none(cli: Cli) -> None:
    found = cli("starts", "bank")

    assert (found.returncode, found.stdout, found.stderr) == (0, "", "no starts\n")


@pytest.mark.slow
def test_starts_that_failed_are_counted_apart(cli: Cli) -> None:
    (cli.folder / "broken.py").write_text(BROKEN)
    assert cli("deploy", "broken.py").returncode == 0
    assert cli("call", "broken/Model.run").returncode == 1

    groups = cli.json("starts", "broken")["groups"]

    assert sum(group["count"] for group in groups) == 0
    assert sum(group["failed"] for group in groups) == 3
    rows = cli("starts", "broken").stdout.splitlines()[1:]
    assert [row.split()[-1] for row in rows] == [str(group["failed"]) for group in groups]


def test_a_single_start_is_read_over_http_with_its_worker(cli: Cli) -> None:
    assert cli("call", "shop/count", "--to", "1").returncode == 0

    workers = {worker["id"]: worker for worker in cli.json("ps", "--all")["workers"]}

    started = [worker for worker in workers.values() if worker["function"] == "count"]
    assert [worker["start"]["level"] in {level.value for level in StartLevel} for worker in started] == [True]


def test_the_page_names_every_level_phase_and_reason() -> None:
    page = PAGE.read_text()
    room = PAGE.parents[1] / "src" / "relight"
    files = [*(room / "agent").glob("*.py"), room / "protocol" / "manifest.py", room / "control" / "templates.py"]
    code = "\n".join(path.read_text() for path in files)
    reasons = set(re.findall(r'"(first|[a-z]+_[a-z]+|[a-z]+): (?:the|its|what|a|sandboxes|\{)', code))

    assert [level.value for level in StartLevel if f"| {NUMBERS[level]} | `{level.value}` |" not in page] == []
    assert [name for name, what in PHASES.items() if f"| `{name}` | {what} |" not in page] == []
    assert {"first", "new_version", "evicted", "unsafe", "gpu", "not_here"} <= reasons
    assert [code for code in reasons if f"| `{code}` |" not in page] == []
