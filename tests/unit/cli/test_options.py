"""Lengths of time and moments, as people write them."""

from __future__ import annotations

from datetime import datetime

import click
import pytest

from relight.cli.options import Duration, Moment

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43200), ("30d", 2592000), ("4W", 2419200), ("1.5h", 5400)]
)
def test_a_length_of_time_is_a_number_and_a_letter(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1y", "30 days"])
def test_what_is_no_length_of_time_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 90s, 15m, 12h, 30d or 4w"):
        Duration().convert(text, None, None)


def test_a_moment_is_a_length_of_time_ago() -> None:
    assert Moment(lambda: NOW).convert("2h", None, None) == NOW - 7200


@pytest.mark.parametrize("text", ["2026-11-24T08:30:00+00:00", "2026-11-24T08:30:00Z"])
def test_a_moment_is_a_time_with_its_zone(text: str) -> None:
    assert Moment(lambda: NOW).convert(text, None, None) == 1_795_509_000


def test_a_time_without_a_zone_is_of_this_place() -> None:
    expected = datetime(2026, 11, 24, 8, 30).timestamp()

    assert Moment(lambda: NOW).convert("2026-11-24T08:30", None, None) == expected


@pytest.mark.parametrize("text", ["yesterday", "8:30", "2026-13-01"])
def test_what_is_no_moment_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no time; write 15m"):
        Moment(lambda: NOW).convert(text, None, None)


def test_a_number_stays_one() -> None:
    assert (Duration().convert(0.0, None, None), Moment(lambda: NOW).convert(5, None, None)) == (0.0, 5.0)
