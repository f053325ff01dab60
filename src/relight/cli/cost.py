"""`relight cost`, `relight budget`, `relight invoice`: what was spent, what may be, and what is to be paid."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from relight.cli.completion import APPS
from relight.cli.options import Moment, json_option
from relight.cli.past import connect_to
from relight.cli.rates import rates_folder
from relight.cli.tables import number, objects, show_age, show_json, show_table
from relight.clock import SystemClock
from relight.metering.budgets import month_begin, month_end
from relight.metering.cards import find_card, load_cards
from relight.metering.ledger import GROUPINGS
from relight.metering.money import NANOS, in_cents, nanodollars, show_money, whole
from relight.metering.terms import settle
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Json
from relight.sdk.connection import connect
from relight.sdk.requests import query

BY = ("call", *GROUPINGS, "tag:NAME")
Row = dict[str, Json]


@click.command()
@click.argument("what", default="", metavar="[APP[/FUNCTION]]", shell_complete=APPS)
@click.option(
    "--by",
    default="function",
    metavar="WHAT,…",
    help=f"What to tell costs by, function when left out: {', '.join(BY)}.",
)
@click.option("--call", "call_id", default="", help="Only this call.")
@click.option("--environment", "-e", default="", help="Only this environment, or run.")
@click.option(
    "--since", type=Moment(SystemClock().now), default=0.0, metavar="7d", help="Only since: 2h, 7d, or a time."
)
@click.option(
    "--against", default="", metavar="CARD,…", help="Other rate cards, or all: what the same would cost there."
)
@click.option("--region", default="", metavar="NAME", help="With --against: what it costs in this region there.")
@click.option("--forecast", is_flag=True, help="With what each will have cost by the end of the month.")
@click.option("--run", "run_id", help="The finished run to look into, on a server of its own (run-…).")
@json_option
def cost(
    *,
    what: str,
    by: str,
    call_id: str,
    environment: str,
    since: float,
    against: str,
    region: str,
    forecast: bool,
    run_id: str | None,
    as_json: bool,
) -> None:
    """Show what was spent, to the nano-dollar: the rows add up to the total.

    \b
    Example:
      relight cost --since 1d --against runpod,modal
      relight cost shop --by call --against all
      relight cost --by tag:team,day --forecast
    """
    app, _, function = what.partition("/")
    asked: dict[str, str | int] = {"by": "call" if call_id else by, "call": call_id, "app": app, "function": function}
    asked |= {"environment": environment, "against": against, "since": f"{since:.3f}" if since else ""}
    asked |= {"region": region, "forecast": "1" if forecast else ""}
    with connect_to(run_id) as connection:
        answer = connection.json("GET", f"/v1/costs{query(asked)}")
    if as_json:
        return show_json(answer)
    rows = objects(answer, "rows")
    cards = [str(one["card"]) for one in objects(rows[0], "against")] if rows else []
    columns = [one for one in COLUMNS if one.is_shown(rows)]
    titles = (str(asked["by"]).upper(), "COST", *(one.title for one in columns), *(card.upper() for card in cards))
    show_table(titles, [_row(row, columns, cards) for row in rows], "nothing was used")
    if isinstance(answer, dict) and not call_id:
        _show_end(answer)


def _show_end(answer: Row) -> None:
    total = answer["total"]
    assert isinstance(total, dict)
    click.echo(f"\ntotal {_cost(total)} by card {answer['card']}")
    ahead = show_money(_whole(answer["forecast_nanos"]))
    click.echo(
        f"this month {show_money(_whole(answer['month_nanos']))}; {ahead} by its end, at the rate of the last 7 days, or since it is there"
    )


@click.group()
def budget() -> None:
    """Set what may be spent in a month: relight warns, and then begins nothing new.

    \b
    Example:
      relight budget set 20 --app shop
    """


@budget.command("set")
@click.argument("dollars")
@click.option("--app", default="", help="Of this app; of the whole workspace when left out.", shell_complete=APPS)
@click.option("--warn", default=80, show_default=True, metavar="PERCENT", help="Warn from so much of it on.")
@json_option
def set_budget(*, dollars: str, app: str, warn: int, as_json: bool) -> None:
    """Set how many DOLLARS may be spent in a calendar month (UTC).

    \b
    Example:
      relight budget set 20 --app shop
    """
    body: Json = {"app": app, "nanos": whole(nanodollars(dollars)), "warn_percent": warn}
    _show_budgets([connect().json("PUT", "/v1/budgets", body)], as_json=as_json)


@budget.command("list")
@json_option
def list_budgets(*, as_json: bool) -> None:
    """Show every budget, and what of it is spent.

    \b
    Example:
      relight budget list
    """
    _show_budgets(list(objects(connect().json("GET", "/v1/budgets"), "budgets")), as_json=as_json)


@budget.command("remove")
@click.option("--app", default="", help="Of this app; of the whole workspace when left out.", shell_complete=APPS)
@json_option
def remove_budget(*, app: str, as_json: bool) -> None:
    """Take a budget away.

    \b
    Example:
      relight budget remove --app shop
    """
    _show_budgets([connect().json("DELETE", f"/v1/budgets{query({'app': app})}")], as_json=as_json)


@click.command()
@click.option("--month", default="", metavar="2026-11", help="The month (UTC); this one when left out.")
@click.option("--by", default="function", metavar="WHAT,…", help="What has a line of its own, as of `relight cost`.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV.")
@json_option
def invoice(*, month: str, by: str, as_csv: bool, as_json: bool) -> None:
    """Show a month's invoice: what each function cost, the terms of the card, and what is to be paid, to the cent.

    \b
    Example:
      relight invoice --month 2026-11 --csv > invoice.csv
      relight invoice --by tag:team
    """
    begin = _month(month) if month else month_begin(SystemClock().now())
    asked: dict[str, str | int] = {"by": by, "since": f"{begin:.3f}", "until": f"{month_end(begin):.3f}"}
    answer = connect().json("GET", f"/v1/costs{query(asked)}")
    lines = _lines(answer)
    name = datetime.fromtimestamp(begin, UTC).strftime("%Y-%m")
    if as_json:
        due = in_cents(sum(_whole(line["nanos"]) for line in lines))
        return show_json({"month": name, "currency": "USD", "lines": list[Json](lines), "due": str(due)})
    if as_csv:
        return _write_csv(name, lines)
    rows = [(str(line["what"]), show_money(_whole(line["nanos"]))) for line in lines]
    show_table((name, "COST"), rows, "nothing was used")
    click.echo(f"\nto be paid ${in_cents(sum(_whole(line['nanos']) for line in lines))}")


def _lines(answer: Json) -> list[Row]:
    """What each of them cost, then what the terms of the card make of the sum."""
    rows = objects(answer, "rows")
    lines: list[Row] = [
        {"what": row["key"], "calls": row["calls"], "billed_us": row["billed_us"], "nanos": row["nanos"]}
        for row in rows
    ]
    card = find_card(load_cards(rates_folder()), str(answer["card"])) if isinstance(answer, dict) else None
    month = sum(_whole(row["nanos"]) for row in rows)
    steps = settle(card.terms, month) if card is not None else ()
    return lines + [{"what": step.what, "calls": 0, "billed_us": 0, "nanos": step.nanos} for step in steps]


def _write_csv(month: str, lines: list[Row]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("month", "what", "calls", "billed_us", "nanodollars"))
    for line in lines:
        writer.writerow((month, line["what"], line["calls"], line["billed_us"], line["nanos"]))
    writer.writerow((month, "due", "", "", int(in_cents(sum(_whole(line["nanos"]) for line in lines)) * NANOS)))


def _month(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise InvalidRequest(f"cannot read --month {text[:40]!r}: it is no month; write for example 2026-11") from None


def show_seconds(microseconds: int) -> str:
    """`0.003s`, `12.345s`, then as an age."""
    seconds = microseconds / 1e6
    return f"{seconds:.3f}s" if seconds < 120 else show_age(seconds)


def _show_count(count: int) -> str:
    return f"{count:,}" if count else ""


def _show_bytes(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B" if count else ""


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of each row; `is_always` there, or only where some row has it."""

    title: str
    field: str
    show: Callable[[int], str]
    is_always: bool = False

    def is_shown(self, rows: Sequence[Row]) -> bool:
        """Whether there is anything to show."""
        return self.is_always or any(_whole(row[self.field]) for row in rows)


