"""What a function will cost before it runs: an hour of a worker, and a call by the calls of before."""

from __future__ import annotations

from dataclasses import asdict

import click

from relight.cli.tables import number, show_duration
from relight.cli.traffic import Name, every_card, holds_for
from relight.clock import SystemClock
from relight.metering.cards import Card, find_card
from relight.metering.money import show_money
from relight.planner.estimates import Estimate, Past, estimate
from relight.protocol.errors import NotFound, Unavailable
from relight.protocol.manifest import FunctionSpec, Json
from relight.sdk.app import App
from relight.sdk.connection import Connection, connect
from relight.sdk.requests import query
from relight.settings import read_settings

PAST_SECONDS = 30 * 86_400.0
"""Calls of so long ago and later are gone by."""


class Estimates:
    """Estimates of one server, or of the one that `relight run` would start where none is up: that one has no past."""

    def __init__(self) -> None:
        self._connection = _reach()
        self._card: Card | None = None

    def of(self, app: str, spec: FunctionSpec) -> Estimate | None:
        """What a function will cost; None where the card in force is known to its server alone."""
        name = Name(app=app, function=spec.name)
        card, past = self._card_and_past(name)
        known = every_card()
        try:
            return estimate(find_card(known, card), holds_for(spec.resources), past)
        except NotFound:
            return None

    def _card_and_past(self, name: Name) -> tuple[str, Past]:
        if self._connection is None:
            return read_settings().rate_card, Past()
        since = SystemClock().now() - PAST_SECONDS
        answer = self._connection.json("GET", f"/v1/costs{query(name.fields | {'since': f'{since:.3f}'})}")
        assert isinstance(answer, dict)
        total = answer["total"]
        assert isinstance(total, dict)
        past = Past(calls=int(number(total["calls"])), billed_us=int(number(total["billed_us"])))
        return str(answer["card"]), past


def _reach() -> Connection | None:
    try:
        return connect()
    except Unavailable:
        return None


def show_estimates(apps: list[App], function: str) -> int:
    """Print the estimate of one function of a file, or of all where it is ""; the exit status."""
    estimates = Estimates()
    for app in apps:
        for spec in app.specs():
            if function in ("", spec.name):
                click.echo(f"{app.name}/{spec.name}: {said(estimates.of(app.name, spec))}")
    return 0


def said(one: Estimate | None) -> str:
    """An estimate as people read it."""
    if one is None:
        return "no estimate: the rate card in force is on its server alone"
    hour = f"{show_money(one.flex_hour_nanos)} an hour of a worker (active {show_money(one.active_hour_nanos)})"
    if not one.calls or one.call_seconds is None:
        second = None if one.flex_hour_nanos is None else round(one.flex_hour_nanos / 3600)
        return f"{hour}, {show_money(second)} a second, by card {one.card}; no call of it ended here in 30 days"
    each = f"{show_money(one.call_nanos)} a call, of {show_duration(one.call_seconds)} each"
    return f"{hour}, {each} over {one.calls} calls in 30 days, by card {one.card}"


def plain(one: Estimate | None) -> Json:
    """An estimate as `--json` has it."""
    return None if one is None else asdict(one)
