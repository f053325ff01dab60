"""`relight calls`: calls, listed, shown with their whole story, and cancelled."""

from __future__ import annotations

from datetime import datetime

import click

from relight.cli.past import connect_to
from relight.cli.tables import number, objects, show_age, show_json, show_table
from relight.clock import SystemClock
from relight.protocol.manifest import Json
from relight.sdk.connection import connect
from relight.sdk.requests import query

_RUN = click.option("--run", "run_id", help="The finished run to look into, on a server of its own (run-…).")


@click.group()
def calls() -> None:
    """List, show and cancel calls."""


@calls.command("list")
@click.option("--app", default="", help="Only calls of this app.")
@click.option("--environment", "-e", default="", help="Only those of this environment, or run.")
@click.option("--function", default="", help="Only those of this function.")
@click.option("--state", default="", help="Only those in this state.")
@click.option(
    "--limit", "-n", default=50, show_default=True, type=click.IntRange(1, 1000), help="How many, newest first."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_RUN
def list_calls(*, as_json: bool, run_id: str | None, **fields: str | int) -> None:
    """Calls, newest first."""
    with connect_to(run_id) as connection:
        answer = connection.json("GET", f"/v1/calls{query(fields)}")
    if as_json:
        return show_json(answer)
    now = SystemClock().now()
    rows = [
        (
            str(row["id"]),
            _callee(row),
            str(row["state"]),
            show_age(now - number(row["submitted_at"])),
            str(row["attempts"]),
            str(row["pending_reason"] or _why(row)),
        )
        for row in objects(answer, "calls")
    ]
    show_table(("CALL", "FUNCTION", "STATE", "AGE", "ATTEMPTS", "WHY"), rows, "no calls")


@calls.command()
@click.argument("call_id", metavar="CALL")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_RUN
def show(*, call_id: str, as_json: bool, run_id: str | None) -> None:
    """One call: where it stands and why, each attempt, and the life of its worker."""
    with connect_to(run_id) as connection:
        answer = connection.json("GET", f"/v1/calls/{call_id}")
    if as_json:
        return show_json(answer)
    call = answer.get("call") if isinstance(answer, dict) else None
    if isinstance(call, dict):
        _show_call(call)
        _show_attempts(objects(answer, "attempts"))
        _show_intervals(objects(answer, "worker_intervals"))


@calls.command()
@click.argument("call_ids", metavar="CALL...", nargs=-1, required=True)
def cancel(call_ids: tuple[str, ...]) -> None:
    """Cancel calls; those that have ended stay as they ended."""
    connection = connect()
    for call_id in call_ids:
        answer = connection.json("POST", f"/v1/calls/{call_id}/cancel")
        state = answer.get("state") if isinstance(answer, dict) else ""
        said = "told to stop" if state == "running" else state
        click.echo(f"{call_id}  {said}")


def _show_call(call: dict[str, Json]) -> None:
    lines = [
        ("call", call["id"]),
        ("function", f"{call['app']}/{_callee(call)}  in {call['environment']}, version {call['version']}"),
        ("state", call["state"]),
        ("reason", call["pending_reason"]),
        ("attempts", call["attempts"]),
        ("worker", call["worker"]),
        ("parent", call["parent"]),
        ("submitted", _moment(call["submitted_at"])),
        ("started", _after(call["started_at"], call["submitted_at"])),
        ("ended", _after(call["ended_at"], call["submitted_at"])),
        ("result", _result(call)),
        ("failure", _why(call)),
    ]
    for name, value in lines:
        if value not in ("", None):
            click.echo(f"{name:10}{value}")
    failure = call["failure"]
    if isinstance(failure, dict) and failure["traceback"]:
        click.echo(f"\n{str(failure['traceback']).rstrip()}")


def _show_attempts(attempts: list[dict[str, Json]]) -> None:
    if attempts:
        click.echo("\nattempts")
    for one in attempts:
        took = show_age(number(one["ended_at"]) - number(one["started_at"])) if one["ended_at"] else "-"
        words = [
            _moment(one["started_at"]),
            took,
            str(one["outcome"] or "runs"),
            str(one["worker"]),
            str(one["detail"]),
        ]
        click.echo(f"  {one['number']}  " + "  ".join(word for word in words if word))


def _show_intervals(intervals: list[dict[str, Json]]) -> None:
    if intervals:
        click.echo("\nits worker")
    for one in intervals:
        took = show_age(number(one["until"]) - number(one["since"])) if one["until"] else "now"
        click.echo(f"  {_moment(one['since'])}  {one['state']!s:10} {took:>6}  {one['detail']}".rstrip())


def _callee(call: dict[str, Json]) -> str:
    return f"{call['function']}.{call['method']}" if call["method"] else str(call["function"])


def _why(call: dict[str, Json]) -> str:
    failure = call["failure"]
    if not isinstance(failure, dict):
        return ""
    said = str(failure["message"] or failure["code"]).partition("\n")[0]
    kind = str(failure["exception"])
    return said if said.startswith(kind) else f"{kind}: {said}"


def _result(call: dict[str, Json]) -> str:
    result = call["result"]
    if not call["result_format"]:
        return ""
    if isinstance(result, dict) and result.get("format") == call["result_format"]:
        return f"{result['preview'] or '(no preview)'}  [{result['format']}, {result['size']} bytes]"
    return str(result)[:4096]


def _moment(at: Json) -> str:
    return datetime.fromtimestamp(number(at)).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] if at else ""


def _after(at: Json, begin: Json) -> str:
    return f"{_moment(at)}  (+{show_age(number(at) - number(begin))})" if at else ""
