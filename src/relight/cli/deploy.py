"""`relight deploy FILE`: an app that stays, to be called from anywhere."""

from __future__ import annotations

import click

from relight.cli import failures
from relight.cli.files import apps_of, load, outline_of, split_target


@click.command()
@click.argument("file")
@click.option("--environment", "-e", default="main", show_default=True, help="Where to deploy it.")
def deploy(file: str, environment: str) -> int:
    """Deploy the app in FILE.  The version before it finishes the calls it has."""
    path, _ = split_target(file)
    outline = outline_of(path)
    with failures.of_user_code(path) as outcome:
        module = load(path, stops_at_run=outline.is_script)
    if outcome.has_failed:
        return outcome.code
    for app in apps_of(module):
        deployed = app.deploy(environment)
        was = f", in place of {deployed.replaced}" if deployed.replaced else ""
        click.echo(f"deployed {deployed.app} to {deployed.environment} as {deployed.version}{was}")
        for spec in app.specs():
            for method in spec.methods:
                name = f"{spec.name}.{method.name}" if method.name else spec.name
                click.echo(
                    f"  relight call {deployed.app}/{name}"
                    + "".join(f" --{one.name.replace('_', '-')} …" for one in method.parameters if one.required)
                )
    return 0
