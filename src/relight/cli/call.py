"""`relight call APP/FUNCTION`: a deployed function, with its parameters as options."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import click

from relight.cli import parameters
from relight.cli.interrupts import leave_at_second_interrupt
from relight.cli.live import Live
from relight.cli.main import USER_CODE_FAILED
from relight.cli.tables import show_json
from relight.protocol.api import Await
from relight.protocol.calls import CallState, CallView
from relight.protocol.codec import from_plain
from relight.protocol.errors import InvalidRequest, NotFound, RelightError, error_of
from relight.protocol.manifest import Json, ParameterSpec
from relight.protocol.payload import JSON
from relight.sdk.connection import Connection, connect
from relight.sdk.session import FIRST_WAIT_SECONDS, Waiting

_FIRST_WAIT_SECONDS = 0.3
"""A call that ends sooner is not listened to: its lines are read when it has ended."""

_WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What of a call is shown: its lines while it runs (unless `quiet`), and in the end its value or all of it."""

    quiet: bool = False
    whole: bool = False


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
    on stderr while it runs.  Ctrl-C cancels it.

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
    said = _parse(body) if body is not None else _from_words(connection, path + where, target, words)
    taken = connection.json("POST", f"{path}/submit{where}", said)
    call_id = str(taken.get("id")) if isinstance(taken, dict) else ""
    if no_wait:
        click.echo(call_id)
        return 0
    return _show_call(connection, call_id, target, Shown(**shown))


def _show_call(connection: Connection, call_id: str, target: str, shown: Shown) -> int:
    live = None if shown.quiet else Live(connection, call_id)
    view = wait_end(connection, call_id, target, live)
    if live is not None:
        live.finish()
    if shown.whole:
        answer = connection.json("GET", f"/v1/calls/{call_id}")
        show_json(answer.get("call") if isinstance(answer, dict) else None)
        return 0 if view.state is CallState.SUCCEEDED else USER_CODE_FAILED
    return _show_end(connection, view)


def wait_end(connection: Connection, call_id: str, what: str, live: Live | None = None) -> CallView:
    """The call once it has ended; says why it waits, shows what it writes, and cancels it at Ctrl-C."""
    waiting = Waiting(what, lambda text: sys.stderr.write(text))
    seconds = _FIRST_WAIT_SECONDS
    try:
        while True:
            found = connection.wait(Await(ids=(call_id,), wait_seconds=seconds)).calls
            view = next((one for one in found if one.id == call_id), None)
            if view is None:
                raise NotFound(f"cannot find call {call_id}: this server does not know it")
            if view.state.is_final:
                return view
            if seconds >= FIRST_WAIT_SECONDS:
                waiting.tell(view.pending_reason)
            if live is not None:
                live.follow()
            seconds = FIRST_WAIT_SECONDS if seconds < FIRST_WAIT_SECONDS else _WAIT_SECONDS
    except KeyboardInterrupt:
        connection.cancel(call_id)
        click.echo(f"relight: told {call_id} to stop", err=True)
        raise


def _show_end(connection: Connection, view: CallView) -> int:
    failure = view.failure
    if view.state is not CallState.SUCCEEDED:
        if failure is None:
            raise RelightError(f"cannot give a result: the call {view.state.value}")
        if not failure.traceback:
            raise error_of(failure)
        click.echo(failure.traceback.rstrip("\n"), err=True)
        return USER_CODE_FAILED
    if view.result is None:
        return 0
    payload = connection.fetch(view.result) if view.result.format == JSON else view.result
    if payload.format != JSON or payload.data is None:
        click.echo(payload.preview)
        click.echo(
            f"relight: the result is a Python value, and this is its repr; read {view.id} with the SDK", err=True
        )
        return 0
    value: Json = json.loads(payload.data)
    if isinstance(value, str):
        click.echo(value)
    else:
        show_json(value)
    return 0


def _parse(body: str) -> Json:
    try:
        said: Json = json.loads(body)
    except ValueError as error:
        raise click.UsageError(f"--json is not JSON: {error}") from error
    return said


def _from_words(connection: Connection, path: str, target: str, words: tuple[str, ...]) -> Json:
    """The arguments that options say, by the signature that was deployed."""
    spec = connection.json("GET", path)
    method_name = target.partition("/")[2].partition(".")[2]
    methods = spec.get("methods") if isinstance(spec, dict) else None
    for method in methods if isinstance(methods, list) else []:
        if isinstance(method, dict) and method.get("name") == method_name:
            specs = method.get("parameters")
            known = [from_plain(one, ParameterSpec) for one in (specs if isinstance(specs, list) else [])]
            options = parameters.from_specs(known)
            found: dict[str, Any] = parameters.read_options(
                f"relight call {target}", options, words, str(method.get("doc") or "")
            )
            return {name: _plain(value) for name, value in found.items()}
    raise InvalidRequest(f"cannot call {target!r}: it has no such method; `relight apps` shows what is deployed")


def _plain(value: object) -> Json:
    plain: Json = json.loads(json.dumps(value, default=str))
    return plain
