"""Floors by the clock on the wall: pure, from what was asked and the time, in the time zone where people work.

A time of the day is compared where it is read, so that a floor of eight o'clock is at eight on both sides of a change to
summer time; an hour that is skipped or comes twice is as long as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Floor

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60


def floor_at(floors: Sequence[Floor], unix: float) -> tuple[int, Floor | None]:
    """The highest of the floors that hold at a time (seconds since 1970), and which one that is; 0 where none does."""
    standing = [floor for floor in floors if _holds(floor, unix)]
    highest = max(standing, key=lambda floor: floor.workers, default=None)
    return (0, None) if highest is None else (highest.workers, highest)


def check_floor(floor: Floor, cannot: str) -> None:
    """Raise InvalidRequest, beginning with `cannot`, when a floor can never hold."""
    try:
        _days(floor.days)
        _minutes(floor.hours)
        ZoneInfo(floor.time_zone)
    except (ValueError, ZoneInfoNotFoundError, OSError) as error:
        raise InvalidRequest(
            f"{cannot}: its floor of {floor.workers} on {floor.days!r} at {floor.hours!r} in {floor.time_zone!r} cannot be "
            f"read: {error}; write for example days='mon-fri', hours='08:00-18:00', time_zone='Europe/Berlin'"
        ) from None
    if not 0 <= floor.workers <= 10_000:
        raise InvalidRequest(f"{cannot}: a floor of {floor.workers} workers is not between 0 and 10000; choose another")


def _holds(floor: Floor, unix: float) -> bool:
    there = datetime.fromtimestamp(unix, _zone(floor.time_zone))
    days, (begin, end) = _days(floor.days), _minutes(floor.hours)
    minute = there.hour * 60 + there.minute
    if begin < end:
        return there.weekday() in days and begin <= minute < end
    yesterday = (there.date() - timedelta(days=1)).weekday()
    return (there.weekday() in days and minute >= begin) or (yesterday in days and minute < end)


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@lru_cache(maxsize=256)
def _days(text: str) -> frozenset[int]:
    """Days of the week, Monday 0.  Raises ValueError."""
    if text == "*":
        return frozenset(range(7))
    days: set[int] = set()
    for part in text.lower().split(","):
        first, _, last = part.strip().partition("-")
        begin, end = _day(first), _day(last or first)
        days.update(range(begin, end + 1) if begin <= end else [*range(begin, 7), *range(end + 1)])
    return frozenset(days)


def _day(name: str) -> int:
    if name not in _DAYS:
        raise ValueError(f"{name!r} is none of {', '.join(_DAYS)}")
    return _DAYS.index(name)


@lru_cache(maxsize=256)
def _minutes(text: str) -> tuple[int, int]:
    """Where it begins and ends, in minutes of the day.  Raises ValueError."""
    begin, _, end = text.partition("-")
    found = _minute(begin), _minute(end)
    if found[0] == found[1]:
        raise ValueError(f"{text!r} is no time at all")
    return found


def _minute(text: str) -> int:
    hour, _, minute = text.strip().partition(":")
    if not (
        hour.isdecimal() and minute.isdecimal() and int(minute) < 60 and int(hour) * 60 + int(minute) <= _DAY_MINUTES
    ):
        raise ValueError(f"{text!r} is no time of the day")
    return int(hour) * 60 + int(minute)
