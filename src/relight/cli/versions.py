"""`relight versions`, `diff`, `rollback`, `promote` and `canary`: what was deployed when, and ways from one to another."""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import quote

import click

from relight.cli.completion import APPS
from relight.cli.options import json_option
from relight.cli.tables import number, objects, show_age, show_json, show_table
from relight.clock import SystemClock, now_ms
from relight.protocol.ids import new_id
from relight.protocol.manifest import Json
from relight.sdk.connection import connect
from relight.sdk.requests import query

_environment = click.option("--environment", "-e", default="main", show_default=True, help="Where it is deployed.")
_app = click.argument("app", shell_complete=APPS)


@click.command()
@_app
@_environment
@json_option
def versions(*, app: str, environment: str, as_json: bool) -> None:
    """Show the versions of APP: when each was deployed, by whom, of which commit, and how many of the calls lead to it.

    Below, of each that is or was a shadow: how the copies of calls that it got went, beside the calls themselves in brackets.

    \b
    Example:
      relight versions shop --environment staging
    """
    answer = connect().json("GET", _path(app, "versions", environment=environment))
    if as_json:
        return show_json(answer)
    now = SystemClock().now()
    rows = [
        (
            str(row["number"]),
            _part(row),
            show_age(now - number(row["at"])),
            str(row["made_by"]),
            str(row["commit"])[:12],
            " ".join(f"{name}={value}" for name, value in _pairs(row["tags"])),
            str(row["id"]) + (f" (from {row['source']})" if row["source"] else ""),
        )
        for row in reversed(objects(answer, "versions"))
    ]
    show_table(("NUMBER", "CALLS", "AGE", "BY", "COMMIT", "TAGS", "VERSION"), rows, "nothing was deployed")
    shadows = [(str(row["number"]), one) for row in objects(answer, "versions") for one in objects(row, "shadow")]
    if shadows:
        click.echo()
        show_table(_SHADOW, [_shadow_row(version, one) for version, one in shadows], "")


@click.command()
@_app
@click.argument("before", default="")
@click.argument("after", default="")
@_environment
@json_option
def diff(*, app: str, before: str, after: str, environment: str, as_json: bool) -> None:
    """Show what version AFTER of APP changes beside BEFORE: the last beside the one before it, unless they are given.

    \b
    Example:
      relight diff shop 3 5
    """
    answer = connect().json("GET", _path(app, "diff", environment=environment, before=before, after=after))
    if as_json:
        return show_json(answer)
    show_changes(objects(answer, "changes"))


@click.command()
@_app
@click.argument("to", default="")
@_environment
@json_option
def rollback(*, app: str, to: str, environment: str, as_json: bool) -> None:
    """Lead the calls of APP back: to version TO, or else to the one that served before; a canary is taken back first.

    \b
    Example:
      relight rollback shop
    """
    answer = connect().json("POST", _path(app, "rollback", environment=environment, to=to))
    if as_json:
        return show_json(answer)
    if isinstance(answer, dict):
        click.echo(f"{app} in {environment} is at version {answer['number']} again ({answer['id']})")


@click.command()
@_app
@click.option("--from", "source", default="staging", show_default=True, help="Where it serves now.")
@click.option("--to", "environment", default="main", show_default=True, help="Where it is to serve.")
@json_option
def promote(*, app: str, source: str, environment: str, as_json: bool) -> None:
    """Deploy what serves APP in one environment to another: the same code and options, loaded there first.

    \b
    Example:
      relight promote shop --from staging --to main
    """
    path = _path(app, "promote", **{"from": source}, environment=environment, id=new_id("version", now_ms()))
    connection = connect()
    while True:  # it is loaded first, which may take longer than one answer does
        answer = connection.json("POST", path)
        if not isinstance(answer, dict) or answer["is_live"]:
            break
    if as_json:
        return show_json(answer)
    if isinstance(answer, dict):
        was = f", in place of {answer['replaced']}" if answer["replaced"] else ""
        click.echo(f"promoted {app} from {source} to {environment} as {answer['version']}{was}")


@click.command()
@_app
@click.argument("percent", type=click.FloatRange(0, 100))
@_environment
@json_option
def canary(*, app: str, percent: float, environment: str, as_json: bool) -> None:
    """Lead PERCENT of the calls of APP to its canary: 100 makes it the version that serves, 0 ends it.

    \b
    Example:
      relight deploy shop.py --canary 10
      relight canary shop 50
    """
    answer = connect().json("POST", _path(app, "canary", environment=environment, percent=f"{percent:g}"))
    if as_json:
        return show_json(answer)
    if isinstance(answer, dict) and answer["canary"]:
        rest = 100 - number(answer["canary_percent"])
        click.echo(f"{answer['canary_percent']:g} % to {answer['canary']}, {rest:g} % to {answer['version']}")
    elif isinstance(answer, dict):
        click.echo(f"all calls of {app} in {environment} lead to {answer['version']}")


_SHADOW = ("SHADOW", "FUNCTION", "COPIES", "ENDED", "FAILED", "DIFFERED", "P50", "P99", "DROPPED")


def _part(row: dict[str, Json]) -> str:
    """How many of the calls lead to a version, or are copied to it."""
    if row["shadow_percent"]:
        return f"copies of {number(row['shadow_percent']):g}%"
    return f"{number(row['percent']):g}%" if row["percent"] else ""


def _shadow_row(version: str, one: dict[str, Json]) -> tuple[str, ...]:
    """How the copies of one function went; in brackets how the calls themselves did."""
    failures = ", ".join(f"{code} {count}" for code, count in _pairs(one["failures"]))
    times = [
        f"{1000 * number(one[name]):.1f} ms ({1000 * number(one[f'{name}_before']):.1f})"
        for name in ("p50_seconds", "p99_seconds")
    ]
    return (
        version,
        str(one["function"]),
        str(one["copies"]),
        str(one["ended"]),
        f"{one['failed']} ({failures})" if failures else str(one["failed"]),
        f"{one['differed']} of {one['compared']}",
        *times,
        str(one["dropped"]),
    )


def show_changes(rows: Iterable[dict[str, Json]]) -> None:
    """A line for each thing that differs."""
    lines = [_said(row) for row in rows]
    for line in lines:
        click.echo(line)
    if not lines:
        click.echo("nothing changes")


def _said(row: dict[str, Json]) -> str:
    function, field = str(row["function"]), str(row["field"])
    if not field:
        return f"+ {function}" if row["after"] else f"- {function}"
    name = f"{function}.{field}" if function else field
    return f"~ {name}: {_value(row['before'])} → {_value(row['after'])}"


def _value(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:99]}…"


def _pairs(value: Json) -> list[tuple[str, str]]:
    return [(str(one[0]), str(one[1])) for one in value if isinstance(one, list)] if isinstance(value, list) else []


def _path(app: str, what: str, **parameters: str) -> str:
    given = query({name: value for name, value in parameters.items() if value})
    return f"/v1/apps/{quote(app, safe='')}/{what}{given}"
