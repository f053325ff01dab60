"""`relight logs`: what workers wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import click

from relight.cli.options import Moment, json_option
from relight.cli.past import connect_to, has_folder
from relight.cli.tables import number
from relight.clock import SystemClock
from relight.protocol.manifest import Json
from relight.sdk.connection import Connection
from relight.sdk.requests import query

DEFAULT_TAIL = 1000
_PAGE = 5000
_SOURCES = click.Choice(["stdout", "stderr", "system"])
_MOMENT = Moment(SystemClock().now)

Fields = dict[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """How lines are shown."""

    as_json: bool
    timestamps: bool
    prefix: bool


@click.command()
@click.argument("what", default="", metavar="[WHAT]")
@click.option("--call", default="", help="Only what this call wrote.")
@click.option("--app", default="", help="Only what this app wrote.")
@click.option("--environment", "-e", default="", help="Only what was written in this environment, or run.")
@click.option("--function", default="", help="Only what this function wrote.")
@click.option("--worker", default="", help="Only what this worker wrote.")
@click.option("--source", type=_SOURCES, help="Only this; `system` is what relight says of a worker.")
@click.option("--search", default="", help="Only lines that hold this text.")
@click.option("--ignore-case", "-i", is_flag=True, help="Search in either case.")
@click.option(
    "--since", type=_MOMENT, default=0.0, metavar="10m", help="Only from then on: 10m, 2h, 3d ago, or a time."
)
@click.option("--until", type=_MOMENT, default=0.0, metavar="10m", help="Only up to then: 10m, 2h, 3d ago, or a time.")
@click.option(
    "--tail",
    "-n",
    type=click.IntRange(0, 10_000),
    help=f"So many, the newest; 0: all.  {DEFAULT_TAIL} when neither a call nor --since is given.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on with each line as it comes.")
@click.option("--timestamps", "-t", is_flag=True, help="Begin each line with its time.")
@click.option("--prefix", is_flag=True, help="Begin each line with its function and its call, or its worker.")
@json_option
@click.option("--run", "run_id", help="The finished run to look into, on a server of its own (run-…).")
def logs(
    *,
    what: str,
    tail: int | None,
    since: float,
    until: float,
    follow: bool,
    as_json: bool,
    timestamps: bool,
    prefix: bool,
    run_id: str | None,
    **fields: str | int,
) -> None:
    """Show what workers wrote, oldest first; what they wrote to stderr goes to stderr.

    WHAT is a call, a web request, a worker, a run, an app, or APP/FUNCTION.

    \b
    Example:
      relight logs shop/square --follow
      relight logs --search timeout --since 2h --timestamps
    """
    asked: Fields = {
        **fields,
        "source": fields["source"] or "",
        "since": _exact(since),
        "until": _exact(until),
        "ignore_case": int(fields["ignore_case"]),
    }
    run_id = _narrow(asked, what, run_id)
    if tail is None:
        tail = 0 if asked["call"] or since else DEFAULT_TAIL
    look = _Look(as_json=as_json, timestamps=timestamps, prefix=prefix)
    with connect_to(run_id) as connection:
        for line in _lines(connection, {**asked, "tail": tail}, follow=follow):
            _show(line, look)


def _narrow(asked: Fields, what: str, run_id: str | None) -> str | None:
    """Put WHAT among what is asked for; the finished run to look into, if it is one."""
    kind = what.partition("-")[0] if "/" not in what else ""
    if kind == "run" and has_folder(what):
        return what
    names = {"call": "call", "req": "call", "worker": "worker", "run": "environment"}
    if kind in names:
        asked[names[kind]] = what
    elif what:
        app, _, function = what.partition("/")
        asked.update({"app": app, "function": function or asked["function"]})
    return run_id


def _lines(connection: Connection, asked: Fields, *, follow: bool) -> Iterator[Json]:
    if follow:
        yield from connection.lines(f"/v1/logs{query({**asked, 'follow': 1})}")
        return
    if asked["tail"]:
        yield from connection.lines(f"/v1/logs{query(asked)}")
        return
    after, is_more = 0, True
    while is_more:
        page = list(connection.lines(f"/v1/logs{query({**asked, 'after': after, 'limit': _PAGE})}"))
        yield from page
        last = page[-1] if page else None
        after = int(number(last["id"])) if isinstance(last, dict) else 0
        is_more = len(page) == _PAGE


def _show(line: Json, look: _Look) -> None:
    if look.as_json:
        click.echo(json.dumps(line, ensure_ascii=False))
        return
    if not isinstance(line, dict):
        return
    before = ""
    if look.timestamps:
        before += datetime.fromtimestamp(number(line["at"])).astimezone().isoformat(timespec="milliseconds") + " "
    if look.prefix:
        before += f"[{line['function']} {line['call'] or line['worker']}] "
    click.echo(f"{before}{line['text']}", err=line["source"] != "stdout")


def _exact(at: float) -> str:
    return f"{at:.3f}" if at else ""
