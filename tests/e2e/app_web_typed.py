"""Endpoints whose arguments are of every kind, for what asks them at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import Any, Literal

import relight

app = relight.App("web-typed")


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Item:
    name: str
    price: float = 1.0
    tags: list[str] = field(default_factory=list)


@dataclass
class Order:
    items: list[Item]
    size: Size = Size.SMALL
    note: str | None = None


@app.function()
@relight.web_endpoint()
def look(text: str, number: int = 0, ratio: float = 0.5, is_on: bool = False) -> dict[str, Any]:
    return {"text": text, "number": number, "ratio": ratio, "is_on": is_on}


@app.function()
@relight.web_endpoint()
def pick(size: Size, kind: Literal["a", "b", 3], names: list[str] = [], most: int | None = None) -> list[str]:  # noqa: B006 - as people write it
    return [size.value, str(kind), *names[:most]]


@app.function()
@relight.web_endpoint(method="POST")
def order(order: Order) -> Order:
    return order


@app.function()
@relight.web_endpoint(method="PUT")
async def move(at: datetime, to: date, where: dict[str, int], pair: tuple[int, str]) -> dict[str, str]:
    return {"at": at.isoformat(), "to": to.isoformat(), "where": str(sum(where.values())), "pair": str(pair)}


@app.function()
@relight.web_endpoint()
def count(to: int = 3) -> Iterator[int]:
    yield from range(min(to, 5))


@app.function()
@relight.web_endpoint(method="POST", requires_auth=True)
def echo(anything: Any = None) -> Any:
    return anything
