"""Histograms in one line."""

from __future__ import annotations

import pytest

from relight.cli.starts import bars, used_buckets
from relight.cli.timeline import Row, level_name


@pytest.mark.parametrize(
    ("counts", "drawn"),
    [
        ([8, 4, 1], "█▄▁"),
        ([0, 1, 1000], " ▁█"),
        ([5, 0, 0], "█"),
        ([0, 0, 0], ""),
    ],
)
def test_a_bucket_is_as_high_as_its_part_of_the_fullest_and_seen_when_it_has_any(counts: list[int], drawn: str) -> None:
    assert bars(counts, range(3)) == drawn


def test_only_buckets_that_some_function_has_are_shown() -> None:
    groups: list[Row] = [{"buckets": [0, 0, 3, 0, 0, 0]}, {"buckets": [0, 0, 0, 0, 1, 0]}]

    assert used_buckets(groups) == range(2, 5)
    assert used_buckets([{"buckets": [0, 0]}]) == range(0)
    assert bars([0, 0, 3, 0, 0, 0], used_buckets(groups)) == "█"


def test_a_level_is_told_by_its_number_and_its_name() -> None:
    assert [level_name(one) for one in ("parked", "fork", "fetch", "of-tomorrow")] == [
        "0p parked",
        "1 fork",
        "5 fetch",
        "of-tomorrow",
    ]
