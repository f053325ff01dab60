"""Rows for people: a drawn table on a terminal, aligned columns elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click

from relight.protocol.manifest import Json


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    """Print rows under their columns; `nothing` is said when there is none."""
    if not rows:
        click.echo(nothing, err=True)
    elif sys.stdout.isatty():
        _draw(columns, rows)
    else:
        _align(columns, rows)


def show_json(value: Json) -> None:
    """Print plain data as JSON that people can read too."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def show_age(seconds: float) -> str:
    """`0.4s`, `12s`, `3m`, `5h`, `2d`."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f}s"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def show_duration(seconds: float) -> str:
    """`0.4ms`, `12.0ms`, `1.52s`, then as an age."""
    return f"{seconds * 1000:.1f}ms" if seconds < 1 else f"{seconds:.2f}s" if seconds < 10 else show_age(seconds)


def objects(answer: Json, key: str) -> list[dict[str, Json]]:
    """The list of objects under a key of an answer."""
    found = answer.get(key) if isinstance(answer, dict) else None
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def number(value: Json) -> float:
    """A number of an answer; 0 for none."""
    return float(value) if isinstance(value, (int, float)) else 0.0


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # as text: what users named must not be read as markup
    Console().print(table)


def _align(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [list(columns), *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
