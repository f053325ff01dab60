"""`relight git`: branches whose pushes are deployed."""

from __future__ import annotations

import sys
from urllib.parse import quote

import click

from relight.cli.main import Suggesting
from relight.cli.options import json_option
from relight.cli.tables import number, objects, show_age, show_json, show_table
from relight.clock import SystemClock
from relight.protocol.manifest import Json
from relight.sdk.connection import connect


@click.group(cls=Suggesting)
def git() -> None:
    """Deploy what is pushed to a branch: fetched, loaded in a sandbox first, and led to once it loads.

    \b
    Example:
      relight git add https://github.com/me/shop.git --file shop.py
    """


@git.command()
@click.argument("url")
@click.option("--branch", default="main", show_default=True, help="Whose pushes are deployed.")
@click.option("--file", default="app.py", show_default=True, help="The app's file, from the repository's top.")
@click.option("--environment", "-e", default="main", show_default=True, help="Where to deploy it.")
@click.option(
    "--status-url", default="", help="Where each commit's status is told; {commit} in it stands for the commit."
)
@click.option("--status-token", is_flag=True, help="Read the token for that from standard input.")
@json_option
def add(
    *, url: str, branch: str, file: str, environment: str, status_url: str, status_token: bool, as_json: bool
) -> None:
    """Deploy each push to a branch of the repository at URL, and print what its webhook needs.

    \b
    Example:
      relight git add https://github.com/me/shop.git --file shop.py --environment staging
    """
    asked: dict[str, Json] = {
        "url": url,
        "branch": branch,
        "file": file,
        "environment": environment,
        "status_url": status_url,
        "status_token": sys.stdin.readline().strip() if status_token else "",
    }
    connection = connect()
    answer = connection.json("POST", "/v1/sources", asked)
    if as_json:
        return show_json(answer)
    made = answer if isinstance(answer, dict) else {}
    source = made.get("source")
    name = source["id"] if isinstance(source, dict) else ""
    click.echo(f"{name} deploys {branch} of {url} to {environment}; give its webhook (pushes only, as JSON):")
    click.echo(f"  URL     {made.get('path')} of this server")
    click.echo(f"  secret  {made.get('secret')}")


@git.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """Show the branches whose pushes are deployed.

    \b
    Example:
      relight git list
    """
    answer = connect().json("GET", "/v1/sources")
    if as_json:
        return show_json(answer)
    names = ("id", "url", "branch", "file", "environment")
    rows = [tuple(str(row[name]) for name in names) for row in objects(answer, "sources")]
    show_table(("SOURCE", "URL", "BRANCH", "FILE", "ENVIRONMENT"), rows, "no branch is deployed from")


@git.command()
@click.argument("source")
@json_option
def pushes(*, source: str, as_json: bool) -> None:
    """Show what became of the pushes of SOURCE, the newest first.

    \b
    Example:
      relight git pushes source-01k9…
    """
    answer = connect().json("GET", f"/v1/sources/{quote(source, safe='')}/pushes")
    if as_json:
        return show_json(answer)
    now = SystemClock().now()
    rows = [
        (
            str(row["state"]),
            str(row["commit"])[:12],
            show_age(now - number(row["at"])),
            ", ".join(map(str, row["versions"])) if isinstance(row["versions"], list) else "",
            str(row["detail"]),
        )
        for row in objects(answer, "pushes")
    ]
    show_table(("STATE", "COMMIT", "AGE", "VERSIONS", "WHY"), rows, "nothing was pushed")


@git.command("deploy")
@click.argument("source")
@json_option
def deploy_(*, source: str, as_json: bool) -> None:
    """Deploy the newest commit of SOURCE, as if it had been pushed.

    \b
    Example:
      relight git deploy source-01k9…
    """
    answer = connect().json("POST", f"/v1/sources/{quote(source, safe='')}/deploy")
    if as_json:
        return show_json(answer)
    if isinstance(answer, dict):
        click.echo(f"{answer['id']} is {answer['state']}; `relight git pushes {source}` shows what becomes of it")


@git.command()
@click.argument("source")
@json_option
def remove(*, source: str, as_json: bool) -> None:
    """Deploy no more pushes of SOURCE; what is deployed stays.

    \b
    Example:
      relight git remove source-01k9…
    """
    answer = connect().json("DELETE", f"/v1/sources/{quote(source, safe='')}")
    if as_json:
        return show_json(answer)
    if isinstance(answer, dict):
        click.echo(f"{answer['id']} deploys {answer['branch']} of {answer['url']} no more")
