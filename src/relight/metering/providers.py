"""Platforms side by side: what sets them apart, from a data file, and their prices, from their cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources

import tomllib

from relight.metering.cards import Card
from relight.metering.money import show_money, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One platform; what nobody knows says `unknown`.  `h100` is an hour of it on its card."""

    name: str
    card: str
    pricing: str
    cold_start: str
    gpus: str
    h100: str
    self_hosting: str
    regions: str
    egress: str
    best_for: str


COLUMNS = tuple(field.name for field in fields(Provider) if field.name not in ("name", "card"))
"""What is compared, in the order of the table."""


def load_providers(cards: Mapping[str, Card], *, measured_start: str = "") -> tuple[Provider, ...]:
    """The platforms.  `measured_start` is what cold starts took here, "" where nothing was started yet."""
    text = (resources.files("relight.metering") / "providers.toml").read_text()
    rows = tomllib.loads(text)["providers"]
    own = {"cold_start": measured_start} if measured_start else {}
    return tuple(
        Provider(**{**row, **(own if row["name"] == "relight" else {})}, h100=_h100(cards, row["card"])) for row in rows
    )


def _h100(cards: Mapping[str, Card], name: str) -> str:
    rate = cards[name].gpu("H100") if name in cards else None
    return "unknown" if rate is None or rate.flex is None else f"{show_money(whole(rate.flex))}/h"
