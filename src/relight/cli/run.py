"""`relight run FILE[::NAME]`: the file's entrypoint here, or one function of it in a worker."""

from __future__ import annotations

import inspect
import runpy
import sys
from collections.abc import Coroutine, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from relight.cli import failures, parameters
from relight.cli.files import Target, find, outline_of, split_target
from relight.cli.interrupts import leave_at_second_interrupt
from relight.cli.progress import bars_on_a_terminal
from relight.cli.results import print_returned
from relight.sdk import local
from relight.sdk.files import apps_of, load
from relight.settings import set_for_children


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    add_help_option=False,
    options_metavar="",
)
@click.argument("target", metavar="[--local] [--estimate] [--declare-gpu A100:1] FILE[::NAME]", nargs=1, required=False)
@click.argument("words", metavar="[--ARGUMENT VALUE]...", nargs=-1, type=click.UNPROCESSED)
@click.option("--local", "is_local", is_flag=True, hidden=True)
@click.option("--estimate", "only_estimates", is_flag=True, hidden=True)
@click.option("--declare-gpu", hidden=True)
@click.pass_context
def run(
    context: click.Context, /, target: str | None, words: tuple[str, ...], is_local: bool, only_estimates: bool,
    declare_gpu: str | None,
) -> int:  # fmt: skip
    """Run FILE, or the function, method (Reader.read) or entrypoint NAME in it.

    Without NAME: its one local entrypoint; else the file itself, if it is written as a script; else its one function.
    The function's parameters are options: `relight run FILE --help` shows them.  What it returns is printed.

    It runs on the server that is up, or else on one of its own, for which --declare-gpu declares simulated GPUs.  With
    --local everything runs in this very process, without a server: a breakpoint() in a function stops here.
    With --estimate nothing runs: it says what an hour of a worker and a call will cost.

    \b
    Example:
      relight run hello.py::square --x 7
    """
    if target is None or target in ("-h", "--help"):
        click.echo(context.get_help())
        return 0
    if declare_gpu:
        set_for_children("declare_gpu", declare_gpu)
    path, name = split_target(target)
    leave_at_second_interrupt()
    if only_estimates:
        return _estimate(path, name)
    with local.chosen() if is_local else nullcontext():
        return _run(path, name, words)


def _estimate(path: Path, name: str) -> int:
    from relight.cli.estimates import show_estimates  # here: rate cards are not for those who only run

    with failures.of_user_code(path) as outcome:
        module = load(path, stops_at_run=outline_of(path).is_script)
    if outcome.has_failed:
        return outcome.code
    chosen = find(module, name) if name else None
    function = "" if chosen is None or chosen.is_local else chosen.name.partition(".")[0]
    return show_estimates(apps_of(module), function)


def _run(path: Path, name: str, words: tuple[str, ...]) -> int:
    outline = outline_of(path)
    if not name and outline.is_script and not outline.has_entrypoint:
        return run_script(path, words)
    with failures.of_user_code(path) as outcome:
        module = load(path, stops_at_run=outline.is_script)
    if outcome.has_failed:
        return outcome.code
    return run_target(find(module, name), path, words)


def run_target(target: Target, path: Path, words: tuple[str, ...]) -> int:
    """Run what was chosen with the options given; prints what it returns."""
    options = parameters.from_function(target.function)
    doc = inspect.getdoc(target.function) or ""
    said = parameters.read_options(f"relight run {path.name}::{target.name}", options, words, doc)
    arguments = parameters.as_python(target.function, said, is_local=target.is_local)
    with failures.of_user_code(path) as outcome:
        with bars_on_a_terminal(), target.app.run():
            returned = target.call(**arguments)
            if isinstance(returned, Coroutine):
                returned = _awaited(returned)
            if isinstance(returned, Iterator):
                print_returned(returned)  # here: what it yields comes while the app runs
                returned = None
        print_returned(returned)
    return outcome.code


def run_script(path: Path, words: tuple[str, ...]) -> int:
    """Run a file as `python FILE` would."""
    sys.argv = [str(path), *words]
    sys.path.insert(0, str(path.parent))
    with failures.of_user_code(path) as outcome, bars_on_a_terminal():
        runpy.run_path(str(path), run_name="__main__")
    return outcome.code


def _awaited(returned: Coroutine[Any, Any, Any]) -> Any:
    """What an `async def` entrypoint returns."""
    import asyncio  # 30 ms that the others need not pay

    return asyncio.run(returned)
