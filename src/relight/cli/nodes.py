"""`relight nodes`: the machines there are."""

from __future__ import annotations

from collections.abc import Iterator

import click

from relight.cli.options import json_option
from relight.cli.tables import number, objects, show_json, show_table
from relight.protocol.fitness import Verdict
from relight.protocol.manifest import Json
from relight.sdk.connection import connect


@click.command()
@json_option
def nodes(*, as_json: bool) -> None:
    """Show machines: what each has, what of it is free, whether it is fit to run workers, and what to do where it is not.

    \b
    Example:
      relight nodes
    """
    answer = connect().json("GET", "/v1/nodes")
    if as_json:
        return show_json(answer)
    found = objects(answer, "nodes")
    columns = ("NODE", "STATE", "WORKERS", "CPU FREE", "MEMORY FREE", "GPUS FREE", "ISOLATION", "FITNESS")
    show_table(columns, [_row(row) for row in found], "no nodes")
    gpus = [gpu for row in found for gpu in _gpus(row)]
    if gpus:
        click.echo()
        show_table(("NODE", "GPU", "BUSY", "GPU MEMORY"), gpus, "no GPUs")
    for row in found:
        for check in objects(row, "checks"):
            if check["verdict"] != Verdict.OK.value:
                click.echo(f"\n{row['id']}  {check['verdict']}  {check['name']}: {check['sentence']}")
                if check["advice"]:
                    click.echo(f"  → {check['advice']}")


def _gpus(node: dict[str, Json]) -> Iterator[tuple[str, ...]]:
    """Each GPU of a node: how busy it is, and how full, as of a few seconds ago."""
    uses = {use["id"]: use for use in objects(node, "gpu_use")}
    for gpu in objects(node, "gpus"):
        kind = f"{gpu['kind']} (simulated)" if gpu.get("is_simulated") else str(gpu["kind"])
        use = uses.get(gpu["id"])
        busy = use["utilization_percent"] if use else None
        full = f"{use['memory_used_mib']} of {gpu['memory_mib']} MiB" if use else ""
        yield str(node["id"]), kind, "" if busy is None else f"{busy} %", full


def _row(row: dict[str, Json]) -> tuple[str, ...]:
    free, gpus = row["free_gpus"], row["gpus"]
    weak = sum(check["verdict"] == Verdict.WEAK.value for check in objects(row, "checks"))
    return (
        str(row["id"]),
        "connected" if row["is_connected"] else "away",
        str(row["workers"]),
        f"{number(row['free_cpu']):g} of {number(row['cpu']):g}",
        f"{number(row['free_memory_mib']) / 1024:.1f} of {number(row['memory_mib']) / 1024:.1f} GiB",
        f"{len(free)} of {len(gpus)}" if isinstance(free, list) and isinstance(gpus, list) and gpus else "",
        str(row["isolation"]),
        "NOT FIT" if not row["is_fit"] else f"fit, {weak} weak" if weak else "fit",
    )
