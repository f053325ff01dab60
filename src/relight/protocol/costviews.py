"""What a person or a program may ask to see of costs.  Money is whole nano-dollars everywhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CostQuery:
    """Which costs, and told by what; empty fields ask for all.

    `by` is `call`, or what `metering.ledger.grouping` reads.  `against` names rate cards, `all` for every one; `region` is
    where they are asked for.  `is_forecast`: with what each will have cost by the end of the month.  `since` and `until` are seconds since 1970, 0 for no bound; a stretch belongs to the moment at which it ended.
    """

    by: str = "function"
    against: tuple[str, ...] = ()
    region: str = ""
    is_forecast: bool = False
    app: str = ""
    environment: str = ""
    function: str = ""
    since: float = 0.0
    until: float = 0.0
    call: str = ""
    limit: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CardCost:
    """What the same would have cost on another card; `nanos` None where that has no price for what is `unknown`.

    `known_nanos` is what the rest of it would have cost.
    """

    card: str
    nanos: int | None
    known_nanos: int = 0
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """What one of them cost: `nanos`, beside `unpriced` postings that have no price.

    Workers were there for `life_us`, of which `busy_us` with calls; `billed_us` were charged.  `cpu_us` is the CPU time that they
    took, `egress_bytes` what they sent; 0 where that is not counted, as it is not by call.  `month_nanos` and
    `forecast_nanos` are as those of the report, 0 where no forecast was asked for.
    """

    key: str
    nanos: int
    unpriced: int = 0
    life_us: int = 0
    busy_us: int = 0
    billed_us: int = 0
    cpu_us: int = 0
    egress_bytes: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    calls: int = 0
    workers: int = 0
    month_nanos: int = 0
    forecast_nanos: int = 0
    against: tuple[CardCost, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """The rows add up to `total`, to the nano-dollar.  By call the last row is what no call of the others had.

    `month_nanos` was spent since the month (UTC) began; `forecast_nanos` if it goes on as in the last seven days, or since the
    first of it was used.
    """

    by: str
    card: str
    rows: tuple[CostRow, ...]
    total: CostRow
    month_nanos: int = 0
    forecast_nanos: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetView:
    """What an app, or the whole workspace (""), may spend in a calendar month (UTC), what it has, and where that stands."""

    app: str
    nanos: int
    warn_percent: int
    spent_nanos: int
    state: str
