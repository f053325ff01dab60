"""What `relight deploy` says of each function's template: that it is ready, being made, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import click

from relight.cli.tables import number, objects
from relight.protocol.manifest import Json
from relight.protocol.templates import TemplateState
from relight.sdk.connection import connect
from relight.sdk.requests import query

WAIT_SECONDS = 2
"""So long a deploy waits to hear what became of its templates; they are made whether it hears or not."""

Row = dict[str, Json]


def templates_of(app: str, environment: str, version: str) -> list[Row]:
    """What became of a version's templates, after WAIT_SECONDS at most; nothing where another was deployed meanwhile."""
    asked = query({"environment": environment, "wait": WAIT_SECONDS})
    answer = connect().json("GET", f"/v1/apps/{quote(app, safe='')}/templates{asked}")
    return objects(answer, "templates") if isinstance(answer, dict) and answer["version"] == version else []


def show_templates(rows: Sequence[Row]) -> None:
    """One line for each function; a module that cannot be imported is a warning, on stderr."""
    width = max((len(str(row["function"])) for row in rows), default=0)
    for row in rows:
        code, _, sentence = str(row["why"]).partition(": ")
        name = str(row["function"]).ljust(width)
        if code == "failed":
            click.echo(f"warning: workers of {row['function']} do not start: {sentence}", err=True)
        else:
            click.echo(f"  {name}  {_said(row)}")


def _said(row: Row) -> str:
    if row["state"] == TemplateState.READY.value:
        return f"template ready in {number(row['seconds']):.1f} s ({number(row['memory_mib']):.0f} MiB)"
    if row["state"] == TemplateState.MAKING.value:
        return f"no template yet: {row['why']}" if row["why"] else "template is being made"
    return f"no template: {row['why']}"
