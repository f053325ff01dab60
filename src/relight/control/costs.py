"""What things cost: the ledger told by call, worker, function, app or day, and beside it what other cards would have asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from relight.clock import Clock
from relight.control.catalog import Catalog
from relight.metering.budgets import forecast, month_begin
from relight.metering.cards import Card, cards_against
from relight.metering.ledger import Costs, Elsewhere, Sum, call_price
from relight.metering.pricing import Price, Use
from relight.protocol.costviews import CardCost, CostQuery, CostReport, CostRow
from relight.scheduler.placement import cpu_of, memory_of
from relight.store.store import Store
from relight.store.usage import Entry, UsageQuery, UsedCall

LATELY_SECONDS = 7 * 86_400.0
"""A forecast goes by so much of the past."""

LEAST_SECONDS = 86_400.0
"""By so much at the least: an hour's work of a day is not that of 24."""

OUTSIDE = "outside these calls"
"""The row of what no call had: starts, idle time, and calls that are not listed."""


class CostReports:
    """The ledger, told."""

    def __init__(self, store: Store, catalog: Catalog, cards: Mapping[str, Card], card: Card, clock: Clock) -> None:
        self._store = store
        self._catalog = catalog
        self._cards = cards
        self._card = card
        self._clock = clock

    async def report(self, workspace: str, query: CostQuery) -> CostReport:
        """What was spent, as asked.  Raises InvalidRequest, NotFound for a card that is not there."""
        cards = cards_against(self._cards, query.against, query.region)
        costs = await self._costs(workspace, _usage_query(query), "worker" if query.by == "call" else query.by, cards)
        total = _row("total", costs.total)
        if query.by == "call":
            rows = await self._by_call(workspace, query, cards, total)
        else:
            rows = _rows(costs)
            rows = await self._with_forecasts(workspace, query, rows) if query.is_forecast else rows
        month, ahead = await self._forecast(workspace, query)
        return CostReport(
            by=query.by, card=self._card.key, rows=rows, total=total, month_nanos=month, forecast_nanos=ahead
        )

    async def _costs(self, workspace: str, asked: UsageQuery, by: str, cards: Sequence[Card] = ()) -> Costs:
        return await self._store.usage.look(workspace, asked, partial(_gather, Costs(by, cards)))

    async def _by_call(
        self, workspace: str, query: CostQuery, cards: Sequence[Card], total: CostRow
    ) -> tuple[CostRow, ...]:
        asked = _usage_query(query)
        both = (*await self._store.usage.calls(workspace, asked), *await self._store.requests.used(workspace, asked))
        calls = sorted(both, key=lambda one: -one.ended_at)[: asked.limit]
        uses = [await self._use(workspace, call) for call in calls]
        rows = [self._call_row(call, use, cards) for call, use in zip(calls, uses, strict=True)]
        if query.call:
            return tuple(rows)
        outside = CostRow(
            key=OUTSIDE,
            nanos=total.nanos - sum(row.nanos for row in rows),
            unpriced=total.unpriced,
            life_us=total.life_us,
            cpu_us=total.cpu_us,
            egress_bytes=total.egress_bytes,
            tokens_in=total.tokens_in - sum(row.tokens_in for row in rows),
            tokens_out=total.tokens_out - sum(row.tokens_out for row in rows),
            busy_us=total.busy_us - sum(row.busy_us for row in rows),
            billed_us=total.billed_us - sum(row.billed_us for row in rows),
        )
        return (*rows, outside)

    def _call_row(self, call: UsedCall, use: Use, cards: Sequence[Card]) -> CostRow:
        cost = call_price(self._card, use, call.used_us)
        return CostRow(
            key=f"{call.id} {call.app}/{call.function}",
            nanos=cost.nanos or 0,
            unpriced=int(cost.nanos is None),
            busy_us=call.used_us,
            billed_us=call.used_us,
            tokens_in=call.tokens_in,
            tokens_out=call.tokens_out,
            calls=1,
            workers=1,
            against=tuple(_card_cost(card, call_price(card, use, call.used_us)) for card in cards),
        )

    async def _use(self, workspace: str, call: UsedCall) -> Use:
        """What the worker of a call held, by what its function asks for; and the call's own tokens."""
        version = await self._catalog.version(workspace, call.version, call.app, call.environment)
        resources = version.bind(call.function, call.binding).function.resources
        gpu = next(iter(resources.gpu), None)
        return Use(
            cpu_millis=round(cpu_of(resources) * 1000),
            memory_mib=memory_of(resources),
            gpus=(gpu.kind,) * gpu.count if gpu is not None else (),
            gpu_micros=round(gpu.share * 1_000_000) if gpu is not None else 1_000_000,
            tokens_in=call.tokens_in,
            tokens_out=call.tokens_out,
        )

    async def _forecast(self, workspace: str, query: CostQuery) -> tuple[int, int]:
        now = self._clock.now()
        spent = partial(
            self._store.usage.spent, workspace, query.app, environment=query.environment, function=query.function
        )
        month, lately = await spent(month_begin(now)), await spent(now - LATELY_SECONDS)
        return month.nanos, forecast(month.nanos, lately.nanos, _lately_seconds(now, month.since, lately.since), now)

    async def _with_forecasts(self, workspace: str, query: CostQuery, rows: tuple[CostRow, ...]) -> tuple[CostRow, ...]:
        """Each with what it cost this month, and will have by its end."""
        now = self._clock.now()
        asked = replace(_usage_query(query), until=0.0)
        month = await self._costs(workspace, replace(asked, since=month_begin(now)), query.by)
        lately = await self._costs(workspace, replace(asked, since=now - LATELY_SECONDS), query.by)
        return tuple(_with_forecast(row, month, lately, now) for row in rows)


