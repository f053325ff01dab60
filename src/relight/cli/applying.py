"""A plan, written: what it changes is shown first, then said to the server as `relight scale` says it."""

from __future__ import annotations

import sys

import click

from relight.cli.scale import as_text
from relight.cli.tables import show_table
from relight.cli.traffic import Name, card_in_force
from relight.planner.changes import Change, changes, unwritten
from relight.planner.options import Workload
from relight.planner.plan import Plan
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Json
from relight.sdk.connection import Connection, connect


def check_may_write(name: Name | None, *, is_sure: bool, as_json: bool) -> Name:
    """Refuse, before anything is replayed, what could not be written in the end.  Raises InvalidRequest."""
    if name is None:
        raise InvalidRequest("cannot apply a plan: nothing says to what; name APP/FUNCTION, also beside --trace")
    if not is_sure and (as_json or not sys.stdin.isatty()):
        raise InvalidRequest(f"cannot apply a plan to {name}: nobody is here to be asked; add --yes")
    return name


def apply(name: Name, made: Plan, load: Workload, *, is_sure: bool, as_json: bool) -> Json:
    """Write what the plan advises, and say what that was; asks first unless `is_sure`.

    Raises InvalidRequest where no option kept the targets: the nearest one was not asked for.
    """
    if not made.is_met:
        raise InvalidRequest(
            f"cannot apply the plan to {name}: no option keeps every target; loosen --p95, --cold or --budget"
        )
    connection = connect()
    path = name.path("/scaling")
    scaling = _scaling(connection, path)
    new = changes(made.best.policy, scaling, load.trace.begun_at)
    left = unwritten(made.best, card_in_force(connection), load.holds.gpus, scaling)
    if not as_json:
        _show(name, new, left)
    is_written = bool(new) and (is_sure or click.confirm(f"write this to {name}"))
    if is_written:
        connection.json("POST", path, {one.setting: one.then for one in new})
    if not as_json and new:
        click.echo(f"written; `relight scale {name} --reset` takes it back" if is_written else "nothing was written")
    return {
        "function": str(name),
        "is_written": is_written,
        "changes": [{"setting": one.setting, "now": one.now, "then": one.then} for one in new],
        "unwritten": list(left),
    }


def _scaling(connection: Connection, path: str) -> dict[str, Json]:
    view = connection.json("GET", path)
    scaling = view["scaling"] if isinstance(view, dict) else None
    assert isinstance(scaling, dict)
    return scaling


def _show(name: Name, new: tuple[Change, ...], left: tuple[str, ...]) -> None:
    click.echo(f"\nto apply to {name}:")
    rows = [(one.setting, as_text(one.now), as_text(one.then)) for one in new]
    show_table(("SETTING", "NOW", "THEN"), rows, "its settings are as the plan would have them")
    for sentence in left:
        click.echo(f"not written, {sentence}")
