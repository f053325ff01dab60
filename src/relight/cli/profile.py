"""`relight profile`: the servers that were logged in to, and which of them is in use."""

from __future__ import annotations

import click

from relight.cli.main import Suggesting
from relight.cli.options import json_option
from relight.cli.tables import show_json, show_table
from relight.protocol.manifest import Json
from relight.sdk import profiles
from relight.sdk.environment import data_folder
from relight.sdk.profiles import LOCAL


@click.group(cls=Suggesting)
def profile() -> None:
    """List, choose and forget the servers that `relight login` wrote down.

    `local` is the server of this machine.  `relight --profile NAME …` and RELIGHT_PROFILE choose one for a command.

    \b
    Example:
      relight profile use work
    """


@profile.command("list")
@json_option
def list_profiles(*, as_json: bool) -> None:
    """Show them, without their tokens.

    \b
    Example:
      relight profile list
    """
    found = profiles.read(data_folder())
    if as_json:
        known: list[Json] = [
            {"name": one.name, "url": one.url, "ca": one.ca, "is_current": one.name == found.current}
            for one in found.known.values()
        ]
        return show_json({"current": found.current or LOCAL, "profiles": known})
    rows = [(one.name, one.url, "yes" if one.name == found.current else "") for one in found.known.values()]
    rows.append((LOCAL, "this machine's own server", "" if found.current else "yes"))
    show_table(("PROFILE", "URL", "IN USE"), rows, "no profiles")


@profile.command()
@click.argument("name")
@json_option
def use(*, name: str, as_json: bool) -> None:
    """Use profile NAME from now on; `local` for this machine's own server.

    \b
    Example:
      relight profile use local
    """
    profiles.use(data_folder(), name)
    show_json({"current": name}) if as_json else click.echo(f"using {name}")


@profile.command()
@click.argument("name")
@json_option
def remove(*, name: str, as_json: bool) -> None:
    """Forget profile NAME and its token, which stays good until it is revoked at its server.

    \b
    Example:
      relight profile remove work
    """
    profiles.remove(data_folder(), name)
    show_json({"removed": name}) if as_json else click.echo(f"forgot {name}")
