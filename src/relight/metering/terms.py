"""What a month's bill is after discounts, credits, commitments and minimum terms: pure, in whole nano-dollars.

In this order: the discount of each tier on the part of the month that lies in it, the discount for a commitment, the
credit, then what was committed as the least that is paid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from relight.metering.money import nanodollars, whole

_KEYS = frozenset(
    (
        *("tiers", "committed_per_month", "committed_discount", "credit_per_month", "training_credit"),
        *("free_replicas", "free", "minimum_term_hours"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """What is spent in a month above `above` nano-dollars costs so much less."""

    above: Fraction
    discount: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a card agrees on beside its prices.  `free` says in words what is free where no number is published."""

    tiers: tuple[Tier, ...] = ()
    committed_per_month: Fraction = Fraction(0)
    committed_discount: Fraction = Fraction(0)
    credit_per_month: Fraction = Fraction(0)
    training_credit: Fraction = Fraction(0)
    free_replicas: int = 0
    free: str = ""
    minimum_term_hours: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """One step from the sum of a month to what is asked: nano-dollars, negative where it is less."""

    what: str
    nanos: int


def settle(terms: Terms, month_nanos: int) -> tuple[Adjustment, ...]:
    """The steps from a month's postings to its bill; without one that changes nothing."""
    steps = [Adjustment(what="tier discount", nanos=-whole(_tiers(terms, month_nanos)))]
    left = month_nanos + steps[0].nanos
    steps.append(Adjustment(what="commitment discount", nanos=-whole(left * terms.committed_discount)))
    left += steps[1].nanos
    steps.append(Adjustment(what="credit", nanos=-min(left, whole(terms.credit_per_month))))
    left += steps[2].nanos
    steps.append(Adjustment(what="commitment", nanos=max(0, whole(terms.committed_per_month) - left)))
    return tuple(step for step in steps if step.nanos)


def _tiers(terms: Terms, month_nanos: int) -> Fraction:
    off = Fraction(0)
    ordered = sorted(terms.tiers, key=lambda tier: tier.above)
    for at, tier in enumerate(ordered):
        top = min([Fraction(month_nanos), *(after.above for after in ordered[at + 1 : at + 2])])
        off += max(Fraction(0), top - tier.above) * tier.discount
    return off


def read_terms(written: Mapping[str, object]) -> Terms:
    """Terms as a card writes them.  Raises ValueError."""
    strange = sorted(set(written) - _KEYS)
    if strange:
        raise ValueError(f"terms has {', '.join(strange)}, which no card has")
    tiers = written.get("tiers", [])
    if not isinstance(tiers, list):
        raise ValueError("tiers is no list")
    return Terms(
        tiers=tuple(Tier(above=nanodollars(one["above"]), discount=_share(one["discount"])) for one in tiers),
        committed_per_month=nanodollars(written.get("committed_per_month", 0)),
        committed_discount=_share(written.get("committed_discount", 0)),
        credit_per_month=nanodollars(written.get("credit_per_month", 0)),
        training_credit=_share(written.get("training_credit", 0)),
        free_replicas=int(Decimal(str(written.get("free_replicas", 0)))),
        free=str(written.get("free", "")),
        minimum_term_hours=int(Decimal(str(written.get("minimum_term_hours", 0)))),
    )


def _share(written: object) -> Fraction:
    share = nanodollars(written) / 10**9
    if not 0 <= share <= 1:
        raise ValueError(f"{written} is no share between 0 and 1")
    return share
