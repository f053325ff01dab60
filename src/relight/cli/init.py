"""`relight init`: a file that runs, to begin an app with."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import click

from relight.cli.options import json_option
from relight.cli.tables import show_json
from relight.protocol.errors import Conflict

TEMPLATES = {"hello": "hello.py", "map": "map.py", "class": "cls.py", "stream": "stream.py"}
"""What there is to begin with, and the file below `templates` that holds it."""

FILE = "app.py"


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--template",
    "-t",
    type=click.Choice(list(TEMPLATES)),
    default="hello",
    show_default=True,
    help="What to begin with.",
)
@json_option
def init(*, folder: Path, template: str, as_json: bool) -> None:
    """Write app.py in FOLDER (here): an app that runs, named as its folder.

    \b
    Example:
      relight init shop --template map && relight run shop/app.py
    """
    path = folder / FILE
    if path.exists():
        raise Conflict(f"cannot write {path}: it is there already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:  # "x": whoever wrote it since keeps theirs
        file.write(text_of(template, folder.resolve().name))
    if as_json:
        return show_json({"file": str(path), "template": template})
    click.echo(f"wrote {path}; run it with `relight run {path}`")


def text_of(template: str, name: str) -> str:
    """The file of a template, its app named `name` where that is a name for one."""
    text = (resources.files("relight.cli") / "templates" / TEMPLATES[template]).read_text(encoding="utf-8")
    app = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:64] or template
    return text.replace(f'relight.App("{template}")', f'relight.App("{app}")').replace(f" {template}/", f" {app}/")
