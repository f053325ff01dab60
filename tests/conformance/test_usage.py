"""The ledger in the store: each stretch once, each life closed once, and nothing ever changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relight.metering.cards import load_cards
from relight.metering.ledger import gaps, post
from relight.protocol.errors import Unavailable
from relight.protocol.manifest import CodeBundle, Manifest
from relight.protocol.usage import UsageRecord, UsedBy
from relight.protocol.workers import WorkerState as S
from relight.store.budgets import BudgetRow
from relight.store.rows import NewVersion
from relight.store.store import Store
from relight.store.usage import Before, Entry, Posting, Spent, UsageQuery, UsageRow

WS = "default"
CARD = load_cards()["modal"]
SECOND = 1_000_000
BEGIN = 1_700_000_000 * SECOND
BY = UsedBy(workspace=WS, app="shop", environment="main", version="v1", function="square")


def stretch(n: int, *, worker: str = "w1", seconds: int = 10, is_last: bool = False, state: S = S.BUSY) -> UsageRow:
    """The `n`-th stretch of a life of stretches that are so long."""
    since = BEGIN + n * seconds * SECOND
    record = UsageRecord(
        worker=worker,
        n=n,
        by=BY,
        since_us=since,
        until_us=since + seconds * SECOND,
        states=((state, seconds * SECOND),),
        calls=1,
        is_last=is_last,
    )
    return UsageRow(record=record, node="n", cpu_millis=1000, memory_mib=1024)


def by_card(row: UsageRow, before: Before) -> Posting:
    return post(CARD, row, before)


async def entries(store: Store, **asked: object) -> list[Entry]:
    return await store.usage.look(WS, UsageQuery(**asked), list)  # type: ignore[arg-type]  # fields of a query


async def test_a_stretch_is_kept_with_its_posting_and_told_again_changes_nothing(store: Store) -> None:
    await store.usage.keep([stretch(0), stretch(1)], by_card)
    await store.usage.keep([stretch(1), stretch(0), stretch(2)], by_card)

    kept = await entries(store)

    assert [entry.row for entry in kept] == [stretch(n) for n in range(3)]
    assert sum(entry.posting.nanos or 0 for entry in kept) == 459_600  # 30 s of a core and a GiB
    assert gaps(entry.row for entry in kept) == []


async def test_all_that_was_counted_of_a_stretch_is_kept_and_priced_after_what_was_before(store: Store) -> None:
    full = stretch(0)
    counted = {"cpu_us": 7, "egress_bytes": 1 << 20, "tokens_in": 3, "tokens_out": 4}
    full = replace(full, record=replace(full.record, **counted), gpus=("L4",), gpu_micros=250_000)  # type: ignore[arg-type]  # fields
    befores: list[Before] = []

    def noting(row: UsageRow, before: Before) -> Posting:
        befores.append(before)
        return by_card(row, before)

    await store.usage.keep([full, stretch(1)], noting)

    assert [entry.row for entry in await entries(store)] == [full, stretch(1)]
    assert befores[1] == Before(times=full.record.states, calls=1, egress_bytes=1 << 20, tokens_in=3, tokens_out=4)


async def test_a_stretch_has_the_tags_of_its_deploy_and_over_them_its_functions_own(store: Store) -> None:
    code = CodeBundle(digest="d", size=1, folder="/")
    version = NewVersion(
        workspace=WS,
        id="v1",
        app="shop",
        environment="main",
        manifest=Manifest(app="shop", code=code, functions=()),
        at=1.0,
        tags=(("branch", "b"), ("team", "deploys")),
    )
    await store.versions.deploy(version)
    own = stretch(0)
    own = replace(own, record=replace(own.record, by=replace(BY, tags=(("team", "search"),))))
    await store.usage.keep([own, stretch(1)], by_card)

    tags = [entry.row.record.by.tags for entry in await entries(store)]

    assert tags == [(("branch", "b"), ("team", "search")), (("branch", "b"), ("team", "deploys"))]


async def test_after_its_last_word_nothing_of_a_worker_counts(store: Store) -> None:
    await store.usage.keep([stretch(0, is_last=True)], by_card)
    await store.usage.keep([stretch(1)], by_card)
    await store.usage.close(stretch(5), by_card)

    assert [entry.row.record.n for entry in await entries(store)] == [0]


async def test_a_life_that_its_node_cannot_end_is_closed_from_where_it_was_told_of_last(store: Store) -> None:
    await store.usage.keep([stretch(0), stretch(1)], by_card)
    seen = stretch(0)
    gone = replace(seen.record, until_us=BEGIN + 25 * SECOND, states=((S.BUSY, 2 * SECOND), (S.IDLE, 1 * SECOND)))

    await store.usage.close(replace(seen, record=gone), by_card)
    await store.usage.close(replace(seen, record=gone), by_card)
    kept = await entries(store)

    assert [entry.row.record.n for entry in kept] == [0, 1, 2]
    assert kept[-1].row.record.states == ((S.BUSY, 4 * SECOND), (S.IDLE, 1 * SECOND))
    assert kept[-1].row.record.is_last
    assert gaps(entry.row for entry in kept) == []


async def test_a_life_of_which_nothing_was_told_is_closed_by_what_was_seen_of_it(store: Store) -> None:
    await store.usage.close(stretch(0), by_card)
    empty = stretch(0, worker="w2")
    await store.usage.close(replace(empty, record=replace(empty.record, until_us=empty.record.since_us)), by_card)

    assert [(entry.row.record.worker, entry.row.length_us) for entry in await entries(store)] == [("w1", 10 * SECOND)]


async def test_what_was_posted_is_corrected_by_another_posting(store: Store) -> None:
    await store.usage.keep([stretch(0)], by_card)

    numbers = [
        await store.usage.correct(WS, "w1", n, Posting(card="modal", nanos=-100, billed_us=0, reason="a credit"))
        for n in (0, 0, 7)
    ]

    assert numbers == [1, 2, None]
    assert [entry.posting.nanos for entry in await entries(store)] == [153_200, -100, -100]
    assert await store.usage.spent(WS, "", 0.0) == Spent(nanos=153_000, unpriced=0, since=BEGIN / SECOND)


@pytest.mark.parametrize(
    "change", ["UPDATE usage SET until_us = 0", "DELETE FROM postings", "UPDATE postings SET nanos = 0"]
)
async def test_nothing_can_be_changed_or_removed(store: Store, change: str) -> None:
    await store.usage.keep([stretch(0)], by_card)

    with pytest.raises(Unavailable, match=r"never changed|corrected by another"):
        await store.databases[0].write("forgery", lambda connection: connection.execute(change))


async def test_a_query_finds_what_it_asks_for(store: Store) -> None:
    await store.usage.keep([stretch(0), stretch(1), stretch(2)], by_card)
    middle = BEGIN / SECOND + 20

    found = [
        len(await entries(store, **asked))
        for asked in (
            {"since": middle},
            {"until": middle},
            {"app": "shop"},
            {"function": "none"},
            {"environment": "main"},
        )
    ]

    assert found == [1, 2, 3, 0, 3]
    assert (await store.usage.spent(WS, "shop", middle)).nanos == 153_200
    assert (await store.usage.spent(WS, "shop", 0.0, environment="main", function="square")).nanos == 459_600
    assert (await store.usage.spent(WS, "shop", 0.0, function="none")).nanos == 0
    assert await store.usage.spent(WS, "other", 0.0) == Spent(nanos=0, unpriced=0, since=0.0)


async def test_a_posting_without_a_price_is_counted(store: Store) -> None:
    beam = load_cards()["beam"]
    await store.usage.keep([stretch(0)], lambda row, before: post(beam, row, before))

    assert await store.usage.spent(WS, "", 0.0) == Spent(nanos=0, unpriced=1, since=BEGIN / SECOND)


async def test_budgets_are_kept_by_app(store: Store) -> None:
    await store.budgets.put(BudgetRow(workspace=WS, app="shop", nanos=5))
    await store.budgets.put(BudgetRow(workspace=WS, app="shop", nanos=7, warn_percent=50))
    await store.budgets.put(BudgetRow(workspace=WS, app="", nanos=9))
    await store.budgets.remove(WS, "")

    assert await store.budgets.all() == (BudgetRow(workspace=WS, app="shop", nanos=7, warn_percent=50),)
