"""What each command answers with `--json` is what docs/schemas/cli.json says: no key less, and none that it does not name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from command_line import Cli, beside_a_server

pytestmark = pytest.mark.slow

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "cli.json"
PAGE = Path(__file__).parents[2] / "docs" / "cli-json.md"
SEEN: dict[str, None] = {}


def closed(schema: Any) -> Any:
    """The schema, allowing no key that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {name: closed(one) for name, one in schema.items()}
    return {**shut, "additionalProperties": False} if schema.get("type") == "object" else shut


DEFINITIONS: dict[str, Any] = json.loads(SCHEMA.read_text())["$defs"]


def check(name: str, value: Any) -> None:
    """Assert that `value` is what the schema of that name says."""
    assert name in DEFINITIONS, f"docs/schemas/cli.json has nothing of the name {name!r}"
    SEEN[name] = None
    validator = Draft202012Validator({"$ref": f"#/$defs/{name}".replace(" ", "%20"), "$defs": closed(DEFINITIONS)})
    wrong = [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(value)]
    assert not wrong, f"{name}: {'; '.join(wrong)}"


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with beside_a_server(tmp_path_factory.mktemp("json")) as cli:
        yield cli


def test_calls_answer_as_documented(cli: Cli) -> None:
    succeeded = json.loads(cli("call", "shop/square", "--x", "7", "--whole").stdout)
    failed = json.loads(cli("call", "shop/fail", "--whole").stdout)
    python = json.loads(cli("call", "shop/model", "--whole").stdout)
    shown = cli.json("calls", "show", succeeded["id"])

    for call in (succeeded, failed, python):
        check("relight call --whole", call)
    check("relight calls show", shown)
    check("relight calls show", cli.json("calls", "show", failed["id"]))
    check("relight calls list", cli.json("calls", "list"))
    retried = cli.json("calls", "retry", succeeded["id"])
    check("relight calls retry", retried)
    check("relight calls cancel", cli.json("calls", "cancel", retried["calls"][0]["id"]))
    assert [step["what"] for step in shown["timeline"] if not step["level"]] == ["queued", "attempt 1", "succeeded"]


def test_what_is_there_is_listed_as_documented(cli: Cli) -> None:
    assert cli("call", "shop/square", "--x", "7").returncode == 0

    check("relight apps", cli.json("apps"))
    check("relight ps", cli.json("ps", "--all"))
    starts = cli.json("starts", "shop/square")
    check("relight starts", starts)
    assert [group["function"] for group in starts["groups"]] == ["square"]
    check("relight doctor", json.loads(cli("doctor", "--quick", "--json").stdout))
    check("relight nodes", cli.json("nodes"))
    for line in cli("logs", "--json").stdout.splitlines():
        check("relight logs", json.loads(line))


def test_scaling_and_queues_answer_as_documented(cli: Cli) -> None:
    cli("call", "shop/fail")
    floor = "2 mon-fri 08:00-18:00 UTC"
    scaled = cli.json("scale", "shop/fail", "--max", "3", "--floor", floor, "--rate", "5/s", "--metric", "tokens=9")

    check("relight scale", scaled)
    check("relight scale", cli.json("scale", "shop/fail", "--reset"))
    check("relight queue pause", cli.json("queue", "pause", "shop/fail"))
    cli("call", "shop/fail", "--no-wait")
    shown = cli.json("queue", "show", "shop/fail")
    check("relight queue show", shown)
    check("relight queue dead", cli.json("queue", "dead", "shop/fail"))
    check("relight queue purge", cli.json("queue", "purge", "shop/fail"))
    check("relight queue rerun", cli.json("queue", "rerun", "shop/fail", "--limit", "1"))
    check("relight queue resume", cli.json("queue", "resume", "shop/fail"))
    assert (shown["waiting"], shown["reasons"]) == (1, {"paused": 1})
    assert {one["field"] for one in scaled["overrides"]} == {"max_workers", "floors", "rate_limit", "metrics"}


def test_an_app_is_begun_deployed_and_stopped_as_documented(cli: Cli) -> None:
    begun = cli.json("init", "begun")

    check("relight init", begun)
    check("relight deploy --plan", cli.json("deploy", begun["file"], "--plan"))
    check("relight deploy", cli.json("deploy", begun["file"]))
    check("relight deploy", cli.json("deploy", begun["file"], "--canary", "10", "--tag", "team=a", "--commit", "abc"))
    check("relight canary", cli.json("canary", "begun", "50"))
    check("relight rollback", cli.json("rollback", "begun"))
    check("relight diff", cli.json("diff", "begun"))
    check("relight promote", cli.json("promote", "begun", "--from", "main", "--to", "staging"))
    check("relight versions", cli.json("versions", "begun"))
    check("relight stop", cli.json("stop", "begun"))


