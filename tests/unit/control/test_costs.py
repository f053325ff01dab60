"""Costs as they are told: by tags, with what each will come to, and beside other cards in a region there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from relight.control.catalog import Catalog
from relight.control.costs import CostReports
from relight.metering.budgets import month_begin, month_end
from relight.metering.cards import load_cards, read_card
from relight.metering.ledger import UNTAGGED, post
from relight.protocol.costviews import CostQuery
from relight.protocol.errors import InvalidRequest, NotFound
from relight.protocol.usage import UsageRecord, UsedBy
from relight.protocol.workers import WorkerState as S
from relight.store.store import Store, open_store
from relight.store.usage import UsageRow

WS = "default"
DAY = 86_400.0
NOW = month_begin(1_766_000_000.0) + 10 * DAY
CARD = read_card(
    """
id = "even"
name = "A nano-dollar a second"
dated = 2026-11-24
source = "a test"
cpu_core_hour = 0.0000036
memory_gib_hour = 0
egress_gib = 0
""",
    "even",
)


class At:
    """A clock that says NOW."""

    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return NOW

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps here")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def reports(store: Store) -> CostReports:
    return CostReports(store, Catalog(store), {**load_cards(), "even": CARD}, CARD, At())


async def use(store: Store, worker: str, seconds: int, *, days_ago: float, tag: str = "", sent: int = 0) -> None:
    """A core was busy for so long, so many days ago."""
    until = round((NOW - days_ago * DAY) * 1e6)
    by = UsedBy(workspace=WS, app="shop", environment="main", version="v", function=f"f-{worker}")
    record = UsageRecord(
        worker=worker,
        n=0,
        by=replace(by, tags=(("team", tag),) if tag else ()),
        since_us=until - seconds * 1_000_000,
        until_us=until,
        states=((S.BUSY, seconds * 1_000_000),),
        egress_bytes=sent,
        is_last=True,
    )
    row = UsageRow(record=record, node="n", cpu_millis=1000, memory_mib=1024)
    await store.usage.keep([row], lambda row, before: post(CARD, row, before))


async def test_costs_by_a_tag_add_up_and_each_group_has_its_own_forecast(store: Store, reports: CostReports) -> None:
    await use(store, "a", 700, days_ago=1, tag="search")
    await use(store, "b", 300, days_ago=8, tag="ads")
    await use(store, "c", 50, days_ago=1)

    report = await reports.report(WS, CostQuery(by="tag:team", is_forecast=True))

    days_left = round((month_end(NOW) - NOW) / DAY)
    rows = {row.key: row for row in report.rows}
    assert {key: row.nanos for key, row in rows.items()} == {"search": 700, "ads": 300, UNTAGGED: 50}
    assert sum(row.nanos for row in report.rows) == report.total.nanos == report.month_nanos == 1050
    assert rows["ads"].forecast_nanos == 300, "it ran eight days ago: the last seven say nothing of it"
    assert rows["search"].forecast_nanos == pytest.approx(700 + 700 * days_left, rel=0.01), "it is there since a day"
    assert report.forecast_nanos == pytest.approx(1050 + 750 / 7 * days_left, rel=0.01), "it is there all week"


async def test_what_ran_all_week_goes_on_as_in_that_week(store: Store, reports: CostReports) -> None:
    for days_ago in range(8):
        await use(store, f"w{days_ago}", 100, days_ago=days_ago)

    report = await reports.report(WS, CostQuery(function="f-w6"))
    whole = await reports.report(WS, CostQuery())

    days_left = round((month_end(NOW) - NOW) / DAY)
    assert whole.forecast_nanos == pytest.approx(800 + 100 * days_left, abs=2)
    assert (report.month_nanos, report.total.nanos) == (100, 100)


async def test_a_card_without_a_price_for_egress_says_what_it_knows(store: Store, reports: CostReports) -> None:
    await use(store, "a", 3600, days_ago=1, sent=1 << 30)

    report = await reports.report(WS, CostQuery(against=("modal", "even")))
    there = await reports.report(WS, CostQuery(against=("modal",), region="us"))

    modal, even = report.rows[0].against
    assert (modal.nanos, modal.known_nanos, modal.unknown) == (None, 55_152_000, ("egress",))
    assert (even.nanos, even.known_nanos, even.unknown) == (3600, 3600, ())
    assert report.total.egress_bytes == 1 << 30
    assert [(one.card, one.known_nanos) for one in there.rows[0].against] == [("modal/us", 82_728_000)]


async def test_what_cannot_be_told_is_refused_with_what_can(reports: CostReports) -> None:
    with pytest.raises(InvalidRequest, match=r"by 'colour': they are told by call, .*, tag, tag:NAME; name some"):
        await reports.report(WS, CostQuery(by="colour"))
    with pytest.raises(NotFound, match="cannot price region 'moon' on card 'modal': it has ap, eu, us"):
        await reports.report(WS, CostQuery(against=("modal",), region="moon"))
