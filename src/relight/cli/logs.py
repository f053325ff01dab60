"""`relight logs`: what workers wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from relight.cli.past import connect_to
from relight.cli.tables import number
from relight.protocol.manifest import Json
from relight.sdk.connection import Connection
from relight.sdk.requests import query

_PAGE = 1000


@click.command()
@click.option("--call", default="", help="Only what this call wrote.")
@click.option("--app", default="", help="Only what this app wrote.")
@click.option("--environment", "-e", default="", help="Only what was written in this environment, or run.")
@click.option("--function", default="", help="Only what this function wrote.")
@click.option("--worker", default="", help="Only what this worker wrote.")
@click.option("--search", default="", help="Only lines that hold this text.")
@click.option("--follow", "-f", is_flag=True, help="Go on with each line as it comes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--run", "run_id", help="The finished run to look into, on a server of its own (run-…).")
def logs(*, follow: bool, as_json: bool, run_id: str | None, **fields: str | int) -> None:
    """Show what workers wrote, oldest first; what they wrote to stderr goes to stderr.

    \b
    Example:
      relight logs --function square --follow
    """
    with connect_to(run_id) as connection:
        for line in _lines(connection, fields, follow=follow):
            if as_json:
                click.echo(json.dumps(line, ensure_ascii=False))
            elif isinstance(line, dict):
                click.echo(str(line["text"]), err=line["source"] != "stdout")


def _lines(connection: Connection, fields: dict[str, str | int], *, follow: bool) -> Iterator[Json]:
    if follow:
        yield from connection.lines(f"/v1/logs{query({**fields, 'follow': 1})}")
        return
    after, is_more = 0, True
    while is_more:
        page = list(connection.lines(f"/v1/logs{query({**fields, 'after': after, 'limit': _PAGE})}"))
        yield from page
        last = page[-1] if page else None
        after = int(number(last["id"])) if isinstance(last, dict) else 0
        is_more = len(page) == _PAGE
