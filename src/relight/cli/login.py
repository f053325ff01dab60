"""`relight login URL`: a server elsewhere, written down as a profile once it has answered."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from relight.cli.options import json_option
from relight.cli.tables import show_json
from relight.protocol.errors import InvalidRequest, Unavailable
from relight.protocol.manifest import Json
from relight.sdk import profiles, requests
from relight.sdk.environment import data_folder
from relight.sdk.http import Address, Http, Unreachable, address_of
from relight.sdk.profiles import Profile


@click.command()
@click.argument("url")
@click.option("--token", help="The token; asked for without showing it, or read from a pipe, when left out.")
@click.option("--profile", "name", help="What to call it (the server's host name).")
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Certificates to trust, as a PEM file: for a server whose own nobody else has signed.",
)
@json_option
def login(*, url: str, token: str | None, name: str | None, ca: Path | None, as_json: bool) -> None:
    """Use the server at URL from now on, from every command and from the SDK.

    It is asked at once, so a wrong token is said here.  `relight profile use local` goes back to this machine's own.

    \b
    Example:
      relight login https://relight.example.com --profile work
    """
    certificates = str(ca.resolve()) if ca is not None else ""
    address = address_of(url, "", certificates)
    if address.path:
        raise InvalidRequest(f"cannot log in at {url!r}: a socket needs no token; write http(s)://HOST:PORT")
    secret = token if token is not None else _ask_for_token()
    profile = Profile(name=name or _name_of(url), url=url.rstrip("/"), token=secret, ca=certificates)
    rights = ask_once(address_of(url, secret, certificates), "/v1/token")
    profiles.add(data_folder(), profile)
    scope, app = _rights(rights)
    if as_json:
        return show_json({"profile": profile.name, "url": profile.url, "scope": scope, "app": app})
    of_app = f" for app {app}" if app else ""
    click.echo(f"logged in at {profile.url} as profile {profile.name}; its token may {scope}{of_app}")


def ask_once(address: Address, path: str) -> Json:
    """What a server answers, asked once: whoever waits at a prompt shall not wait for a server that is away."""
    http = Http(address)
    try:
        return requests.read_json(http.exchange(requests.plain("GET", path)))
    except Unreachable as error:
        raise Unavailable(f"cannot reach the server at {address}: {error}; check the URL, and that it is up") from error
    finally:
        http.close()


def _ask_for_token() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Token", hide_input=True, err=True)).strip()
    secret = sys.stdin.readline().strip()
    if not secret:
        raise click.UsageError("there is no token; give it with --token, or write it to the input")
    return secret


def _rights(said: Json) -> tuple[str, str]:
    if not isinstance(said, dict) or "scope" not in said:
        raise Unavailable("cannot log in: what answers there is no relight server of this version; check the URL")
    return str(said["scope"]), str(said.get("app") or "")


def _name_of(url: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", urlsplit(url).hostname or "").strip("-._")[:64]
    return f"{name}-server" if name == profiles.LOCAL else name
