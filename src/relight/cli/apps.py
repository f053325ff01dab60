"""`relight apps` and `relight stop`: what is deployed, and an end to it."""

from __future__ import annotations

from urllib.parse import quote

import click

from relight.cli.tables import number, objects, show_age, show_json, show_table
from relight.clock import SystemClock
from relight.sdk.connection import connect


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def apps(*, as_json: bool) -> None:
    """What is deployed where, runs included."""
    answer = connect().json("GET", "/v1/apps")
    if as_json:
        return show_json(answer)
    now = SystemClock().now()
    rows = []
    for row in objects(answer, "apps"):
        names = row["functions"]
        functions = ", ".join(map(str, names)) if isinstance(names, list) else ""
        age = show_age(now - number(row["deployed_at"]))
        rows.append((str(row["app"]), str(row["environment"]), functions, age, str(row["version"])))
    show_table(("APP", "ENVIRONMENT", "FUNCTIONS", "AGE", "VERSION"), rows, "nothing is deployed")


@click.command()
@click.argument("app")
@click.option("--environment", "-e", default="main", show_default=True, help="Where it is deployed.")
def stop(*, app: str, environment: str) -> None:
    """Stop APP: its name leads nowhere any more, its calls are cancelled, its workers leave."""
    path = f"/v1/apps/{quote(app, safe='')}/stop?environment={quote(environment, safe='')}"
    answer = connect().json("POST", path)
    count = answer.get("cancelled") if isinstance(answer, dict) else 0
    click.echo(f"stopped {app} in {environment}; {count} calls cancelled")