def test_a_source_is_added_shown_and_removed_as_documented(cli: Cli) -> None:
    added = cli.json("git", "add", "https://forge.example/shop.git")
    source = added["source"]["id"]

    check("relight git add", added)
    check("relight git list", cli.json("git", "list"))
    check("relight git deploy", cli.json("git", "deploy", source))
    check("relight git pushes", cli.json("git", "pushes", source))
    check("relight git remove", cli.json("git", "remove", source))


def test_tokens_and_profiles_answer_as_documented(cli: Cli) -> None:
    shown = cli.json("token", "show")
    made = cli.json("token", "create", "--name", "ci", "--scope", "read", "--expires", "1h")
    login = cli.json("login", shown["url"], "--token", made["secret"], "--profile", "work")
    profiles = cli.json("profile", "list")
    used = cli.json("profile", "use", "local")
    removed = cli.json("profile", "remove", "work")

    check("relight token show", shown)
    check("relight token create", made)
    check("relight token list", cli.json("token", "list"))
    check("relight token revoke", cli.json("token", "revoke", "ci"))
    for name, answer in (("login", login), ("profile list", profiles), ("profile use", used)):
        check(f"relight {name}", answer)
    check("relight profile remove", removed)


def test_costs_and_plans_answer_as_documented(cli: Cli, tmp_path: Path) -> None:
    call = json.loads(cli("call", "shop/square", "--x", "9", "--whole").stdout)["id"]
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival,seconds\n0,1\n30,1\n")

    by_call = cli.json("cost", "shop", "--by", "call", "--against", "all")
    one = cli.json("cost", "--call", call, "--against", "all")
    answers = {
        "cost": by_call,
        "budget set": cli.json("budget", "set", "5", "--app", "shop"),
        "budget list": cli.json("budget", "list"),
        "budget remove": cli.json("budget", "remove", "--app", "shop"),
        "invoice": cli.json("invoice", "--by", "tag:team"),
        "rates": cli.json("rates", "--region", "us"),
        "providers": cli.json("providers"),
        "simulate": cli.json("simulate", "--trace", str(trace), "--window", "5", "--gpu", "H100"),
        "plan": cli.json("plan", "--trace", str(trace), "--gpu", "H100", "--start", "2"),
    }
    applied = cli.json("plan", "shop/square", "--trace", str(trace), "--card", "modal", "--apply", "--yes")
    warned = cli("watch", "shop", "--card", "modal", "--least", "0s", "--slow", "0s", "--once", "--json")

    for name, answer in answers.items():
        check(f"relight {name}", answer)
    check("relight cost", cli.json("cost", "--by", "tag:team,day", "--against", "all", "--region", "us", "--forecast"))
    assert [card["card"] for card in answers["rates"]["cards"]] == ["modal/us", "modal@included/us"]
    check("relight plan", applied)
    check("relight watch", json.loads(warned.stdout))
    assert (applied["applied"]["is_written"], warned.returncode) == (True, 4)
    assert sum(row["nanos"] for row in by_call["rows"]) == by_call["total"]["nanos"]
    (row,) = one["rows"]
    assert row["key"] == f"{call} shop/square"
    assert row["busy_us"] > 0
    costs = {cost["card"]: cost["nanos"] for cost in row["against"]}
    assert costs["machine"] == row["nanos"]
    assert (costs["beam"], costs["runpod"], costs["modal"]) == (
        None,
        None,
        1916,
    )  # 1 s of 0.125 cores (1,637.5) and GiB (277.5)


def test_errors_answer_as_documented(cli: Cli) -> None:
    missing = cli("calls", "show", "call-x", "--json")
    misused = cli("calls", "cancel", "--json")

    assert (missing.returncode, misused.returncode) == (3, 2)
    for found in (missing, misused):
        assert found.stdout == ""
        check("error", json.loads(found.stderr))


def test_every_command_of_the_schema_is_on_the_page_and_was_run_above() -> None:
    named = [name for name in DEFINITIONS if name.startswith("relight ")]

    assert [name for name in named if f"| `{name}` |" not in PAGE.read_text()] == []
    assert [name for name in named if SEEN and name not in SEEN] == []
