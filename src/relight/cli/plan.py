"""What `relight deploy` says and finds out before it deploys: what would change, and of which commit the file is."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import click

from relight.cli.estimates import Estimates, plain, said
from relight.cli.tables import number, objects, show_json
from relight.cli.versions import show_changes
from relight.protocol.api import Deploy
from relight.protocol.manifest import Json
from relight.sdk.app import App
from relight.sdk.connection import connect

GIT_SECONDS = 5.0
"""How long git may take to say which commit it is."""


def show_plan(apps: Iterable[App], environment: str, *, as_json: bool) -> int:
    """Say what deploying these would change, and what each of their functions comes to; the exit status."""
    plans: list[Json] = []
    estimates = Estimates()
    for app in apps:
        answer = connect().plan(Deploy(manifest=app.manifest(), environment=environment))
        specs = {spec.name: spec for spec in app.specs()}
        costs = {name: estimates.of(app.name, spec) for name, spec in specs.items()}
        for row in objects(answer, "functions"):
            row["estimate"] = plain(costs[str(row["function"])])
        plans.append({"app": app.name, "environment": environment, **(answer if isinstance(answer, dict) else {})})
        if as_json or not isinstance(answer, dict):
            continue
        difference = answer["difference"]
        before = difference["before"] if isinstance(difference, dict) else ""
        click.echo(f"{app.name} in {environment}, beside {before or 'nothing'}:")
        show_changes(objects(difference, "changes"))
        for row in objects(answer, "functions"):
            click.echo(_said(row))
            click.echo(f"    {said(costs[str(row['function'])])}")
    if as_json:
        show_json({"plans": plans})
    return 0


def _said(row: dict[str, Json]) -> str:
    most = row["max_workers"]
    workers = f"{row['min_workers']} to {most if most is not None else 'any number of'} workers"
    size = f"{number(row['cpu']):g} cores, {number(row['memory_mib']):.0f} MiB, {number(row['timeout_seconds']):g} s a call"
    nodes = row["nodes"] if isinstance(row["nodes"], list) else []
    where = f"on {', '.join(map(str, nodes))}" if nodes else f"nowhere yet ({row['why_nowhere']})"
    start = f"each by itself ({row['why_no_template']})" if row["why_no_template"] else "forked from a template"
    return f"  {row['function']}: {workers} of {size}; {where}; {start}"


def read_tags(words: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE` as names and values.  Raises UsageError."""
    tags = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise click.UsageError(f"cannot tag it {word!r}: a tag has a name and a value; write --tag NAME=VALUE")
        tags[name] = value
    return tags


def commit_of(folder: Path) -> str:
    """The commit that a folder is at, with `+` where its files differ from it; "" where git knows of none."""
    commit = _git(folder, "rev-parse", "HEAD")
    return commit and commit + ("+" if _git(folder, "status", "--porcelain", "--", ".") else "")


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
