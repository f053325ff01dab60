"""`relight doctor`: what this machine permits, as sentences, and what to do where it does not."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relight.cli.options import json_option
from relight.cli.tables import show_json
from relight.cli.up import OLDEST_PYTHON, check_linux
from relight.protocol.errors import RelightError
from relight.sdk.connection import connect, data_folder

if TYPE_CHECKING:
    from relight.sandbox.facts import Fact

_ROOM_BYTES = 1024**3


@click.command()
@json_option
def doctor(*, as_json: bool) -> int:
    """Look at this machine, and say what works and what to do about what does not.

    Exit code 0 when sandboxes are real ones, 3 when they would be plain processes.

    \b
    Example:
      relight doctor
    """
    check_linux("look at what this machine permits")
    from relight.sandbox.facts import explain, gather  # here: it asks the kernel as only Linux can be asked

    facts = (*explain(gather()), _python(), _folder(data_folder()), _server())
    if as_json:
        show_json([asdict(fact) for fact in facts])
    else:
        for fact in facts:
            click.echo(f"{'ok  ' if fact.holds else 'NOT '} {fact.name:13} {fact.sentence}")
            if fact.advice and not fact.holds:
                click.echo(f"{'':18} → {fact.advice}")
    return 0 if next(fact.holds for fact in facts if fact.name == "isolation") else 3


def _python() -> Fact:
    from relight.sandbox.facts import Fact

    holds = sys.version_info >= OLDEST_PYTHON
    least = ".".join(map(str, OLDEST_PYTHON))
    return Fact(
        name="python",
        holds=holds,
        sentence=f"Python {platform.python_version()} can run a server"
        if holds
        else f"Python {platform.python_version()} runs apps and workers, but a server needs {least}",
        advice=f"start `relight up` with Python {least} or newer",
    )


def _folder(folder: Path) -> Fact:
    from relight.sandbox.facts import Fact

    near = folder
    while not near.exists():
        near = near.parent
    is_writable, free = os.access(near, os.W_OK | os.X_OK), shutil.disk_usage(near).free
    room = f"{free / _ROOM_BYTES:.0f} GiB free"
    return Fact(
        name="data folder",
        holds=is_writable and free >= _ROOM_BYTES,
        sentence=f"{folder} can be written, with {room}" if is_writable else f"{folder} cannot be written",
        advice="make room, or choose another folder with RELIGHT_DATA_DIR",
    )


def _server() -> Fact:
    from relight.sandbox.facts import Fact

    try:
        connection = connect()
        connection.json("GET", "/v1/health")
    except RelightError as error:
        return Fact(
            name="server", holds=False, sentence=str(error), advice="`relight run` needs none: it starts its own"
        )
    return Fact(name="server", holds=True, sentence=f"a server answers at {connection.address}")
