"""`relight call APP/FUNCTION`: a deployed function, with its parameters as options."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote

import click

from relight.cli import parameters
from relight.cli.interrupts import leave_at_second_interrupt
from relight.cli.live import Live
from relight.cli.main import USER_CODE_FAILED
from relight.cli.results import Watch, print_end
from relight.cli.tables import show_json
from relight.protocol.calls import CallState
from relight.protocol.codec import from_plain
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Json, MethodSpec
from relight.sdk.connection import Connection, connect


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What of a call is shown: its lines (unless `quiet`), its `items` as they come, in the end its value or the `whole`."""

    quiet: bool = False
    whole: bool = False
    items: bool = False


@click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("target", metavar="APP/FUNCTION", required=False)
@click.argument("words", metavar="[--ARGUMENT VALUE]...", nargs=-1, type=click.UNPROCESSED)
@click.option("--environment", "-e", default="main", show_default=True, help="Where it is deployed.")
@click.option("--json", "body", help="All arguments: an object by name, an array by position.")
@click.option("--no-wait", is_flag=True, help="Print the call's id rather than its result.")
@click.option("--quiet", "-q", is_flag=True, help="Do not show what the call writes while it runs.")
@click.option("--whole", is_flag=True, help="Print the whole call as JSON, however it ended (docs/cli-json.md).")
@click.pass_context
def call(
    context: click.Context,
    /,
    target: str | None,
    words: tuple[str, ...],
    environment: str,
    body: str | None,
    no_wait: bool,
    **shown: bool,
) -> int:
    """Call a deployed function (or a method, APP/Reader.read) and print its result as JSON; text as it is.

    The function's parameters are options: `relight call APP/FUNCTION --help` shows them.  What the call writes is shown
    on stderr while it runs; what a generator yields is printed as it does, an item a line.  Ctrl-C cancels it.

    \b
    Example:
      relight call shop/square --x 7
    """
    if target is None or target in ("-h", "--help"):
        click.echo(context.get_help())
        return 0
    app, slash, function = target.partition("/")
    if not (app and slash and function):
        raise click.UsageError(f"{target!r} is not APP/FUNCTION; `relight apps` shows them")
    leave_at_second_interrupt()
    connection = connect()
    path = f"/v1/apps/{quote(app, safe='')}/functions/{quote(function, safe='')}"
    where = f"?environment={quote(environment, safe='')}"
    if body is not None and words:
        raise click.UsageError("give the arguments as options or as --json, not both")
    method = _method_of(connection.json("GET", path + where), target)
    said = _parse(body) if body is not None else _from_words(method, target, words)
    taken = connection.json("POST", f"{path}/submit{where}", said)
    call_id = str(taken.get("id")) if isinstance(taken, dict) else ""
    if no_wait:
        click.echo(call_id)
        return 0
    return _show_call(connection, call_id, target, Shown(**shown, items=method.is_generator))


def _show_call(connection: Connection, call_id: str, target: str, shown: Shown) -> int:
    watch = Watch(connection, call_id, target, None if shown.quiet else Live(connection, call_id))
    view = watch.print_items() if shown.items and not shown.whole else watch.wait()
    if shown.whole:
        answer = connection.json("GET", f"/v1/calls/{call_id}")
        show_json(answer.get("call") if isinstance(answer, dict) else None)
        return 0 if view.state is CallState.SUCCEEDED else USER_CODE_FAILED
    if shown.items and view.state is CallState.SUCCEEDED:
        return 0
    return print_end(connection, view)


def _parse(body: str) -> Json:
    try:
        said: Json = json.loads(body)
    except ValueError as error:
        raise click.UsageError(f"--json is not JSON: {error}") from error
    return said


def _method_of(spec: Json, target: str) -> MethodSpec:
    """The method that is called, as it was deployed."""
    name = target.partition("/")[2].partition(".")[2]
    methods = spec.get("methods") if isinstance(spec, dict) else None
    for method in methods if isinstance(methods, list) else []:
        if isinstance(method, dict) and method.get("name") == name:
            return from_plain(method, MethodSpec)
    raise InvalidRequest(f"cannot call {target!r}: it has no such method; `relight apps` shows what is deployed")


def _from_words(method: MethodSpec, target: str, words: tuple[str, ...]) -> Json:
    """The arguments that options say, by the signature that was deployed."""
    options = parameters.from_method(method)
    return parameters.as_json(parameters.read_options(f"relight call {target}", options, words, method.doc))
