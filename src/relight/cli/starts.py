"""`relight starts`: how workers were started, by function and level, and why not on a quicker one."""

from __future__ import annotations

from collections.abc import Sequence

import click

from relight.cli.completion import APPS
from relight.cli.options import Moment, json_option, show_moment
from relight.cli.past import connect_to
from relight.cli.tables import number, objects, show_duration, show_json, show_table
from relight.cli.timeline import Row, level_name
from relight.clock import SystemClock
from relight.protocol.manifest import Json
from relight.sdk.requests import query

_BARS = "▁▂▃▄▅▆▇█"
_NONE = " "


@click.command()
@click.argument("what", default="", metavar="[APP[/FUNCTION]]", shell_complete=APPS)
@click.option("--environment", "-e", default="", help="Only workers of this environment, or run.")
@click.option(
    "--since",
    type=Moment(SystemClock().now),
    default=0.0,
    metavar="2h",
    help="Only starts since: 15m, 2h, 3d, or a time.  All that are kept when left out.",
)
@click.option("--run", "run_id", help="The finished run to look into, on a server of its own (run-…).")
@json_option
def starts(*, what: str, environment: str, since: float, run_id: str | None, as_json: bool) -> None:
    """Show how workers were started: on which level of the ladder of cold starts, how long it took, and why not quicker.

    \b
    Example:
      relight starts shop/square --since 1d
    """
    app, _, function = what.partition("/")
    asked: dict[str, str | int] = {"app": app, "environment": environment, "function": function}
    with connect_to(run_id) as connection:
        answer = connection.json(
            "GET", f"/v1/starts/summary{query({**asked, 'since': f'{since:.3f}' if since else ''})}"
        )
    if as_json:
        return show_json(answer)
    _show_groups(answer)
    _show_reasons(objects(answer, "reasons"))
    if isinstance(answer, dict) and not answer["is_whole"]:
        since_when = show_moment(number(answer["since"]))
        click.echo(f"\nthe newest {answer['starts']} starts only, since {since_when}", err=True)


def _show_groups(answer: Json) -> None:
    groups = objects(answer, "groups")
    bounds = answer["bounds"] if isinstance(answer, dict) else []
    shown = used_buckets(groups)
    figures = ("STARTS", "AHEAD", "SHARE", "FAILED", "P50", "P90", "P99", "MOSTLY")
    columns = ("FUNCTION", "LEVEL", *figures, _range(bounds, shown))
    show_table(columns, [_row(group, shown) for group in groups], "no starts")
    levels = objects(answer, "levels")
    if levels and isinstance(answer, dict):
        shares = ", ".join(f"{_percent(one['share'])} level {level_name(str(one['level']))}" for one in levels)
        click.echo(f"\nall: {shares}; hit rate {_percent(answer['hit_rate'])}")


def _show_reasons(reasons: list[Row]) -> None:
    if reasons:
        click.echo("\nwhy not on level 1")
        rows = [
            (str(one["count"]), level_name(str(one["level"])), f"{one['app']}/{one['function']}", str(one["why"]))
            for one in reasons
        ]
        show_table(("STARTS", "LEVEL", "FUNCTION", "WHY"), rows, "")


def _row(group: Row, shown: range) -> tuple[str, ...]:
    phases = objects(group, "phases")
    longest = max(phases, key=lambda phase: number(phase["seconds"]), default=None)
    return (
        f"{group['app']}/{group['function']}",
        level_name(str(group["level"])),
        str(group["count"]),
        str(group["ahead"] or ""),
        _percent(group["share"]) if group["share"] else "",
        str(group["failed"] or ""),
        *(show_duration(number(group[share])) if group["count"] else "" for share in ("p50", "p90", "p99")),
        f"{longest['name']} {show_duration(number(longest['seconds']))}" if longest else "",
        bars(_counts(group), shown),
    )


def bars(counts: Sequence[int], shown: range) -> str:
    """A histogram in one line: each bucket as high as its part of the fullest."""
    most = max(counts, default=0)
    heights = [-(-counts[at] * len(_BARS) // most) if most else 0 for at in shown]
    return "".join(_BARS[height - 1] if height else _NONE for height in heights).rstrip()


def used_buckets(groups: Sequence[Row]) -> range:
    """From the first bucket that any function has starts in to the last."""
    used = [at for group in groups for at, count in enumerate(_counts(group)) if count]
    return range(min(used), max(used) + 1) if used else range(0)


def _range(bounds: Json, shown: range) -> str:
    """What the histograms reach over, as their title."""
    if not isinstance(bounds, list) or not shown:
        return ""
    low = show_duration(number(bounds[shown[0] - 1])) if shown[0] else "0"
    high = show_duration(number(bounds[shown[-1]])) if shown[-1] < len(bounds) else "…"
    return f"{low} … {high}"


def _counts(group: Row) -> list[int]:
    counts = group["buckets"]
    return [int(number(one)) for one in counts] if isinstance(counts, list) else []


def _percent(share: Json) -> str:
    return f"{100 * number(share):.1f} %"
