"""`relight apps` and `relight stop`: what is deployed, and an end to it."""

from __future__ import annotations

from urllib.parse import quote

import click

from relight.cli.completion import APPS
from relight.cli.options import json_option
from relight.cli.tables import number, objects, show_age, show_json, show_table
from relight.clock import SystemClock
from relight.sdk.connection import connect


@click.command()
@json_option
def apps(*, as_json: bool) -> None:
    """Show what is deployed where, runs included, with its workers and how many calls wait and run.

    \b
    Example:
      relight apps
    """
    answer = connect().json("GET", "/v1/apps")
    if as_json:
        return show_json(answer)
    now = SystemClock().now()
    rows = []
    for row in objects(answer, "apps"):
        names = row["functions"]
        functions = ", ".join(map(str, names)) if isinstance(names, list) else ""
        counts = tuple(str(row.get(name, "")) for name in ("workers", "queued", "running"))
        age = show_age(now - number(row["deployed_at"]))
        rows.append((str(row["app"]), str(row["environment"]), functions, *counts, age, str(row["version"])))
    columns = ("APP", "ENVIRONMENT", "FUNCTIONS", "WORKERS", "QUEUED", "RUNNING", "AGE", "VERSION")
    show_table(columns, rows, "nothing is deployed")


@click.command()
@click.argument("app", shell_complete=APPS)
@click.option("--environment", "-e", default="main", show_default=True, help="Where it is deployed.")
@json_option
def stop(*, app: str, environment: str, as_json: bool) -> None:
    """Stop APP: its name leads nowhere any more, its calls are cancelled, its workers leave.

    \b
    Example:
      relight stop shop --environment staging
    """
    path = f"/v1/apps/{quote(app, safe='')}/stop?environment={quote(environment, safe='')}"
    answer = connect().json("POST", path)
    count = answer.get("cancelled") if isinstance(answer, dict) else 0
    if as_json:
        return show_json({"app": app, "environment": environment, "cancelled": count})
    click.echo(f"stopped {app} in {environment}; {count} calls cancelled")
