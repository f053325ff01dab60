"""Ten workloads priced by hand on each card, to the nano-dollar, with the rounding said where it shows.

A line (cores, memory, each kind of GPU) is its price an hour × billed time ÷ 3600 s, rounded once; the total is their sum.
Where a card is not named its price is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from relight.metering.cards import load_cards
from relight.metering.pricing import Use, price
from relight.protocol.workers import WorkerKind
from relight.protocol.workers import WorkerState as S

CARDS = load_cards()
WORKED: list[tuple[str, Use, Mapping[str, int]]] = [
    (
        # modal: 61 s billed of 60.004 (rounded up). core: 0.125 × 61/3600 × 47,160,000 = 99,887.5 → 99,888 (half to even); 0.125 GiB: 16,927.5 → 16,928
        "a hello of 1 ms",
        Use(
            kind=WorkerKind.FLEX,
            times=(
                (S.STARTING, 3_000),
                (S.BUSY, 1_000),
                (S.IDLE, 60_000_000),
            ),
            cpu_millis=125,
            memory_mib=128,
            gpus=(),
        ),
        {"machine": 0, "own-h100": 0, "modal": 116_816, "modal@included": 116_816},
    ),
    (
        # machine bills 2.5 s busy. hour = (2400/35040 + 0.2 × 0.2) / 0.5 $ = 216,986,301.37 n$; core: × 0.7/16 × 2.5/3600 = 6,592.5 → 6,592 or 6,593; 2 GiB: × 0.3/64 × 2 × 2.5/3600 = 1,412.7 → 1,413
        "an OCR of 2.5 s on one core",
        Use(
            kind=WorkerKind.FLEX,
            times=(
                (S.STARTING, 4_000_000),
                (S.BUSY, 2_500_000),
                (S.IDLE, 60_000_000),
            ),
            cpu_millis=1000,
            memory_mib=2048,
            gpus=(),
        ),
        {"machine": 8_005, "own-h100": 5_151, "modal": 1_175_180, "modal@included": 1_175_180},
    ),
    (
        # runpod: 308.75 s from start to stop → 309 s × 400,000,000/3600 = 34,333,333.3; dedicated: an hour
        "a chat of 0.75 s on a T4",
        Use(
            kind=WorkerKind.FLEX,
            times=(
                (S.STARTING, 8_000_000),
                (S.BUSY, 750_000),
                (S.IDLE, 300_000_000),
            ),
            cpu_millis=1000,
            memory_mib=4096,
            gpus=("T4",),
        ),
        {"runpod": 34_333_333, "runpod@most": 34_333_333, "dedicated": 180_000_000},
    ),
    (
        # modal: 74.2 → 75 s × 1.1/3600 = 22,916,666.7; 2 cores 1,965,000; 8 GiB 1,332,000
        "an image of 4.2 s on an A10G",
        Use(
            kind=WorkerKind.FLEX,
            times=(
                (S.STARTING, 10_000_000),
                (S.BUSY, 4_200_000),
                (S.IDLE, 60_000_000),
            ),
            cpu_millis=2000,
            memory_mib=8192,
            gpus=("A10G",),
        ),
        {"modal": 26_213_667, "modal@included": 22_916_667},
    ),
    (
        # 60.000001 s is 61 s by the second, and on replicate (busy only) too: 61 × 8.28/3600 = 140,300,000 exactly
        "a minute and a microsecond on an A100-80GB",
        Use(
            kind=WorkerKind.FLEX, times=((S.BUSY, 60_000_001),), cpu_millis=4000, memory_mib=16384, gpus=("A100-80GB",)
        ),
        {
            "runpod": 36_769_444,
            "runpod@most": 36_769_444,
            "modal": 68_396_453,
            "modal@included": 63_033_333,
            "replicate": 140_300_000,
            "dedicated": 976_500_000,
        },
    ),
    (
        # active: 3,600 s. runpod: 4.47 × 0.8 = 3.576 $; with the other reading 4.47 × 0.7 = 3.129 $
        "an hour, always on, on an H100",
        Use(
            kind=WorkerKind.ACTIVE,
            times=(
                (S.STARTING, 30_000_000),
                (S.BUSY, 1_170_000_000),
                (S.IDLE, 2_400_000_000),
            ),
            cpu_millis=8000,
            memory_mib=65536,
            gpus=("H100",),
        ),
        {
            "own-h100": 1_978_025_114,
            "runpod": 3_576_000_000,
            "runpod@most": 3_129_000_000,
            "modal": 5_648_768_000,
            "modal@included": 4_760_000_000,
            "dedicated": 2_011_500_000,
        },
    ),
    (
        # runpod: 10,860 s × 2 × 4.47/3600 = 26.969 $; dedicated: 4 h × 2 × 2.0115 = 16.092 $
        "a batch of 3 h on two H100",
        Use(
            kind=WorkerKind.FLEX,
            times=(
                (S.STARTING, 60_000_000),
                (S.BUSY, 10_800_000_000),
            ),
            cpu_millis=16000,
            memory_mib=131072,
            gpus=("H100", "H100"),
        ),
        {
            "own-h100": 11_868_150_685,
            "runpod": 26_969_000_000,
            "runpod@most": 26_969_000_000,
            "modal": 34_080_900_267,
            "modal@included": 28_718_666_667,
            "dedicated": 16_092_000_000,
        },
    ),
    (
        # runpod: 24 h × 3.99 × 0.8 = 76.608 $; dedicated: 24 × 1.7955 = 43.092 $
        "a day, always on, on an H200",
        Use(
            kind=WorkerKind.ACTIVE,
            times=(
                (S.STARTING, 60_000_000),
                (S.BUSY, 43_200_000_000),
                (S.IDLE, 43_140_000_000),
            ),
            cpu_millis=8000,
            memory_mib=131072,
            gpus=("H200",),
        ),
        {"runpod": 76_608_000_000, "runpod@most": 67_032_000_000, "dedicated": 43_092_000_000},
    ),
    (
        # modal: 1 s × 6.25/3600 = 1,736,111.1; 1 core 13,100; 1 GiB 2,220
        "a third of a second on a B200",
        Use(kind=WorkerKind.FLEX, times=((S.BUSY, 333_333),), cpu_millis=1000, memory_mib=1024, gpus=("B200",)),
        {"modal": 1_751_431, "modal@included": 1_736_111},
    ),
    (
        # runpod: 28,925 s × 1.89/3600 = 15.185625 $; dedicated: 9 h × 0.8505 = 7.6545 $
        "8 hours of training on an A100-40GB",
        Use(
            kind=WorkerKind.FLEX,
            times=(
                (S.STARTING, 120_000_000),
                (S.BUSY, 28_800_000_000),
                (S.DRAINING, 5_000_000),
            ),
            cpu_millis=8000,
            memory_mib=32768,
            gpus=("A100-40GB",),
        ),
        {
            "runpod": 15_185_625_000,
            "runpod@most": 15_185_625_000,
            "modal": 27_422_699_778,
            "modal@included": 22_336_527_778,
            "dedicated": 7_654_500_000,
        },
    ),
]


@pytest.mark.parametrize(("use", "costs"), [row[1:] for row in WORKED], ids=[row[0] for row in WORKED])
def test_a_workload_costs_what_it_comes_to_by_hand(use: Use, costs: Mapping[str, int]) -> None:
    assert {name: price(card, use).nanos for name, card in CARDS.items()} == {name: costs.get(name) for name in CARDS}


def test_every_card_that_is_shipped_is_in_the_table() -> None:
    priced = {name for _, _, costs in WORKED for name in costs}

    assert set(CARDS) - priced == {"baseten", "beam"}, "only these two publish no prices"
