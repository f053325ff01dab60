"""`relight queue`: what waits of a function, and to hold it, drop it, or make once more what came to nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from relight.cli.completion import APPS
from relight.cli.main import Suggesting
from relight.cli.options import json_option
from relight.cli.tables import number, objects, show_age, show_json, show_table
from relight.clock import SystemClock
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Json
from relight.sdk.connection import connect
from relight.sdk.requests import query, quoted

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=Suggesting)
def queue() -> None:
    """Show, pause, resume and purge what waits of a function, and rerun what came to nothing.

    \b
    Example:
      relight queue show shop/square
    """


def _of_function(command: F) -> F:
    """The argument and the options that all of these have."""
    environment = click.option("--environment", "-e", default="main", show_default=True, help="Where it is deployed.")
    return click.argument("what", metavar="APP/FUNCTION", shell_complete=APPS)(environment(json_option(command)))


def _ask(method: str, what: str, environment: str, verb: str = "", **more: int) -> Json:
    app, _, function = what.partition("/")
    if not function:
        raise InvalidRequest(f"cannot look at the queue of {what!r}: it names no function; write APP/FUNCTION")
    path = f"/v1/apps/{quoted(app)}/functions/{quoted(function)}/queue{verb}"
    return connect().json(method, path + query({"environment": environment, **more}))


@queue.command()
@_of_function
def show(*, what: str, environment: str, as_json: bool) -> None:
    """Show how many calls wait, with which priorities and for what.

    \b
    Example:
      relight queue show shop/square
    """
    _show(what, _ask("GET", what, environment), as_json=as_json)


@queue.command()
@_of_function
def pause(*, what: str, environment: str, as_json: bool) -> None:
    """Let no call begin; those that run go on, and new ones are taken and wait.

    \b
    Example:
      relight queue pause shop/square
    """
    _show(what, _ask("POST", what, environment, "/pause"), as_json=as_json)


@queue.command()
@_of_function
def resume(*, what: str, environment: str, as_json: bool) -> None:
    """Let calls begin again.

    \b
    Example:
      relight queue resume shop/square
    """
    _show(what, _ask("POST", what, environment, "/resume"), as_json=as_json)


@queue.command()
@_of_function
def purge(*, what: str, environment: str, as_json: bool) -> None:
    """Cancel all calls that wait; those that run go on.

    \b
    Example:
      relight queue purge shop/square
    """
    answer = _ask("POST", what, environment, "/purge")
    if as_json:
        return show_json(answer)
    click.echo(f"{answer['cancelled'] if isinstance(answer, dict) else 0} calls cancelled")


@queue.command()
@click.option(
    "--limit", "-n", default=50, show_default=True, type=click.IntRange(1, 1000), help="How many, oldest first."
)
@_of_function
def dead(*, what: str, environment: str, limit: int, as_json: bool) -> None:
    """Show the calls that failed for good, timed out or expired, and were not made once more.

    \b
    Example:
      relight queue dead shop/square
    """
    answer = _ask("GET", what, environment, "/dead", limit=limit)
    if as_json:
        return show_json(answer)
    now = SystemClock().now()
    rows = []
    for row in objects(answer, "calls"):
        failure = row["failure"]
        why = str(failure["message"]).partition("\n")[0] if isinstance(failure, dict) else ""
        rows.append(
            (str(row["id"]), str(row["state"]), show_age(now - number(row["ended_at"])), str(row["attempts"]), why)
        )
    show_table(("CALL", "STATE", "ENDED", "ATTEMPTS", "WHY"), rows, "no dead calls")
    if isinstance(answer, dict) and number(answer["dead"]) > len(rows):
        click.echo(f"{len(rows)} of {answer['dead']}", err=True)


@queue.command()
@click.option(
    "--limit", "-n", default=10_000, show_default=True, type=click.IntRange(1, 10_000), help="How many at most."
)
@_of_function
def rerun(*, what: str, environment: str, limit: int, as_json: bool) -> None:
    """Make these calls once more, the oldest first, to the function as it is deployed now; print the new ids.

    \b
    Example:
      relight queue rerun shop/square
    """
    answer = _ask("POST", what, environment, "/rerun", limit=limit)
    if as_json:
        return show_json(answer)
    made = answer["calls"] if isinstance(answer, dict) else None
    for call in made if isinstance(made, list) else ():
        click.echo(call)


def _show(what: str, answer: Json, *, as_json: bool) -> None:
    if as_json:
        return show_json(answer)
    if not isinstance(answer, dict):
        return
    paused = "; paused" if answer["is_paused"] else ""
    click.echo(f"{what}: {answer['waiting']} calls wait, {answer['running']} run, {answer['dead']} dead{paused}")
    for title, field in (("PRIORITY", "priorities"), ("WAITS FOR", "reasons")):
        counts = answer[field]
        if isinstance(counts, dict) and counts:
            click.echo()
            show_table((title, "CALLS"), [(str(name), str(count)) for name, count in counts.items()], "")
