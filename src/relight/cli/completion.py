"""`relight completion SHELL`: commands, apps and calls completed by the shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete

from relight.cli.login import ask_once
from relight.cli.main import cli
from relight.cli.tables import objects
from relight.protocol.errors import RelightError
from relight.sdk.connection import connect

_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}

if TYPE_CHECKING:
    Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
def completion(shell: str) -> None:
    """Print what SHELL needs to complete commands, options, apps and calls.

    \b
    Example:
      eval "$(relight completion bash)"
      relight completion fish > ~/.config/fish/completions/relight.fish
    """
    click.echo(_SHELLS[shell](cli, {}, "relight", "_RELIGHT_COMPLETE").source())


def _from(path: str, key: str, field: str) -> Complete:
    """Completes by what a server lists; by nothing where none answers, for nobody asked for an error."""

    def complete(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        try:
            answer = ask_once(connect().address, path)
        except RelightError:
            return []
        names = dict.fromkeys(str(row[field]) for row in objects(answer, key))
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete


APPS = _from("/v1/apps", "apps", "app")
"""Completes an app's name."""

CALLS = _from("/v1/calls?limit=100", "calls", "id")
"""Completes a call's id."""
