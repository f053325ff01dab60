"""What was found when a machine was looked at: one line for each thing that must be right for it to run workers well."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Verdict(str, Enum):
    """What was found of one thing."""

    OK = "ok"
    WEAK = "weak"
    """Functions run, but with less than there could be: a limit that nobody keeps, a disk that is slow."""
    BROKEN = "broken"
    """The machine is not fit: functions do not run, or not apart from each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.  `advice` is the command to run, or what to do, where it is not `ok`.

    `value` is what was measured, in `unit`; None where nothing was.
    """

    name: str
    verdict: Verdict = Verdict.OK
    sentence: str
    advice: str = ""
    value: float | None = None
    unit: str = ""


def is_fit(checks: Iterable[Check]) -> bool:
    """Whether nothing is broken."""
    return all(check.verdict is not Verdict.BROKEN for check in checks)
