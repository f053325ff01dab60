"""`relight watch`: warns where what a function is set to does not fit the traffic that it has."""

from __future__ import annotations

import json
import threading

import click

from relight.cli.completion import APPS
from relight.cli.main import WARNED
from relight.cli.options import Duration, json_option
from relight.cli.tables import number, objects, show_json
from relight.cli.traffic import Name, chosen_cards, history, holds_of, measured_starts
from relight.clock import SystemClock
from relight.metering.cards import Card
from relight.planner.options import Workload
from relight.planner.policies import Capacity, Policy
from relight.planner.traces import Trace
from relight.planner.watching import Bounds, Finding, Seen, Topic, findings
from relight.protocol.errors import NotFound
from relight.protocol.manifest import Json
from relight.protocol.starts import StartLevel
from relight.sdk.connection import Connection, connect
from relight.sdk.requests import query

MOST_STARTS = 1000
"""So many of the newest starts are looked at."""


@click.command()
@click.argument("what", default="", metavar="[APP[/FUNCTION]]", shell_complete=APPS)
@click.option("--environment", "-e", default="main", show_default=True, help="Where they are deployed.")
@click.option(
    "--since", "past", type=Duration(), default="1d", show_default=True, help="So much of the past is looked at."
)
@click.option(
    "--cold", type=float, default=0.05, show_default=True, metavar="SHARE", help="More cold calls are too many."
)
@click.option(
    "--slow", type=Duration(), default="0.1s", show_default=True, help="A start that took less makes no call cold."
)
@click.option(
    "--least", type=Duration(), default="10m", show_default=True, help="Less traffic than of so long says nothing yet."
)
@click.option("--card", "names", multiple=True, help="Rate cards; all when left out.")
@click.option("--once", is_flag=True, help="Look once: exit code 4 where there is something to warn of.")
@click.option("--every", type=Duration(), default="5m", show_default=True, help="How often to look.")
@json_option
def watch(
    *, what: str, environment: str, past: float, cold: float, slow: float, least: float, names: tuple[str, ...],
    once: bool, every: float, as_json: bool,
) -> int:  # fmt: skip
    """Warn of functions whose traffic asks for other settings: busier than the break-even, cold too often, idle at night.

    Goes on until Ctrl-C, and says what is new and what is over.  With --once it looks once.

    \b
    Example:
      relight watch shop --once
      relight watch --every 15m --cold 0.01
    """
    look = _Look(what, environment, past_seconds=past, slow_seconds=slow)
    cards, bounds = chosen_cards(names), Bounds(cold_share=cold, least_seconds=least)
    if once:
        found = look.findings(cards, bounds)
        _show_once(found, as_json=as_json)
        return WARNED if found else 0
    said: dict[tuple[str, Topic], Finding] = {}
    pause = threading.Event()
    while True:
        now = {(one.name, one.topic): one for one in look.findings(cards, bounds)}
        for key in now.keys() - said.keys():
            _say(now[key], as_json=as_json, is_over=False)
        for key in said.keys() - now.keys():
            _say(said[key], as_json=as_json, is_over=True)
        said = now
        pause.wait(every)


class _Look:
    """What is to be watched, seen anew each time."""

    def __init__(self, what: str, environment: str, *, past_seconds: float, slow_seconds: float) -> None:
        self._app, _, self._function = what.partition("/")
        self._environment = environment
        self._past = past_seconds
        self._slow = slow_seconds
        self._connection = connect()

    def findings(self, cards: dict[str, Card], bounds: Bounds) -> list[Finding]:
        """Of all functions, the one that most can be saved on first.  Raises NotFound where nothing is of that name."""
        names = self._names()
        if not names:
            what = "/".join(filter(None, (self._app, self._function))) or "anything"
            raise NotFound(
                f"cannot watch {what}: it is not deployed to {self._environment}; `relight apps` says what is"
            )
        found = [one for name in names for one in findings(self._see(name), cards, bounds)]
        return sorted(found, key=lambda one: -one.month_nanos)

    def _names(self) -> list[Name]:
        apps = objects(self._connection.json("GET", "/v1/apps"), "apps")
        there = [one for one in apps if one["environment"] == self._environment]
        return [
            Name(app=str(one["app"]), function=str(function), environment=self._environment)
            for one in there
            if self._app in ("", one["app"])
            for function in (one["functions"] if isinstance(one["functions"], list) else [])
            if self._function in ("", function)
        ]

    def _see(self, name: Name) -> Seen:
        connection, now = self._connection, SystemClock().now()
        trace = history(connection, name, now - self._past)
        calls, cold = _cold(connection, name, trace, now - self._past, self._slow)
        policy, has_floors = _policy(connection, name)
        where = "" if self._environment == "main" else f" -e {self._environment}"
        return Seen(
            name=str(name),
            words=f"{name}{where}",
            load=Workload(
                trace=trace,
                holds=holds_of(connection.json("GET", name.path())),
                starts=measured_starts(connection, name),
            ),
            seconds=max(1.0, now - trace.begun_at) if len(trace) else 0.0,
            calls=calls,
            cold=cold,
            policy=policy,
            has_floors=has_floors,
        )


def _cold(connection: Connection, name: Name, trace: Trace, since: float, slow: float) -> tuple[int, int]:
    """How many calls there were, and how many of them waited for a start that took so long."""
    asked = name.fields | {"since": f"{since:.3f}", "limit": MOST_STARTS}
    starts = objects(connection.json("GET", f"/v1/starts{query(asked)}"), "starts")
    if len(starts) == MOST_STARTS:
        since = number(starts[-1]["at"])  # there were more, of which nothing is known
    cold = [
        one
        for one in starts
        if not one["is_ahead"] and one["level"] != StartLevel.PARKED.value and number(one["seconds"]) >= slow
    ]
    calls = sum(trace.begun_at + at >= since for at in trace.arrivals)
    return max(calls, len(cold)), len(cold)


def _policy(connection: Connection, name: Name) -> tuple[Policy, bool]:
    """How a function is scaled, as far as a replay knows it, and whether floors by the clock are in force."""
    view = connection.json("GET", name.path("/scaling"))
    scaling = view["scaling"] if isinstance(view, dict) else {}
    assert isinstance(scaling, dict)
    workers, most = int(number(scaling["min_workers"])), scaling["max_workers"]
    policy = Policy(
        capacity=Capacity.ACTIVE if workers else Capacity.FLEX,
        workers=workers,
        window_seconds=number(scaling["scaledown_window_seconds"]),
        buffer_workers=int(number(scaling["buffer_workers"])),
        max_workers=None if most is None else int(number(most)),
    )
    return policy, bool(objects(scaling, "floors"))


def _show_once(found: list[Finding], *, as_json: bool) -> None:
    if as_json:
        return show_json({"warnings": [_plain(one) for one in found]})
    for one in found:
        _say(one, as_json=False, is_over=False)
    if not found:
        click.echo("nothing to warn of")


def _say(one: Finding, *, as_json: bool, is_over: bool) -> None:
    if as_json:
        click.echo(json.dumps({**_plain(one), "is_over": is_over}, ensure_ascii=False))
    elif is_over:
        click.echo(f"{one.name}: no longer: {one.topic.value}")
    else:
        click.echo(f"{one.name}: {one.says}\n  {one.do}")


def _plain(one: Finding) -> dict[str, Json]:
    app, _, function = one.name.partition("/")
    return {
        "app": app,
        "function": function,
        "topic": one.topic.value,
        "value": one.value,
        "bound": one.bound,
        "says": one.says,
        "do": one.do,
        "month_nanos": one.month_nanos,
    }
