"""`relight token`: the way to this machine's server, and tokens for those who shall be able to do less."""

from __future__ import annotations

import json
from urllib.parse import quote

import click

from relight.cli.main import Suggesting
from relight.cli.options import Duration, json_option, show_moment
from relight.cli.tables import number, objects, show_age, show_json, show_table
from relight.clock import SystemClock
from relight.protocol.errors import Unavailable
from relight.protocol.manifest import Json
from relight.protocol.views import Scope
from relight.sdk.connection import connect
from relight.sdk.environment import data_folder

_SCOPES = [scope.value for scope in Scope]


@click.group(cls=Suggesting, invoke_without_command=True)
@json_option
@click.pass_context
def token(context: click.Context, *, as_json: bool) -> None:
    """Show the way to this machine's server; make, list and revoke tokens of the server in use.

    Alone it is `relight token show`.

    \b
    Example:
      relight token create --name ci --scope deploy --expires 30d
    """
    if context.invoked_subcommand is None:
        _show(as_json=as_json)


@token.command()
@json_option
def show(*, as_json: bool) -> None:
    """Print this machine's server's URL and its own token, as the variables that clients elsewhere need.

    \b
    Example:
      eval "$(relight token show)"
    """
    _show(as_json=as_json)


@token.command()
@click.option("--name", required=True, help="What to call it.")
@click.option(
    "--scope",
    type=click.Choice(_SCOPES),
    default="call",
    show_default=True,
    help="What it may do; each includes those before it.",
)
@click.option("--app", default="", help="The one app it is for (all).")
@click.option("--expires", type=Duration(), metavar="30d", help="When it ends: 90s, 15m, 12h, 30d, 4w (never).")
@json_option
def create(*, name: str, scope: str, app: str, expires: float | None, as_json: bool) -> None:
    """Make a token, and print its secret, which is shown this once.

    \b
    Example:
      relight token create --name visitor --scope call --app shop --expires 12h
    """
    asked: dict[str, Json] = {"name": name, "scope": scope, "app": app, "expires_seconds": expires}
    answer = connect().json("POST", "/v1/tokens", asked)
    if as_json:
        return show_json(answer)
    made = answer if isinstance(answer, dict) else {}
    view = made.get("token")
    if isinstance(view, dict):
        click.echo(f"made {view['id']} ({_what(view)}); its secret is not shown again:", err=True)
    click.echo(str(made.get("secret")))


@token.command("list")
@json_option
def list_tokens(*, as_json: bool) -> None:
    """Show the tokens, never their secrets.

    \b
    Example:
      relight token list
    """
    answer = connect().json("GET", "/v1/tokens")
    if as_json:
        return show_json(answer)
    now = SystemClock().now()
    rows = [
        (
            str(row["name"]),
            str(row["scope"]),
            str(row["app"] or "all"),
            show_age(now - number(row["created_at"])),
            show_moment(number(row["expires_at"])) if row["expires_at"] else "never",
            f"{show_age(now - number(row['last_used_at']))} ago" if row["last_used_at"] else "never",
            str(row["id"]),
        )
        for row in objects(answer, "tokens")
    ]
    show_table(("NAME", "SCOPE", "APP", "AGE", "EXPIRES", "USED", "ID"), rows, "no tokens")


@token.command()
@click.argument("token_id", metavar="TOKEN")
@json_option
def revoke(*, token_id: str, as_json: bool) -> None:
    """Take a token back, by its id or its name; whoever shows it is refused from now on.

    \b
    Example:
      relight token revoke visitor
    """
    answer = connect().json("DELETE", f"/v1/tokens/{quote(token_id, safe='')}")
    if as_json:
        return show_json(answer)
    view = answer if isinstance(answer, dict) else {}
    click.echo(f"revoked {view.get('name') or view.get('id')}")


def _show(*, as_json: bool) -> None:
    folder = data_folder()
    try:
        secret = (folder / "token").read_text().strip()
        url = str(json.loads((folder / "run" / "server.json").read_text())["url"])
    except (OSError, ValueError, KeyError) as error:
        raise Unavailable(
            f"cannot find a token in {folder}: no server was started on it; start it with `relight up`"
        ) from error
    if as_json:
        show_json({"url": url, "token": secret})
    else:
        click.echo(f"RELIGHT_URL={url}\nRELIGHT_TOKEN={secret}")


def _what(view: dict[str, Json]) -> str:
    of_app = f" for app {view['app']}" if view["app"] else ""
    until = f" until {show_moment(number(view['expires_at']))}" if view["expires_at"] else ""
    return f"{view['name']}: {view['scope']}{of_app}{until}"
