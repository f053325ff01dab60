"""What the bench of metering makes of its times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Bench


def test_a_pair_that_is_a_tenth_slower_is_a_tenth_more(bench: Bench) -> None:
    off, on = [0.0010] * 99 + [0.02], [0.0011] * 99 + [0.05]

    found = bench.metering.figures_of(off, on)

    assert found.more == pytest.approx(0.10)
    assert (round(found.off_p50_us), round(found.on_p50_us), round(found.more_us)) == (1000, 1100, 100)
    assert (round(found.off_p99_us), round(found.on_p99_us)) == (20_000, 50_000)
