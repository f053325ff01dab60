"""`relight ps`: the workers there are."""

from __future__ import annotations

import click

from relight.cli.endings import show_ending
from relight.cli.options import json_option
from relight.cli.tables import number, objects, show_age, show_json, show_table
from relight.clock import SystemClock
from relight.protocol.binding import parse_binding
from relight.protocol.manifest import Json
from relight.sdk.connection import connect
from relight.sdk.requests import query


@click.command()
@click.option(
    "--all", "-a", "with_gone", is_flag=True, help="Those that are gone too, and how they ended: the newest 1,000."
)
@json_option
def ps(*, with_gone: bool, as_json: bool) -> None:
    """Show workers: what each runs, its state and how long it has been in it, and its calls.

    \b
    Example:
      relight ps --all
    """
    answer = connect().json("GET", f"/v1/workers{query({'gone': 'true'} if with_gone else {})}")
    if as_json:
        return show_json(answer)
    now = SystemClock().now()
    columns = ("WORKER", "FUNCTION", "STATE", "FOR", "NODE", "ISOLATION", "GPU", "CALLS", "EXIT")
    show_table(columns, [_row(row, now) for row in objects(answer, "workers")], "no workers")


def _set_apart(binding: str) -> str:
    """What sets a worker apart from others of its function, as one would write it: `(size='13b') timeout_seconds=5`."""
    said = parse_binding(binding)
    values = ", ".join(f"{name}={value!r}" for name, value in said.parameters)
    options = "".join(f" {name}={value!r}" for name, value in said.options)
    return (f"({values})" if values else "") + options


def _gpu(row: dict[str, Json]) -> str:
    """How many it has, or its share of one, and the memory that it holds: `0.5 (728 MiB)`."""
    gpus, share, held = row.get("gpus"), number(row.get("gpu_share", 1)), row.get("gpu_memory_mib")
    if not isinstance(gpus, list) or not gpus:
        return ""
    return f"{share if share < 1 else len(gpus):g}" + (f" ({held} MiB)" if held else "")


def _row(row: dict[str, Json], now: float) -> tuple[str, ...]:
    calls = row["calls"]
    return (
        str(row["id"]),
        f"{row['app']}/{row['function']}{_set_apart(str(row.get('binding', '')))}",
        str(row["state"]),
        show_age(now - number(row["since"])),
        str(row["node"]),
        str(row["isolation"]),
        _gpu(row),
        " ".join(map(str, calls)) if isinstance(calls, list) else "",
        show_ending(row["exit"]),
    )
