"""`relight scale`: how many workers a function has and should have, why, and other numbers for it without a deploy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from relight.cli.completion import APPS
from relight.cli.options import Duration, json_option, show_moment
from relight.cli.tables import number, objects, show_json, show_table
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Json, parse_rate
from relight.sdk.connection import connect
from relight.sdk.requests import query, quoted

if TYPE_CHECKING:
    _Number = click.ParamType[object]
else:
    _Number = click.ParamType  # generic to a type checker only, before click 8.5

_NONE = "none"
_PLAIN = (
    "min_workers",
    "max_workers",
    "buffer_workers",
    "scaledown_window_seconds",
    "scaleup_delay_seconds",
    "target_utilization",
    "panic_factor",
    "scaledown_per_minute",
    "prewarm",
    "spreads",
    "key_concurrency",
    "max_waiting",
)
"""Fields that are shown, and said, as they are."""


class _Count(_Number):
    """A whole number, or `none`."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """The number; `none` stays that."""
        text = str(value).strip().lower()
        if text == _NONE:
            return _NONE
        if not text.isdecimal():
            self.fail(f"{value!r} is neither a whole number nor none", param, ctx)
        return int(text)


@click.command()
@click.argument("what", metavar="APP/FUNCTION", shell_complete=APPS)
@click.option("--environment", "-e", default="main", show_default=True, help="Where it is deployed.")
@click.option("--min", "min_workers", type=int, help="Workers there are at all times.")
@click.option(
    "--max", "max_workers", type=_Count(), help="The most there may be; none for as many as there is room for."
)
@click.option("--buffer", "buffer_workers", type=int, help="Workers ready beyond what calls need.")
@click.option(
    "--window", "scaledown_window_seconds", type=Duration(), metavar="60s", help="How long an idle one stays."
)
@click.option("--delay", "scaleup_delay_seconds", type=Duration(), metavar="2s", help="How long more load must last.")
@click.option(
    "--utilization", "target_utilization", type=float, help="How busy workers are to be: 0.8 leaves a fifth free."
)
@click.option("--panic", "panic_factor", type=float, help="So many times the workers needed is a burst: no delay.")
@click.option("--per-minute", "scaledown_per_minute", type=float, help="The most idle workers that leave in a minute.")
@click.option(
    "--floor", "floors", multiple=True, metavar="'3 mon-fri 08:00-18:00 Europe/Berlin'", help="At least 3, then."
)
@click.option("--no-floors", is_flag=True, help="No floors by the clock.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME=N", help="One worker for each N of what it reports.")
@click.option("--prewarm/--no-prewarm", default=None, help="Start one shortly before the next call is expected.")
@click.option("--spread/--no-spread", "spreads", default=None, help="Place them on the nodes that have fewest of them.")
@click.option("--rate", "rate_limit", metavar="100/s", help="The most calls that begin in a time; none for no limit.")
@click.option("--key-concurrency", type=int, help="Calls of one key that run at once.")
@click.option("--max-waiting", type=_Count(), help="The most calls that may wait; none for no bound.")
@click.option("--reset", is_flag=True, help="First take back all that was said since the deploy.")
@click.option("--explain", is_flag=True, help="The last decisions, with their reasons.")
@json_option
def scale(*, what: str, environment: str, reset: bool, explain: bool, as_json: bool, **said: Any) -> None:
    """Show or change how many workers APP/FUNCTION has, at once and without a deploy.

    What is changed outlives the server, and a deploy that leaves it as it was.

    \b
    Example:
      relight scale shop/square --min 1 --max 10
      relight scale shop/square --explain
    """
    app, _, function = what.partition("/")
    if not function:
        raise InvalidRequest(f"cannot scale {what!r}: it names no function; write APP/FUNCTION")
    path = f"/v1/apps/{quoted(app)}/functions/{quoted(function)}/scaling{query({'environment': environment})}"
    changes = _changes(said)
    if reset:
        changes["reset"] = True
    answer = connect().json("POST", path, changes) if changes else connect().json("GET", path)
    if as_json:
        return show_json(answer)
    if isinstance(answer, dict):
        _show(answer)
        if explain:
            _explain(objects(answer, "history"))


def _changes(said: dict[str, Any]) -> dict[str, Json]:
    """What was said on the command line, as fields of a spec."""
    changes: dict[str, Json] = {name: said[name] for name in _PLAIN if said.get(name) is not None}
    changes = {name: None if value == _NONE else value for name, value in changes.items()}
    if said["rate_limit"]:
        rate = None if said["rate_limit"] == _NONE else parse_rate(said["rate_limit"])
        changes["rate_limit"] = None if rate is None else {"calls": rate.calls, "seconds": rate.seconds}
    if said["floors"] or said["no_floors"]:
        changes["floors"] = [_floor(text) for text in said["floors"]]
    if said["metrics"]:
        changes["metrics"] = [_metric(text) for text in said["metrics"]]
    return changes


def _floor(text: str) -> Json:
    """`3 mon-fri 08:00-18:00 Europe/Berlin`: the number first, and as many of the rest as are to be said."""
    workers, *rest = text.split() or [""]
    if not workers.isdecimal() or len(rest) > 3:
        raise InvalidRequest(
            f"cannot read --floor {text!r}: it is no number of workers with days, hours and a time zone; "
            "write for example --floor '3 mon-fri 08:00-18:00 Europe/Berlin'"
        )
    return {"workers": int(workers), **dict(zip(("days", "hours", "time_zone"), rest, strict=False))}


def _metric(text: str) -> Json:
    name, _, target = text.partition("=")
    try:
        return {"name": name, "per_worker": float(target)}
    except ValueError:
        raise InvalidRequest(
            f"cannot read --metric {text!r}: it is not NAME=N; write for example tokens_waiting=1000"
        ) from None


def _show(view: dict[str, Json]) -> None:
    name = f"{view['app']}/{view['function']}"
    counts = (
        f"{view['workers']} workers ({view['busy']} busy, {view['starting']} starting), {view['waiting']} calls wait"
    )
    click.echo(f"{name}: {counts}{'; paused' if view['is_paused'] else ''}")
    click.echo(f"wanted: {view['wanted']}  {view['reason']}")
    if view["expected"]:
        rate = number(view["expected_met"]) / number(view["expected"])
        click.echo(f"prewarm: {view['expected_met']} of {view['expected']} expected calls came, {rate:.0%}")
    deployed = {str(one["field"]): one["deployed"] for one in objects(view, "overrides")}
    rows: list[Sequence[str]] = []
    for part in ("scaling", "queue"):
        fields = view[part]
        for field, value in fields.items() if isinstance(fields, dict) else ():
            since = f"deployed: {as_text(deployed[field])}" if field in deployed else ""
            rows.append((field, as_text(value), since))
    show_table(("SETTING", "VALUE", ""), rows, "")


def as_text(value: Json) -> str:
    """A setting as people read it; `-` for none."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(" ".join(map(str, one.values())) for one in value if isinstance(one, dict)) or "-"
    if isinstance(value, dict):
        return " / ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value.values())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _explain(history: list[dict[str, Json]]) -> None:
    click.echo()
    rows = [
        (show_moment(number(one["at"])), f"{one['before']} → {one['workers']}", str(one["reason"])) for one in history
    ]
    show_table(("AT", "WORKERS", "WHY"), rows, "no decisions so far")
