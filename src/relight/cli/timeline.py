"""What happened to a call, in order: where it waited and why, each attempt, and how it ended.

Pure: what `GET /v1/calls/{call}` says goes in, steps come out.  A step is `queued`, `running`, the last state, or, one
level below the wait it is part of, a state of the worker that the call waited for, and below that a phase of its start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relight.cli.endings import show_ending
from relight.cli.tables import number, objects
from relight.protocol.manifest import Json
from relight.protocol.starts import NUMBERS, StartLevel

Row = dict[str, Json]

_BEFORE_READY = ("requested", "placing", "pulling", "starting")
_STATE_OF = {"place": "placing", "fetch": "pulling"}
"""The state in which a phase of a start is passed, where it is not `starting`."""

_SHORTEST = 0.00005
"""Phases that are shorter are not shown."""

_FINAL = ("succeeded", "failed", "cancelled", "timed_out", "expired")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A stretch of time; `until` None: it goes on.  `level` 1 is part of the step before it, and so is 2 of that."""

    at: float
    until: float | None
    what: str
    detail: str = ""
    level: int = 0

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it goes on."""
        return None if self.until is None else max(0.0, self.until - self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """The states of the worker that a call was given to, and how it was started, where that is known."""

    intervals: Sequence[Row] = ()
    start: Row | None = None


def level_name(level: str) -> str:
    """A level as people number it, with its name: `1 fork`."""
    known = {one.value: number for one, number in NUMBERS.items()}
    return f"{known[level]} {level}" if level in known else level


def timeline(call: Row, attempts: Sequence[Row], life: Life) -> list[Step]:
    """The steps of a call, in order."""
    steps: list[Step] = []
    since = number(call["submitted_at"])
    for at, attempt in enumerate(attempts):
        started = number(attempt["started_at"])
        is_last = at == len(attempts) - 1
        steps.extend(_wait(since, started, "", life if is_last else Life()))
        ended = _ended_at(call, attempt, is_last=is_last)
        steps.append(Step(at=started, until=ended, what=f"attempt {attempt['number']}", detail=_told(attempt)))
        since = ended if ended is not None else started
    state = str(call["state"])
    if state == "queued":
        steps.extend(_wait(since, None, str(call["pending_reason"] or ""), Life()))
    elif state in _FINAL:
        ended = number(call["ended_at"])
        if not attempts:
            steps.extend(_wait(since, ended, "", Life()))
        steps.append(Step(at=ended, until=ended, what=state, detail=_why(call)))
    return steps


def _wait(since: float, until: float | None, reason: str, life: Life) -> Iterator[Step]:
    is_parked = life.start is not None and life.start["level"] == StartLevel.PARKED.value
    said = [reason, f"{_level(life.start)}: its worker was started ahead" if is_parked else ""]
    yield Step(at=since, until=until, what="queued", detail=", ".join(filter(None, said)))
    if is_parked:
        return
    phases = _phases(life)
    for one in life.intervals:
        state = str(one["state"])
        if state in _BEFORE_READY and one["until"] and number(one["until"]) > since:
            said = [_level(life.start) if state == "starting" else "", str(one["detail"] or "")]
            yield Step(
                at=number(one["since"]),
                until=number(one["until"]),
                what=state,
                detail=", ".join(word for word in said if word),
                level=1,
            )
            yield from (phase for phase in phases if _STATE_OF.get(phase.what, "starting") == state)


def _phases(life: Life) -> list[Step]:
    """The phases of a start, the last of which ends where its worker became ready."""
    ready = next((number(one["until"]) for one in life.intervals if one["state"] == "starting" and one["until"]), 0.0)
    took = objects(life.start, "phases")
    at = ready - sum(number(phase["seconds"]) for phase in took)
    steps = []
    for phase in took:
        seconds = number(phase["seconds"])
        steps.append(Step(at=at, until=at + seconds, what=str(phase["name"]), level=2))
        at += seconds
    return [step for step in steps if step.seconds is not None and step.seconds >= _SHORTEST]


def _level(start: Row | None) -> str:
    if start is None:
        return ""
    why = f" ({start['why']})" if start["why"] else ""
    return f"level {level_name(str(start['level']))}{why}"


def _ended_at(call: Row, attempt: Row, *, is_last: bool) -> float | None:
    if attempt["ended_at"]:
        return number(attempt["ended_at"])
    return number(call["ended_at"]) if is_last and call["ended_at"] else None


def _told(attempt: Row) -> str:
    where = f"{attempt['worker']} on {attempt['node']}" if attempt["node"] else str(attempt["worker"])
    said = [
        str(attempt["outcome"] or "runs"),
        show_ending(attempt.get("exit")),
        str(attempt["detail"] or "").partition("\n")[0],
    ]
    return f"{where}: {', '.join(word for word in said if word)}"


def _why(call: Row) -> str:
    failure = call["failure"]
    if not isinstance(failure, dict):
        return ""
    return str(failure["message"] or failure["code"]).partition("\n")[0]