def _gather(costs: Costs, entries: Iterable[Entry]) -> Costs:
    return costs.add(entries)


def _usage_query(query: CostQuery) -> UsageQuery:
    return UsageQuery(
        app=query.app,
        environment=query.environment,
        function=query.function,
        since=query.since,
        until=query.until,
        call=query.call,
        limit=query.limit,
    )


def _lately_seconds(now: float, *since: float) -> float:
    """How long that was of which a forecast goes by: less where it began not long ago, a day at the least."""
    first = min((one for one in since if one), default=now)
    return min(LATELY_SECONDS, max(LEAST_SECONDS, now - first))


def _with_forecast(row: CostRow, month: Costs, lately: Costs, now: float) -> CostRow:
    of_month, of_late = month.groups.get(row.key, Sum()), lately.groups.get(row.key, Sum())
    seconds = _lately_seconds(now, of_month.since_us / 1e6, of_late.since_us / 1e6)
    ahead = forecast(of_month.nanos, of_late.nanos, seconds, now)
    return replace(row, month_nanos=of_month.nanos, forecast_nanos=ahead)


def _rows(costs: Costs) -> tuple[CostRow, ...]:
    elsewhere = costs.elsewhere()
    return tuple(_row(key, costs.groups[key], elsewhere[key]) for key in sorted(costs.groups))


def _row(key: str, some: Sum, elsewhere: Mapping[str, Elsewhere] = MappingProxyType({})) -> CostRow:
    return CostRow(
        key=key,
        nanos=some.nanos,
        unpriced=some.unpriced,
        life_us=some.life_us,
        busy_us=some.busy_us,
        billed_us=some.billed_us,
        cpu_us=some.cpu_us,
        egress_bytes=some.egress_bytes,
        tokens_in=some.tokens_in,
        tokens_out=some.tokens_out,
        calls=some.calls,
        workers=len(some.workers),
        against=tuple(
            CardCost(
                card=card,
                nanos=None if cost.unknown else cost.known_nanos,
                known_nanos=cost.known_nanos,
                unknown=tuple(sorted(cost.unknown)),
            )
            for card, cost in elsewhere.items()
        ),
    )


def _card_cost(card: Card, cost: Price) -> CardCost:
    return CardCost(card=card.key, nanos=cost.nanos, known_nanos=cost.known_nanos, unknown=cost.unknown)
