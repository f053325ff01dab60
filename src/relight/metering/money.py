"""Money: whole nano-dollars.  Prices are exact fractions; an amount is rounded once, when it is made, half to even.

A nano-dollar is 10⁻⁹ $: a millisecond of an H100 at 4.47 $/h is 1,242 of them.  Nothing here is ever a float.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fractions import Fraction

from relight.protocol.errors import InvalidRequest

NANOS = 10**9
"""Nano-dollars in a dollar."""

HOUR_US = 3_600_000_000
"""Microseconds in an hour."""


def nanodollars(dollars: object) -> Fraction:
    """The nano-dollars in an amount as a card writes it: `2.17`, `"0.0000131"`, `3`.  Raises InvalidRequest."""
    if isinstance(dollars, bool) or not isinstance(dollars, (int, str, Decimal)):
        raise InvalidRequest(f"cannot read {dollars!r} as dollars: it is no decimal number; write for example 2.17")
    try:
        exact = Decimal(dollars)
    except InvalidOperation:
        exact = Decimal("NaN")
    if not exact.is_finite():
        raise InvalidRequest(f"cannot read {dollars!r} as dollars: it is no decimal number; write for example 2.17")
    return Fraction(exact) * NANOS


def whole(amount: Fraction) -> int:
    """An amount in whole nano-dollars: the nearest, and of two that are equally near the even one."""
    return round(amount)


def up_to(microseconds: int, quantum: int) -> int:
    """A length of time, rounded up to whole quanta."""
    return -(-microseconds // quantum) * quantum


def show_money(nanos: int | None) -> str:
    """As people read it: cents where they say enough, else as many digits as it has.  None is `unknown`."""
    if nanos is None:
        return "unknown"
    sign, dollars = ("-" if nanos < 0 else ""), Decimal(abs(nanos)).scaleb(-9)
    if not nanos:
        return "$0"
    if dollars >= 100:
        return f"{sign}${dollars:,.2f}"
    places = 4 if dollars >= 1 else min(9, 3 - dollars.adjusted())
    return f"{sign}${dollars:.{places}f}"


def in_cents(nanos: int) -> Decimal:
    """Dollars to the cent, half to even: what an invoice asks for."""
    return Decimal(round(Fraction(nanos, NANOS // 100))).scaleb(-2)
