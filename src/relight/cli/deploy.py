"""`relight deploy FILE`: an app that stays, to be called from anywhere."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from relight.cli import failures
from relight.cli.files import outline_of, split_target
from relight.cli.options import json_option
from relight.cli.plan import commit_of, read_tags, show_plan
from relight.cli.readiness import show_templates, templates_of
from relight.cli.tables import show_json
from relight.protocol.manifest import Json
from relight.protocol.versions import Strategy
from relight.sdk.files import apps_of, load


@click.command()
@click.argument("file")
@click.option("--environment", "-e", default="main", show_default=True, help="Where to deploy it.")
@click.option("--no-wait", is_flag=True, help="Lead calls to it at once, whether its modules load or not.")
@click.option(
    "--canary", type=click.FloatRange(0, 100, min_open=True), default=100.0, help="Lead so many % of the calls to it."
)
@click.option(
    "--strategy",
    type=click.Choice([one.value for one in Strategy]),
    default=Strategy.ROLLING.value,
    show_default=True,
    help="What becomes of the version before: see below.",
)
@click.option(
    "--share",
    type=click.FloatRange(0, 100, min_open=True),
    default=100.0,
    help="Copy so many % of the calls to a shadow.",
)
@click.option(
    "--tag", "tags", multiple=True, metavar="NAME=VALUE", help="A word to find it by; may be given several times."
)
@click.option("--commit", default=None, help="What it was made of; the folder's git commit when left out.")
@click.option("--plan", is_flag=True, help="Only say what would change, and where its workers could be.")
@json_option
def deploy(
    *,
    file: str,
    environment: str,
    no_wait: bool,
    canary: float,
    strategy: str,
    share: float,
    tags: tuple[str, ...],
    commit: str | None,
    plan: bool,
    as_json: bool,
) -> int:
    """Deploy the app in FILE.  Its modules are loaded first: where that fails nothing changes.

    The version before it finishes the calls it has, beside the new one (rolling), or before the new one's first worker starts
    (recreate); or it serves on, and the new one gets copies of its calls, whose answers are thrown away (shadow).  Says of each function whether its workers are forks of a template, or
    why not.

    \b
    Example:
      relight deploy shop.py --environment staging
      relight deploy shop.py --canary 10
      relight deploy shop.py --strategy recreate
    """
    path, _ = split_target(file)
    outline = outline_of(path)
    with failures.of_user_code(path) as outcome:
        module = load(path, stops_at_run=outline.is_script)
    if outcome.has_failed:
        return outcome.code
    if plan:
        return show_plan(apps_of(module), environment, as_json=as_json)
    words = read_tags(tags)
    commit = commit_of(Path(path).parent) if commit is None else commit
    made: list[Json] = []
    for app in apps_of(module):
        deployed = app.deploy(
            environment,
            canary=canary,
            strategy=strategy,
            share=share,
            tags=words,
            commit=commit,
            wait=not no_wait,
        )
        rows = [] if no_wait else templates_of(deployed.app, environment, deployed.version)
        functions: list[Json] = [spec.name for spec in app.specs()]
        made.append({**asdict(deployed), "functions": functions, "templates": list(rows)})
        if as_json:
            continue
        was = f", in place of {deployed.replaced}" if deployed.replaced else ""
        was = f", for {canary:g} % of the calls" if canary < 100 else was
        was = f", a shadow of {share:g} % of the calls" if strategy == Strategy.SHADOW.value else was
        click.echo(f"deployed {deployed.app} to {deployed.environment} as {deployed.version}{was}")
        for name, url in deployed.urls:
            click.echo(f"  {name}  {url}")
        for spec in app.specs():
            for method in spec.methods:
                if method.web is not None:
                    continue
                name = f"{spec.name}.{method.name}" if method.name else spec.name
                click.echo(
                    f"  relight call {deployed.app}/{name}"
                    + "".join(f" --{one.name.replace('_', '-')} …" for one in method.parameters if one.required)
                )
        show_templates(rows)
    if as_json:
        show_json({"apps": made})
    return 0
