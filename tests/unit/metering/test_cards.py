"""Cards: read from TOML exactly, unknown where they say nothing, and refused with a reason where they are wrong."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from relight.metering.cards import cards_against, find_card, load_cards, read_card
from relight.metering.money import in_cents, nanodollars, show_money, whole
from relight.metering.pricing import GIB, Use, price
from relight.metering.providers import load_providers
from relight.metering.terms import Terms, Tier, settle
from relight.protocol.errors import InvalidRequest, NotFound
from relight.protocol.workers import STATES, WorkerKind, WorkerState

HEAD = 'id = "mine"\nname = "Mine"\ndated = 2026-11-24\nsource = "my contract"\n'
SECOND = 1_000_000


def busy(microseconds: int, **fields: object) -> Use:
    return Use(times=((WorkerState.BUSY, microseconds),), **fields)  # type: ignore[arg-type]  # fields of Use


def test_a_price_is_read_without_ever_being_a_float() -> None:
    card = read_card(HEAD + "cpu_core_hour = 0.1\nmemory_gib_hour = 0.0000000003\n", "mine")

    assert card.cpu == 100_000_000
    assert card.memory == Fraction(3, 10)


def test_a_price_that_is_not_there_is_unknown_and_so_is_every_sum_with_it() -> None:
    card = read_card(HEAD + "cpu_core_hour = 0.1\n", "mine")

    asked = price(card, busy(SECOND, cpu_millis=1000, memory_mib=1024))

    assert [line.nanos for line in asked.lines] == [27_778, None]
    assert asked.nanos is None
    assert asked.unknown == ("1 GiB",)


def test_nothing_used_costs_nothing_even_where_prices_are_unknown() -> None:
    assert price(find_card(load_cards(), "beam"), Use()).nanos == 0


def test_what_one_is_not_told_is_billed_by_the_one_table_of_states() -> None:
    card = read_card(HEAD, "mine")

    assert card.bills[WorkerKind.FLEX] == {state for state, rule in STATES.items() if rule.billed_flex}
    assert card.bills[WorkerKind.ACTIVE] == {state for state, rule in STATES.items() if rule.billed_active}


def test_time_is_rounded_up_once_and_a_minimum_holds_for_what_is_not_nothing() -> None:
    card = read_card(HEAD + 'per = "minute"\nminimum_seconds = 120\n', "mine")

    lengths = [0, 1, 120 * SECOND, 120 * SECOND + 1]

    assert [card.billed_us(WorkerKind.FLEX, ((WorkerState.BUSY, one),)) // SECOND for one in lengths] == [
        0,
        120,
        120,
        180,
    ]


def test_who_has_no_price_for_tokens_asks_for_time_alone_and_egress_without_one_is_unknown() -> None:
    card = read_card(HEAD + "cpu_core_hour = 0.036\nmemory_gib_hour = 0\n", "mine")

    told, sent = (
        price(card, busy(SECOND, cpu_millis=1000, **more)) for more in ({"tokens_in": 9}, {"egress_bytes": 1})
    )

    assert (told.nanos, told.unknown) == (10_000, ())
    assert (sent.nanos, sent.known_nanos, sent.unknown) == (None, 10_000, ("egress",))


def test_a_share_of_a_gpu_costs_its_share() -> None:
    runpod = load_cards()["runpod"]

    halves = price(runpod, busy(3600 * SECOND, gpus=("H100",), gpu_micros=500_000))

    assert [(line.what, line.nanos) for line in halves.lines] == [("0.5 × H100", 2_235_000_000)]


def test_a_region_has_its_own_prices_on_the_cards_that_have_it() -> None:
    cards = load_cards()

    (there,) = cards_against(cards, ["modal"], "us-west")

    assert (there.key, there.gpu("H100").flex) == ("modal/us-west", 8_330_000_000)  # type: ignore[union-attr]  # it has one
    assert [card.id for card in cards_against(cards, ["all"], "eu")] == ["modal", "modal"]
    assert len(cards_against(cards, ["all"])) == len(cards)
    for names, region in ((["runpod"], "eu"), (["all"], "moon")):
        with pytest.raises(NotFound, match="cannot price region"):
            cards_against(cards, names, region)


def test_calls_tokens_and_egress_are_lines_of_their_own() -> None:
    card = read_card(
        HEAD + "call = 0.0000002\negress_gib = 0.08\nmillion_tokens_in = 0.5\nmillion_tokens_out = 1.5\n", "mine"
    )

    asked = price(card, Use(calls=3, egress_bytes=GIB // 2, tokens_in=1000, tokens_out=2000))

    assert [(line.what, line.nanos) for line in asked.lines] == [
        ("calls", 600),
        ("egress", 40_000_000),
        ("tokens in", 500_000),
        ("tokens out", 3_000_000),
    ]


def test_a_region_changes_the_prices_of_time() -> None:
    card = read_card(
        HEAD + 'cpu_core_hour = 0.2\ngpus = [{ kind = "T4", flex_hour = 1 }]\n[regions]\neu = 1.25\n', "mine"
    )

    there = card.in_region("eu")

    assert there.cpu == nanodollars("0.25")
    assert there.gpus[0].flex == nanodollars("1.25")
    with pytest.raises(NotFound, match="it has eu"):
        card.in_region("mars")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("id = 7\n", "has no 'dated'"),
        (HEAD + "cpu = 3\n", "it has cpu, which no card has"),
        (HEAD + 'cpu_core_hour = "cheap"\n', "no decimal number"),
        (HEAD + 'per = "day"\n', "is none of microsecond"),
        (HEAD.replace("2026-11-24", '"today"'), "is no date"),
        (HEAD + 'bills_flex = ["sleeping"]\n', "sleeping"),
        ("id = ", "cannot read rate card mine"),
    ],
)
def test_a_wrong_card_is_refused_with_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        read_card(text, "mine")


def test_a_card_of_ones_own_takes_the_place_of_one_that_comes_with_relight(tmp_path: Path) -> None:
    (tmp_path / "machine.toml").write_text(HEAD.replace("mine", "machine") + "cpu_core_hour = 1\n")

    cards = load_cards(tmp_path)

    assert cards["machine"].cpu == 10**9
    assert cards["machine"].name == "Mine"


def test_an_hour_of_ones_own_machine_costs_its_price_its_power_and_its_idleness() -> None:
    machine = find_card(load_cards(), "machine").hardware

    assert machine is not None
    assert whole(machine.hour) == 216_986_301  # (2400 / 35,040 h + 0.2 kW × 0.20) / 0.5


def test_both_readings_of_a_card_are_there_and_the_default_has_the_plain_name() -> None:
    cards = load_cards()

    assert (cards["modal"].reading, cards["modal@included"].reading) == ("extra", "included")
    assert (cards["runpod"].reading, cards["runpod@most"].reading) == ("least", "most")


def test_a_month_is_discounted_by_tier_then_by_commitment_then_credited_and_never_below_what_was_committed() -> None:
    terms = Terms(
        tiers=(
            Tier(above=nanodollars(100), discount=Fraction(1, 10)),
            Tier(above=nanodollars(200), discount=Fraction(1, 5)),
        ),
        committed_discount=Fraction(1, 20),
        committed_per_month=nanodollars(50),
        credit_per_month=nanodollars(30),
    )

    steps = settle(terms, 300 * 10**9)

    assert [(step.what, step.nanos) for step in steps] == [
        ("tier discount", -30 * 10**9),  # 10 % of 100 $, 20 % of 100 $
        ("commitment discount", -13_500_000_000),  # 5 % of 270 $
        ("credit", -30 * 10**9),
    ]
    assert settle(Terms(), 7) == ()
    assert [(step.what, step.nanos) for step in settle(terms, 0)] == [("commitment", 50 * 10**9)]


def test_providers_take_their_prices_from_the_cards() -> None:
    rows = {row.name: row for row in load_providers(load_cards(), measured_start="4 ms")}

    assert list(rows) == ["RunPod", "Modal", "Replicate", "Baseten", "Beam", "relight"]
    assert (rows["RunPod"].h100, rows["Modal"].h100) == ("$4.4700/h", "$4.7600/h")
    assert rows["Beam"].h100 == rows["Replicate"].h100 == "unknown"
    assert rows["relight"].cold_start == "4 ms"


def test_money_is_shown_with_the_digits_that_it_has() -> None:
    shown = [show_money(nanos) for nanos in (None, 0, 7, 8005, 34_333_333, 1_978_025_114, 1_234_567_890_123, -8005)]

    assert shown == [
        "unknown",
        "$0",
        "$0.000000007",
        "$0.000008005",
        "$0.03433",
        "$1.9780",
        "$1,234.57",
        "-$0.000008005",
    ]
    assert [str(in_cents(nanos)) for nanos in (5_000_000, 15_000_000, 15_000_001)] == ["0.00", "0.02", "0.02"]
