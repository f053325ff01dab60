"""`relight nodes`: the machines there are, and what their GPUs do."""

from __future__ import annotations

from collections.abc import Iterator

import click

from relight.cli.options import json_option
from relight.cli.tables import number, objects, show_json, show_table
from relight.protocol.manifest import Json
from relight.sdk.connection import connect


@click.command()
@json_option
def nodes(*, as_json: bool) -> None:
    """Show nodes: what of each is free, and of each of its GPUs how busy it is, and how full.

    \b
    Example:
      relight nodes
    """
    answer = connect().json("GET", "/v1/nodes")
    if as_json:
        return show_json(answer)
    rows = [row for node in objects(answer, "nodes") for row in _rows(node)]
    show_table(("NODE", "CPU FREE", "MEMORY FREE", "WORKERS", "GPU", "BUSY", "GPU MEMORY"), rows, "no nodes")


def _rows(node: dict[str, Json]) -> Iterator[tuple[str, ...]]:
    """A row for the node, and one more for each of its GPUs but the first."""
    away = "" if node["is_connected"] else " (away)"
    own = (
        f"{node['id']}{away}",
        f"{number(node['free_cpu']):g} of {number(node['cpu']):g}",
        f"{node['free_memory_mib']} of {node['memory_mib']} MiB",
        str(node["workers"]),
    )
    uses = {use["id"]: use for use in objects(node, "gpu_use")}
    for gpu in objects(node, "gpus") or [{}]:
        yield (*own, *_gpu(gpu, uses.get(gpu.get("id"))))
        own = ("", "", "", "")


def _gpu(gpu: dict[str, Json], use: dict[str, Json] | None) -> tuple[str, str, str]:
    kind = f"{gpu['kind']} (simulated)" if gpu.get("is_simulated") else str(gpu.get("kind", ""))
    if use is None:
        return kind, "", ""
    busy = use["utilization_percent"]
    return kind, "" if busy is None else f"{busy} %", f"{use['memory_used_mib']} of {gpu['memory_mib']} MiB"
