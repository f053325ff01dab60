"""What things cost: the ledger told by call, worker, function, app or day, and beside it what other cards would have asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from relight.clock import Clock
from relight.control.catalog import Catalog
from relight.metering.budgets import forecast, month_begin
from relight.metering.cards import Card, find_card
from relight.metering.ledger import GROUPINGS, Costs, Sum, call_cost
from relight.metering.pricing import Use
from relight.protocol.costviews import CardCost, CostQuery, CostReport, CostRow
from relight.protocol.errors import InvalidRequest
from relight.scheduler.placement import cpu_of, memory_of
from relight.store.store import Store
from relight.store.usage import Entry, UsageQuery, UsedCall

LATELY_SECONDS = 7 * 86_400.0
"""A forecast goes by so much of the past."""

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
        if query.by != "call" and query.by not in GROUPINGS:
            known = ", ".join(("call", *GROUPINGS))
            raise InvalidRequest(f"cannot tell costs by {query.by[:40]!r}: they are told by {known}; name one of them")
        cards = self._against(query.against)
        by = "worker" if query.by == "call" else query.by
        costs = await self._costs(workspace, query, by, cards)
        total = _row("total", costs.total, ())
        if query.by == "call":
            rows = await self._by_call(workspace, query, cards, total)
        else:
            elsewhere = costs.elsewhere()
            rows = tuple(_row(key, costs.groups[key], _card_costs(elsewhere[key])) for key in sorted(costs.groups))
        month, ahead = await self._forecast(workspace, query)
        return CostReport(
            by=query.by, card=self._card.key, rows=rows, total=total, month_nanos=month, forecast_nanos=ahead
        )

    async def _costs(self, workspace: str, query: CostQuery, by: str, cards: Sequence[Card]) -> Costs:
        asked = _usage_query(query)
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
            busy_us=total.busy_us - sum(row.busy_us for row in rows),
            billed_us=total.billed_us - sum(row.billed_us for row in rows),
        )
        return (*rows, outside)

    def _call_row(self, call: UsedCall, use: Use, cards: Sequence[Card]) -> CostRow:
        cost = call_cost(self._card, use, call.used_us)
        return CostRow(
            key=f"{call.id} {call.app}/{call.function}",
            nanos=cost or 0,
            unpriced=int(cost is None),
            busy_us=call.used_us,
            billed_us=call.used_us,
            calls=1,
            workers=1,
            against=tuple(CardCost(card=card.key, nanos=call_cost(card, use, call.used_us)) for card in cards),
        )

    async def _use(self, workspace: str, call: UsedCall) -> Use:
        """What the worker of a call held, by what its function asks for."""
        version = await self._catalog.version(workspace, call.version, call.app, call.environment)
        resources = version.bind(call.function, call.binding).function.resources
        gpu = next(iter(resources.gpu), None)
        return Use(
            cpu_millis=round(cpu_of(resources) * 1000),
            memory_mib=memory_of(resources),
            gpus=(gpu.kind,) * gpu.count if gpu is not None else (),
        )

    async def _forecast(self, workspace: str, query: CostQuery) -> tuple[int, int]:
        now = self._clock.now()
        month, _ = await self._store.usage.spent(workspace, query.app, month_begin(now))
        lately, _ = await self._store.usage.spent(workspace, query.app, now - LATELY_SECONDS)
        return month, forecast(month, lately, LATELY_SECONDS, now)

    def _against(self, names: Sequence[str]) -> list[Card]:
        if "all" in names:
            return list(self._cards.values())
        return [find_card(self._cards, name) for name in names]


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


def _row(key: str, some: Sum, against: tuple[CardCost, ...]) -> CostRow:
    return CostRow(
        key=key,
        nanos=some.nanos,
        unpriced=some.unpriced,
        life_us=some.life_us,
        busy_us=some.busy_us,
        billed_us=some.billed_us,
        calls=some.calls,
        workers=len(some.workers),
        against=against,
    )


def _card_costs(costs: Mapping[str, int | None]) -> tuple[CardCost, ...]:
    return tuple(CardCost(card=card, nanos=nanos) for card, nanos in costs.items())