COLUMNS = (
    Column("BY MONTH'S END", "forecast_nanos", show_money),
    Column("BUSY", "busy_us", show_seconds, is_always=True),
    Column("BILLED", "billed_us", show_seconds, is_always=True),
    Column("LIFE", "life_us", show_seconds, is_always=True),
    Column("CPU", "cpu_us", lambda us: show_seconds(us) if us else ""),
    Column("EGRESS", "egress_bytes", _show_bytes),
    Column("TOKENS IN", "tokens_in", _show_count),
    Column("TOKENS OUT", "tokens_out", _show_count),
    Column("CALLS", "calls", _show_count, is_always=True),
)


def _row(row: Row, columns: Sequence[Column], cards: Sequence[str]) -> tuple[str, ...]:
    elsewhere = {str(one["card"]): one for one in objects(row, "against")}
    figures = (one.show(_whole(row[one.field])) for one in columns)
    return (str(row["key"]), _cost(row), *figures, *(_elsewhere(elsewhere, card) for card in cards))


def _elsewhere(costs: Mapping[str, Row], card: str) -> str:
    """What a card would have asked; nothing for a row that only makes up the sum."""
    if card not in costs:
        return ""
    cost = costs[card]
    known, unknown = _whole(cost["known_nanos"]), cost["unknown"]
    if not isinstance(unknown, list) or not unknown:
        return show_money(known)
    return f"{show_money(known)} + unknown {', '.join(map(str, unknown))}" if known else show_money(None)


def _cost(row: Row) -> str:
    """What is known of it; what has no price is said beside it."""
    unpriced = _whole(row["unpriced"])
    known = show_money(_whole(row["nanos"]))
    if unpriced and not _whole(row["nanos"]):
        return "unknown"
    return f"{known} + {unpriced} unknown" if unpriced else known


def _show_budgets(budgets: list[Json], *, as_json: bool) -> None:
    if as_json:
        return show_json({"budgets": budgets})
    rows = [
        (
            str(one["app"] or "(all apps)"),
            show_money(_whole(one["nanos"])),
            show_money(_whole(one["spent_nanos"])),
            str(one["state"]),
            f"from {one['warn_percent']} %",
        )
        for one in budgets
        if isinstance(one, dict)
    ]
    show_table(("APP", "A MONTH", "SPENT", "STATE", "WARNS"), rows, "no budgets")


def _whole(value: Json) -> int:
    return value if isinstance(value, int) else round(number(value))
