"""The ledger: any grouping adds up to one total, a life costs the same however it was sealed, and replaying changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.metering.budgets import Budget, BudgetState, forecast, month_begin, month_end
from relight.metering.cards import load_cards, read_card
from relight.metering.ledger import GROUPINGS, UNTAGGED, Costs, Elsewhere, after, gaps, post, replay, use_of
from relight.metering.pricing import price
from relight.protocol.errors import InvalidRequest
from relight.protocol.usage import UsageRecord, UsedBy
from relight.protocol.workers import WorkerKind
from relight.protocol.workers import WorkerState as S
from relight.store.usage import Before, Entry, Posting, UsageRow

BY = UsedBy(workspace="default", app="shop", environment="main", version="v1", function="square")
DAY_US = 86_400_000_000
TAGS = {1: (("team", "search"), ("tier", "gold")), 2: (("team", "ads"),), 3: ()}
PRICED = """
id = "priced"
name = "All that can be priced"
dated = 2026-11-24
source = "a test"
per = "second"
cpu_core_hour = 0.1
memory_gib_hour = 0.01
egress_gib = 0.08
million_tokens_in = 0.5
million_tokens_out = 1.5
gpus = [{ kind = "H100", flex_hour = 4.0, active_hour = 3.0 }]
"""
CARDS = {**load_cards(), "priced": read_card(PRICED, "priced")}

lives = st.lists(
    st.tuples(
        st.sampled_from(["w1", "w2", "w3"]),
        st.dictionaries(st.sampled_from([S.STARTING, S.BUSY, S.IDLE, S.DRAINING]), st.integers(1, DAY_US), min_size=1),
    ),
    max_size=30,
)


def ledger(stretches: list[tuple[str, dict[S, int]]], card: str = "priced") -> list[Entry]:
    """The stretches of three workers, posted one after another as they were sealed."""
    before: dict[str, Before] = {}
    ends: dict[str, int] = {}
    entries = []
    for worker, times in stretches:
        number = int(worker[1])
        since = ends.get(worker, number * DAY_US)
        record = UsageRecord(
            worker=worker,
            n=sum(entry.row.record.worker == worker for entry in entries),
            by=replace(
                BY,
                function=f"f{number % 2}",
                kind=WorkerKind.ACTIVE if number == 3 else WorkerKind.FLEX,
                tags=TAGS[number],
            ),
            since_us=since,
            until_us=since + sum(times.values()),
            states=tuple((state, times[state]) for state in S if state in times),
            calls=1,
            egress_bytes=333 * number,
            tokens_in=7 * number,
            tokens_out=number,
        )
        row = UsageRow(
            record=record,
            node="n",
            cpu_millis=333 * number,
            memory_mib=77,
            gpus=("H100",) * (number == 2),
            gpu_micros=1_000_000 // number,
        )
        entries.append(Entry(row=row, posting=post(CARDS[card], row, before.get(worker, Before()))))
        before[worker], ends[worker] = after(row, before.get(worker, Before())), record.until_us
    return entries


@given(lives)
def test_every_grouping_adds_up_to_the_same_total(stretches: list[tuple[str, dict[S, int]]]) -> None:
    entries = ledger(stretches)
    total = sum(entry.posting.nanos or 0 for entry in entries)

    for by in (*GROUPINGS, "tag:team", "tag:nobody", "tag:team,day,function"):
        costs = Costs(by).add(entries)
        assert sum(group.nanos for group in costs.groups.values()) == costs.total.nanos == total
        assert sum(group.life_us for group in costs.groups.values()) == costs.total.life_us


def test_costs_are_told_by_all_tags_by_one_or_by_several_things_together() -> None:
    entries = ledger([("w1", {S.BUSY: 1}), ("w2", {S.BUSY: 1}), ("w3", {S.BUSY: 1})], "priced")

    groups = [list(Costs(by).add(entries).groups) for by in ("tag", "tag:tier", "tag:team,function")]

    assert groups == [
        ["team=search, tier=gold", "team=ads", UNTAGGED],
        ["gold", UNTAGGED],
        ["search shop/f1", "ads shop/f0", f"{UNTAGGED} shop/f1"],
    ]
    for wrong in ("", "tag:", "colour", "day,", "call,day"):
        with pytest.raises(InvalidRequest, match="name some of them"):
            Costs(wrong)


@given(lives, st.sampled_from(sorted(CARDS)))
def test_a_life_costs_the_same_however_often_it_was_sealed(
    stretches: list[tuple[str, dict[S, int]]], card: str
) -> None:
    entries = ledger(stretches, card)
    whole: dict[str, Before] = {}
    for entry in entries:
        whole[entry.row.record.worker] = after(entry.row, whole.get(entry.row.record.worker, Before()))
    rows = {entry.row.record.worker: entry.row for entry in entries}

    for worker, used in whole.items():
        posted = [entry.posting for entry in entries if entry.row.record.worker == worker]
        asked = price(CARDS[card], use_of(rows[worker], used))
        assert sum(one.billed_us for one in posted) == asked.billed_us
        if asked.nanos is not None:
            assert sum(one.nanos or 0 for one in posted) == asked.nanos


@given(lives)
def test_replaying_a_ledger_gives_the_same_total(stretches: list[tuple[str, dict[S, int]]]) -> None:
    entries = ledger(stretches)

    assert replay(entries, CARDS) == Costs("app").add(entries).total.nanos


def test_a_correction_changes_what_is_owed_and_not_how_long_anything_took() -> None:
    entries = ledger([("w1", {S.BUSY: 3_600_000_000})])
    right = Entry(
        row=entries[0].row, posting=Posting(card="priced", nanos=-5, billed_us=0, correction=1, reason="credit")
    )

    before, now = Costs("app").add(entries), Costs("app").add([*entries, right])

    assert now.total.nanos == before.total.nanos - 5
    assert (now.total.life_us, now.total.calls) == (before.total.life_us, before.total.calls)
    assert replay([*entries, right], CARDS) == now.total.nanos


def test_what_has_no_price_is_counted_and_not_summed() -> None:
    entries = ledger([("w1", {S.BUSY: 10**6}), ("w2", {S.BUSY: 10**6})], "runpod")

    costs = Costs("worker", [CARDS["runpod"], CARDS["modal"]]).add(entries)

    assert (costs.groups["w1"].unpriced, costs.groups["w1"].nanos) == (1, 0)  # RunPod: no worker without a GPU
    assert costs.groups["w2"].nanos == 620_833  # half an H100 for a second; egress is free
    assert costs.elsewhere()["w1"]["runpod"] == Elsewhere(0, {"0.333 cores", "0.0751953 GiB"})
    assert costs.elsewhere()["w2"] == {
        "runpod": Elsewhere(620_833),
        "modal": Elsewhere(670_003, {"egress"}),  # 661,111 + 0.666 cores 8,725 + 77 MiB 167
    }


def test_gaps_and_overlaps_are_found() -> None:
    rows = [entry.row for entry in ledger([("w1", {S.BUSY: 100}), ("w1", {S.IDLE: 50})])]
    late = replace(rows[1], record=replace(rows[1].record, since_us=rows[1].record.since_us + 7))
    early = replace(rows[1], record=replace(rows[1].record, since_us=rows[1].record.since_us - 7))

    assert (gaps(rows), gaps([rows[0], late]), gaps([rows[0], early])) == ([], [("w1", 7)], [("w1", -7)])


def test_a_budget_warns_and_is_spent_at_the_very_nano_dollar() -> None:
    budget = Budget(nanos=1000, warn_percent=80)

    assert [budget.state(spent) for spent in (799, 800, 999, 1000)] == [
        BudgetState.OK,
        BudgetState.WARNED,
        BudgetState.WARNED,
        BudgetState.SPENT,
    ]
    assert budget.reason(1000, "app 'shop'").startswith("budget: app 'shop' has spent $0.00000100")


def test_a_month_is_a_calendars_and_a_forecast_goes_on_as_of_late() -> None:
    at = 1_766_000_000.0  # 2025-12-17T19:33:20Z

    assert (month_begin(at), month_end(at)) == (1_764_547_200.0, 1_767_225_600.0)
    assert forecast(100, 70, 7 * 86_400.0, month_end(at) - 86_400.0) == 110
