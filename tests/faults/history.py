"""What happened to calls, written down by whoever saw it, and a checker of what must be true of any such history.

Callers write `submitted`, `acknowledged` and `seen` (a result, by whoever read it); the functions themselves, or whoever
gives calls to them, write `started`.  The checker proves what delivery promises: nothing acknowledged is lost, every call
has at most one visible result, which never changes, nothing starts once a result was seen, no more tries are charged than
there were, and, where starts tell their tokens, each is newer than the one before.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise


class What(str, Enum):
    """What somebody saw."""

    SUBMITTED = "submitted"
    ACKNOWLEDGED = "acknowledged"
    STARTED = "started"
    SEEN = "seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One sight of one call.  `at` is on one clock for all; `value` is the result that was seen.

    `token` is what a start was granted, None where whoever saw the start could not know it.
    """

    what: What
    call: str
    at: float
    value: str = ""
    attempts: int = 0
    token: tuple[int, int] | None = None


@dataclass(slots=True)
class History:
    """Events, in the order in which they were written down."""

    events: list[Event] = field(default_factory=list)

    def add(self, what: What, call: str, at: float, *, value: str = "", attempts: int = 0) -> None:
        """Write one down."""
        self.events.append(Event(what=what, call=call, at=at, value=value, attempts=attempts))

    def add_start(self, call: str, at: float, token: tuple[int, int]) -> None:
        """Write down a start, by whoever granted it."""
        self.events.append(Event(what=What.STARTED, call=call, at=at, token=token))


def check(history: History) -> list[str]:
    """What is wrong with a history, a sentence each; empty when it is as promised."""
    calls: defaultdict[str, list[Event]] = defaultdict(list)
    for event in history.events:
        calls[event.call].append(event)
    return [wrong for call in sorted(calls) for wrong in _check_call(call, calls[call])]


def _check_call(call: str, events: list[Event]) -> list[str]:
    kinds = {event.what for event in events}
    seen = [event for event in events if event.what is What.SEEN]
    starts = [event for event in events if event.what is What.STARTED]
    wrong = []
    if What.ACKNOWLEDGED in kinds and not seen:
        wrong.append(f"{call} was acknowledged and is lost")
    if What.SUBMITTED not in kinds:
        wrong.append(f"{call} was never submitted")
    if len({event.value for event in seen}) > 1:
        wrong.append(f"{call} has {len({event.value for event in seen})} different results")
    if seen and not starts:
        wrong.append(f"{call} has a result and never started")
    if seen and any(start.at > min(event.at for event in seen) for start in starts):
        wrong.append(f"{call} started after its result was seen")
    if seen and max(event.attempts for event in seen) > len(starts) and starts:
        wrong.append(f"{call} counts {max(event.attempts for event in seen)} attempts and started {len(starts)} times")
    tokens = [start.token for start in starts if start.token is not None]
    if any(after <= before for before, after in pairwise(tokens)):
        wrong.append(f"{call} was started with tokens that do not grow: {tokens}")
    return wrong
