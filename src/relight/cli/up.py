"""`relight up`: the server of this machine, in the foreground."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relight.protocol.errors import RelightError, Unavailable
from relight.settings import read_settings

if TYPE_CHECKING:
    from relight.server import Embedded

OLDEST_PYTHON = (3, 11)


@click.command()
@click.option("--host", help="The address to listen on (127.0.0.1).")
@click.option("--port", type=int, help="The TCP port (8700); 0 takes a free one.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where everything is kept (~/.relight).")
@click.option("--declare-gpu", metavar="A100:4,…", help="GPUs to declare as simulated.")
@click.option("--no-agent", is_flag=True, help="Start no agent here: nodes come from elsewhere.")
@click.option("--node", help="The name of this machine's node (its host name).")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="What is logged (info).")
@click.option("--embedded", is_flag=True, hidden=True)
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--parent-fd", type=int, hidden=True)
@click.option("--library-dir", type=click.Path(path_type=Path), hidden=True)
def up(
    *,
    no_agent: bool,
    embedded: bool,
    ready_fd: int | None,
    parent_fd: int | None,
    library_dir: Path | None,
    **options: object,
) -> None:
    """Start a server on this machine, and an agent that runs its calls.

    It listens on a socket in its data folder and on 127.0.0.1, and prints its URL and token.  Ctrl-C stops it; calls
    that are running go on when it is started again.

    \b
    Example:
      relight up --port 9000
    """
    check_linux("start a server")
    _check_python()
    if embedded and (ready_fd is None or parent_fd is None):
        raise click.UsageError("--embedded needs --ready-fd and --parent-fd")
    alone: Embedded | None = None
    try:
        if ready_fd is not None and parent_fd is not None:
            from relight.server import Embedded

            alone = Embedded(ready_fd=ready_fd, parent_fd=parent_fd, library_folder=library_dir)
        _serve({**options, "with_agent": False if no_agent else None}, alone)
    except (RelightError, OSError) as error:
        if ready_fd is not None:
            os.write(ready_fd, json.dumps({"error": str(error)}).encode() + b"\n")
        raise


def _serve(options: dict[str, object], embedded: Embedded | None) -> None:
    from relight.server import Address, run_server

    def say_ready(address: Address) -> None:
        if address.url:
            click.echo(f"relight is up at {address.url}\n  token   {address.token}\n  socket  {address.socket}")

    run_server(read_settings(options), embedded=embedded, on_ready=say_ready)


def check_linux(what: str) -> None:
    """Raise Unavailable where this is not Linux: `what` needs it."""
    if sys.platform != "linux":
        raise Unavailable(
            f"cannot {what}: it needs Linux, and this is {sys.platform}; "
            "start `relight up` on a Linux machine, and log in to it with `relight login`"
        )


def _check_python() -> None:
    if sys.version_info < OLDEST_PYTHON:
        raise Unavailable(
            f"cannot start a server: it needs Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer, and this is "
            f"{sys.version_info.major}.{sys.version_info.minor}; start it with a newer one"
        )
