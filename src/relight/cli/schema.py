"""`relight schema`: what a function takes and gives, of a file or of what is deployed."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from relight.cli import failures
from relight.cli.files import find, outline_of, split_target
from relight.cli.tables import show_json
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Json, MethodSpec
from relight.sdk.connection import connect
from relight.sdk.files import load
from relight.sdk.options import method_of


@click.command()
@click.argument("target", metavar="FILE[::NAME] | APP/FUNCTION")
@click.option("--environment", "-e", default="main", show_default=True, help="Where it is deployed.")
def schema(target: str, environment: str) -> int:
    """Print what a function takes and gives, as JSON Schema.

    \b
    Example:
      relight schema studio.py::draw
      relight schema studio/draw
    """
    if ".py" in target and Path(target.partition("::")[0]).is_file():
        return _show_local(target)
    app, slash, function = target.partition("/")
    if not (app and slash and function):
        raise click.UsageError(
            f"{target!r} is neither a file here nor APP/FUNCTION; `relight apps` shows what is deployed"
        )
    path = f"/v1/apps/{quote(app, safe='')}/functions/{quote(function, safe='')}/schema"
    show_json(connect().json("GET", f"{path}?environment={quote(environment, safe='')}"))
    return 0


def _show_local(target: str) -> int:
    path, name = split_target(target)
    with failures.of_user_code(path) as outcome:
        module = load(path, stops_at_run=outline_of(path).is_script)
    if outcome.has_failed:
        return outcome.code
    found = find(module, name)
    if found.is_local:
        raise InvalidRequest(
            f"cannot show a schema of {found.name!r}: it is a local entrypoint, which nobody calls; name a function"
        )
    raw = getattr(found.function, "raw", found.function)
    show_json(_document(found.app.name, found.name, method_of(raw, is_bound="." in found.name)))
    return 0


def _document(app: str, function: str, method: MethodSpec) -> dict[str, Json]:
    """As the server says it of what is deployed."""
    return {
        "app": app,
        "function": function,
        "description": method.doc,
        "input": method.input_schema,
        "output": method.output_schema,
        "streams": method.is_generator,
    }
