"""Budgets: from what was spent in a month to what may still be begun.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from relight.metering.money import show_money


class BudgetState(str, Enum):
    """Where a budget stands."""

    OK = "ok"
    WARNED = "warned"
    SPENT = "spent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent in a calendar month (UTC), in nano-dollars."""

    nanos: int
    warn_percent: int = 80

    def state(self, spent_nanos: int) -> BudgetState:
        """Where it stands after so much."""
        if spent_nanos >= self.nanos:
            return BudgetState.SPENT
        return BudgetState.WARNED if spent_nanos * 100 >= self.nanos * self.warn_percent else BudgetState.OK

    def reason(self, spent_nanos: int, what: str) -> str:
        """Why nothing new of `what` begins."""
        spent, most = show_money(spent_nanos), show_money(self.nanos)
        return f"budget: {what} has spent {spent} of {most} this month; raise it with `relight budget set`"


def month_begin(now: float) -> float:
    """When the month of a moment began, both in seconds since 1970."""
    at = datetime.fromtimestamp(now, UTC)
    return datetime(at.year, at.month, 1, tzinfo=UTC).timestamp()


def month_end(now: float) -> float:
    """When the next month begins."""
    at = datetime.fromtimestamp(now, UTC)
    year, month = (at.year + 1, 1) if at.month == 12 else (at.year, at.month + 1)
    return datetime(year, month, 1, tzinfo=UTC).timestamp()


def forecast(spent_nanos: int, lately_nanos: int, lately_seconds: float, now: float) -> int:
    """What the month will have cost if it goes on as it did in the last `lately_seconds`."""
    left_us = round((month_end(now) - now) * 1e6)
    return spent_nanos + lately_nanos * left_us // max(1, round(lately_seconds * 1e6))
