"""`relight rates` and `relight providers`: what things cost, here and elsewhere, and where each number is from."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import click

from relight.cli.options import json_option
from relight.cli.tables import show_duration, show_json, show_table
from relight.metering.cards import QUANTA, Card, GpuRate, cards_against, load_cards
from relight.metering.money import show_money, whole
from relight.metering.providers import COLUMNS, load_providers
from relight.protocol.errors import RelightError
from relight.protocol.manifest import Json
from relight.protocol.workers import WorkerState
from relight.sdk.connection import connect
from relight.sdk.environment import data_folder


def rates_folder() -> Path:
    """Where a user's own cards are."""
    return data_folder() / "rates"


@click.command()
@click.argument("card", required=False)
@click.option("--region", default="", metavar="NAME", help="What it is in this region: of the cards that have it.")
@json_option
def rates(*, card: str | None, region: str, as_json: bool) -> None:
    """Show rate cards: what an hour costs on each, or all that CARD says.

    Cards of your own are TOML files in ~/.relight/rates (docs/costs.md).

    \b
    Example:
      relight rates
      relight rates runpod
    """
    chosen = cards_against(load_cards(rates_folder()), [card or "all"], region)
    if as_json:
        return show_json({"cards": [_plain(one.key, one) for one in chosen]})
    if card is not None:
        return _show_one(chosen[0])
    columns = ("CARD", "DATED", "PER", "CORE/H", "GIB/H", "GPUS/H (FLEX, ACTIVE)", "")
    show_table(columns, [_row(one.key, one) for one in chosen], "no cards")


@click.command()
@json_option
def providers(*, as_json: bool) -> None:
    """Compare platforms: pricing, cold starts, GPUs, self-hosting, and what each is best for.

    \b
    Example:
      relight providers
    """
    rows = load_providers(load_cards(rates_folder()), measured_start=_measured_start())
    if as_json:
        return show_json({"providers": [{name: getattr(row, name) for name in ("name", *COLUMNS)} for row in rows]})
    table = [(name.replace("_", " "), *(str(getattr(row, name)) for row in rows)) for name in COLUMNS]
    show_table(("", *(row.name for row in rows)), table, "")


def _measured_start() -> str:
    """What starts took on the server that is up; "" where none is, or nothing was started."""
    try:
        answer = connect().json("GET", "/v1/starts/summary")
    except RelightError:
        return ""
    groups = answer.get("groups", []) if isinstance(answer, dict) else []
    counted = [one for one in groups if isinstance(one, dict) and one["count"]] if isinstance(groups, list) else []
    starts = sum(int(str(one["count"])) for one in counted)
    if not starts:
        return ""
    mean = sum(float(str(one["p50"])) * int(str(one["count"])) for one in counted) / starts
    return f"measured: {show_duration(mean)} (p50, {starts} starts)"


def _row(name: str, card: Card) -> tuple[str, ...]:
    gpus = ", ".join(f"{gpu.kind} {_pair(gpu)}" for gpu in card.gpus if gpu.flex is not None)
    marks = [mark for mark, is_so in (("assumed", card.is_assumed), ("reserved", card.is_reserved)) if is_so]
    per = _per(card)
    return (name, str(card.dated), per, _money(card.cpu), _money(card.memory), gpus or "unknown", " ".join(marks))


def _show_one(card: Card) -> None:
    click.echo(f"{card.key}: {card.name}, as of {card.dated}{' (assumed)' if card.is_assumed else ''}")
    click.echo(f"source: {card.source}")
    if card.note:
        click.echo(f"note: {card.note}")
    for reading in card.readings:
        click.echo(f"reading {reading}{' (this one)' if reading == card.reading else ''}")
    with_gpu = " (with a GPU: in its price)" if card.includes_cpu else ""
    rows = [("core, hour", _money(card.cpu) + with_gpu), ("GiB of memory, hour", _money(card.memory) + with_gpu)]
    rows += [(f"{gpu.kind}, hour: flex, active", _pair(gpu)) for gpu in card.gpus]
    rows += [("GiB of egress", _money(card.egress)), ("billed by the", _per(card))]
    rows += [("a million tokens in, out", f"{_money(card.tokens_in)}, {_money(card.tokens_out)}")]
    rows += [
        (f"{kind.value} workers are billed while", ", ".join(s.value for s in WorkerState if s in card.bills[kind]))
        for kind in card.bills
    ]
    if card.regions:
        rows += [
            ("in region", ", ".join(f"{name} × {float(factor):g}" for name, factor in sorted(card.regions.items())))
        ]
    terms = card.terms
    rows += [("free", terms.free)] if terms.free else []
    rows += [("credit each month", _money(terms.credit_per_month))] if terms.credit_per_month else []
    rows += [("training credit", f"{float(terms.training_credit):.0%}")] if terms.training_credit else []
    rows += [("least term", f"{terms.minimum_term_hours} h")] if terms.minimum_term_hours else []
    show_table(("WHAT", "PRICE"), rows, "")


def _plain(name: str, card: Card) -> dict[str, Json]:
    """A card as JSON: prices are nano-dollars, rounded to whole ones; null where unknown."""
    return {
        "card": name,
        "name": card.name,
        "dated": str(card.dated),
        "source": card.source,
        "note": card.note,
        "region": card.region,
        "regions": [{"region": name, "factor": float(factor)} for name, factor in sorted(card.regions.items())],
        "is_assumed": card.is_assumed,
        "is_reserved": card.is_reserved,
        "includes_cpu": card.includes_cpu,
        "quantum_us": card.quantum_us,
        "cpu_core_hour": _nanos(card.cpu),
        "memory_gib_hour": _nanos(card.memory),
        "egress_gib": _nanos(card.egress),
        "million_tokens_in": _nanos(card.tokens_in),
        "million_tokens_out": _nanos(card.tokens_out),
        "gpus": [
            {"kind": gpu.kind, "flex_hour": _nanos(gpu.flex), "active_hour": _nanos(gpu.active)} for gpu in card.gpus
        ],
    }


def _per(card: Card) -> str:
    return next(name for name, quantum in QUANTA.items() if quantum == card.quantum_us)


def _pair(gpu: GpuRate) -> str:
    return f"{_money(gpu.flex)}, {_money(gpu.active)}"


def _nanos(price: Fraction | None) -> int | None:
    return None if price is None else whole(price)


def _money(price: Fraction | None) -> str:
    return show_money(_nanos(price))
