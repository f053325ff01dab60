"""Tokens that a function reports: only numbers of them, and nowhere but in a worker."""

from __future__ import annotations

import pytest

import relight
from relight.protocol.inside import inside


def test_what_is_reported_reaches_the_worker_and_nothing_outside_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    relight.report_tokens(1, 2)
    monkeypatch.setattr(inside, "report_tokens", lambda read, written: told.append((read, written)))

    relight.report_tokens(3)
    relight.report_tokens(tokens_out=4)
    relight.report_tokens()

    assert told == [(3, 0), (0, 4)]


@pytest.mark.parametrize("wrong", [-1, 1.0, True, "5", 10**13])
def test_what_is_no_number_of_tokens_is_refused(wrong: object) -> None:
    with pytest.raises(relight.InvalidRequest, match=r"cannot report tokens_out=.*: it is no whole number"):
        relight.report_tokens(0, wrong)  # type: ignore[arg-type]  # what it refuses
