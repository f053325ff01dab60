"""`relight calls`: calls, listed, shown with their whole story, made once more, and cancelled."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote

import click

from relight.cli.completion import CALLS
from relight.cli.endings import last_lines, show_ending
from relight.cli.main import Suggesting
from relight.cli.options import Moment, json_option
from relight.cli.past import connect_to
from relight.cli.tables import number, objects, show_age, show_duration, show_json, show_table
from relight.cli.timeline import Life, Step, timeline
from relight.clock import SystemClock
from relight.protocol.manifest import Json
from relight.sdk.connection import Connection, connect
from relight.sdk.requests import query

_RUN = click.option("--run", "run_id", help="The finished run to look into, on a server of its own (run-…).")
_CHILDREN = 20
_PAGE = 1000


@click.group(cls=Suggesting)
def calls() -> None:
    """List, show, retry and cancel calls.

    \b
    Example:
      relight calls list --app shop --state failed --since 1d
    """


@calls.command("list")
@click.option("--app", default="", help="Only calls of this app.")
@click.option("--environment", "-e", default="", help="Only those of this environment, or run.")
@click.option("--function", default="", help="Only those of this function.")
@click.option("--state", default="", help="Only those in this state.")
@click.option("--parent", default="", help="Only those that this call made.")
@click.option(
    "--kind", type=click.Choice(["call", "request"]), help="Only these: `request` are those that came over the web."
)
@click.option(
    "--since",
    type=Moment(SystemClock().now),
    default=0.0,
    metavar="2h",
    help="Only those submitted since: 15m, 2h, 3d, or a time.",
)
@click.option(
    "--limit", "-n", default=50, show_default=True, type=click.IntRange(1, 1000), help="How many, newest first."
)
@json_option
@_RUN
def list_calls(*, as_json: bool, run_id: str | None, since: float, **fields: str | int) -> None:
    """Show calls, newest first.

    \b
    Example:
      relight calls list --function square --since 2h
    """
    asked = {**fields, "kind": fields["kind"] or "", "since": f"{since:.3f}" if since else ""}
    with connect_to(run_id) as connection:
        answer = connection.json("GET", f"/v1/calls{query(asked)}")
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
            str(row["pending_reason"] or _asked(row) or _why(row)),
        )
        for row in objects(answer, "calls")
    ]
    show_table(("CALL", "FUNCTION", "STATE", "AGE", "ATTEMPTS", "WHY"), rows, "no calls")


@calls.command()
@click.argument("call_id", metavar="CALL", shell_complete=CALLS)
@json_option
@_RUN
def show(*, call_id: str, as_json: bool, run_id: str | None) -> None:
    """Tell all of one call: where it stands and why, and what happened to it, with how long each part took.

    \b
    Example:
      relight calls show call-01kb3d…
    """
    with connect_to(run_id) as connection:
        answer = connection.json("GET", f"/v1/calls/{quote(call_id, safe='')}")
        children = connection.json("GET", f"/v1/calls{query({'parent': call_id, 'limit': _CHILDREN})}")
    detail = answer if isinstance(answer, dict) else {}
    call = detail.get("call")
    if not isinstance(call, dict):
        return
    start = detail.get("start")
    life = Life(intervals=objects(detail, "worker_intervals"), start=start if isinstance(start, dict) else None)
    steps = timeline(call, objects(detail, "attempts"), life)
    if as_json:
        told: list[Json] = [_plain(step) for step in steps]
        return show_json({**detail, "children": list(objects(children, "calls")), "timeline": told})
    _show_call(call)
    _show_steps(steps)
    _show_children(objects(children, "calls"))
    failure = call["failure"]
    if isinstance(failure, dict) and failure["traceback"]:
        click.echo(f"\n{str(failure['traceback']).rstrip()}")
    if last_lines(_exit(call)):
        click.echo("\nits worker's last lines")
        for line in last_lines(_exit(call)):
            click.echo(f"  {line}")


@calls.command()
@click.argument("call_ids", metavar="CALL...", nargs=-1, required=True, shell_complete=CALLS)
@json_option
def retry(*, call_ids: tuple[str, ...], as_json: bool) -> None:
    """Make calls once more: the same input, to the function as it is deployed now.  Prints the new ids.

    \b
    Example:
      relight calls retry call-01kb3d…
    """
    connection = connect()
    made: list[Json] = []
    for call_id in call_ids:
        answer = connection.json("POST", f"/v1/calls/{quote(call_id, safe='')}/retry")
        new = str(answer.get("id")) if isinstance(answer, dict) else ""
        made.append({"id": new, "retry_of": call_id})
        if not as_json:
            click.echo(new)
    if as_json:
        show_json({"calls": made})


@calls.command()
@click.argument("call_ids", metavar="[CALL...]", nargs=-1, shell_complete=CALLS)
@click.option("--all", "-a", "takes_all", is_flag=True, help="All that wait or run, of --app and --function if given.")
@click.option("--app", default="", help="With --all: only calls of this app.")
@click.option("--function", default="", help="With --all: only calls of this function.")
@json_option
def cancel(*, call_ids: tuple[str, ...], takes_all: bool, app: str, function: str, as_json: bool) -> None:
    """Cancel calls; those that have ended stay as they ended.

    \b
    Example:
      relight calls cancel --all --app shop
    """
    if bool(call_ids) == takes_all:
        raise click.UsageError("name the calls to cancel, or say --all")
    if (app or function) and not takes_all:
        raise click.UsageError("--app and --function narrow --all; name calls or say --all")
    connection = connect()
    found: list[Json] = []
    for call_id in call_ids or _unfinished(connection, app, function):
        answer = connection.json("POST", f"/v1/calls/{quote(call_id, safe='')}/cancel")
        state = str(answer.get("state")) if isinstance(answer, dict) else ""
        found.append({"id": call_id, "state": state})
        if not as_json:
            click.echo(f"{call_id}  {'told to stop' if state in ('queued', 'running') else state}")
    if as_json:
        show_json({"calls": found})
    elif not found:
        click.echo("nothing waits or runs", err=True)


def _unfinished(connection: Connection, app: str, function: str) -> list[str]:
    """The ids of all that waits or runs, oldest first: what was asked first is not started while others are told."""
    found: set[str] = set()
    for state in ("running", "queued"):
        before, is_more = "", True
        while is_more:
            asked: dict[str, str | int] = {"app": app, "function": function, "state": state, "limit": _PAGE}
            page = objects(connection.json("GET", f"/v1/calls{query({**asked, 'before': before})}"), "calls")
            found.update(str(row["id"]) for row in page)
            before = str(page[-1]["id"]) if page else ""
            is_more = len(page) == _PAGE
    return sorted(found)


def _show_call(call: dict[str, Json]) -> None:
    lines = [
        ("call", call["id"]),
        ("function", f"{call['app']}/{_callee(call)}  in {call['environment']}, version {call['version']}"),
        ("state", call["state"]),
        ("request", _asked(call)),
        ("from", _request(call).get("client", "")),
        ("reason", call["pending_reason"]),
        ("attempts", call["attempts"]),
        ("worker", call["worker"]),
        ("parent", call["parent"]),
        ("group", call["group"]),
        ("result", _result(call)),
        ("failure", _why(call)),
        ("exit", show_ending(_exit(call))),
    ]
    for name, value in lines:
        if value not in ("", None):
            click.echo(f"{name:10}{value}")


def _show_steps(steps: list[Step]) -> None:
    click.echo("\ntimeline")
    for step in steps:
        seconds = step.seconds
        took = "" if seconds == 0 and step.until == step.at else "…" if seconds is None else show_duration(seconds)
        indent = "  " * step.level
        click.echo(f"  {_moment(step.at)}  {indent + step.what:12} {took:>8}  {step.detail}".rstrip())


def _show_children(children: list[dict[str, Json]]) -> None:
    if not children:
        return
    is_more = " (the newest)" if len(children) == _CHILDREN else ""
    click.echo(f"\nit called{is_more}")
    for child in children:
        click.echo(f"  {child['id']}  {child['app']}/{_callee(child)}  {child['state']}")


def _plain(step: Step) -> dict[str, Json]:
    return {"at": step.at, "until": step.until, "what": step.what, "detail": step.detail, "level": step.level}


def _callee(call: dict[str, Json]) -> str:
    return f"{call['function']}.{call['method']}" if call["method"] else str(call["function"])


def _request(call: dict[str, Json]) -> dict[str, Json]:
    """What it asked over the web; nothing where it did not."""
    request = call.get("request")
    return request if isinstance(request, dict) else {}


def _asked(call: dict[str, Json]) -> str:
    """A web request, what it was answered, and how long that took."""
    request = _request(call)
    if not request:
        return ""
    took = show_duration(number(call["ended_at"]) - number(call["submitted_at"]))
    return f"{request['verb']} {request['path']}  {request['status'] or 'no answer'} in {took}"


def _why(call: dict[str, Json]) -> str:
    failure = call["failure"]
    if not isinstance(failure, dict):
        return ""
    said = str(failure["message"] or failure["code"]).partition("\n")[0]
    kind = str(failure["exception"])
    return said if said.startswith(kind) else f"{kind}: {said}"


def _exit(call: dict[str, Json]) -> Json:
    """How its worker ended, where that ended over it."""
    failure = call["failure"]
    return failure.get("exit") if isinstance(failure, dict) else None


def _result(call: dict[str, Json]) -> str:
    result = call["result"]
    if not call["result_format"]:
        return ""
    if isinstance(result, dict) and result.get("format") == call["result_format"]:
        return f"{result['preview'] or '(no preview)'}  [{result['format']}, {result['size']} bytes]"
    return str(result)[:4096]


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
