"""`relight token`: the way to the server of this machine, for those who do not come by its socket."""

from __future__ import annotations

import json

import click

from relight.protocol.errors import Unavailable
from relight.sdk.connection import data_folder


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def token(*, as_json: bool) -> None:
    """Print the server's URL and token, as the variables that clients elsewhere need."""
    folder = data_folder()
    try:
        secret = (folder / "token").read_text().strip()
        url = str(json.loads((folder / "run" / "server.json").read_text())["url"])
    except (OSError, ValueError, KeyError) as error:
        raise Unavailable(
            f"cannot find a token in {folder}: no server was started on it; start it with `relight up`"
        ) from error
    if as_json:
        click.echo(json.dumps({"url": url, "token": secret}))
    else:
        click.echo(f"RELIGHT_URL={url}\nRELIGHT_TOKEN={secret}")
