"""What happened to a call, in order: where it waited and why, each attempt, and how it ended.

Pure: what `GET /v1/calls/{call}` says goes in, steps come out.  A step is `queued`, `running`, the last state, or, one
level below the wait it is part of, a phase of the start of the worker that the call waited for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relight.cli.tables import number
from relight.protocol.manifest import Json

Row = dict[str, Json]

_PHASES = ("requested", "placing", "pulling", "starting")
_FINAL = ("succeeded", "failed", "cancelled", "timed_out", "expired")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A stretch of time; `until` None: it goes on.  `level` 1 is part of the step before it."""

    at: float
    until: float | None
    what: str
    detail: str = ""
    level: int = 0

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it goes on."""
        return None if self.until is None else max(0.0, self.until - self.at)


def timeline(call: Row, attempts: Sequence[Row], intervals: Sequence[Row]) -> list[Step]:
    """The steps of a call, in order."""
    steps: list[Step] = []
    since = number(call["submitted_at"])
    for at, attempt in enumerate(attempts):
        started = number(attempt["started_at"])
        is_last = at == len(attempts) - 1
        steps.extend(_wait(since, started, "", intervals if is_last else ()))
        ended = _ended_at(call, attempt, is_last=is_last)
        steps.append(Step(at=started, until=ended, what=f"attempt {attempt['number']}", detail=_told(attempt)))
        since = ended if ended is not None else started
    state = str(call["state"])
    if state == "queued":
        steps.extend(_wait(since, None, str(call["pending_reason"] or ""), ()))
    elif state in _FINAL:
        ended = number(call["ended_at"])
        if not attempts:
            steps.extend(_wait(since, ended, "", ()))
        steps.append(Step(at=ended, until=ended, what=state, detail=_why(call)))
    return steps


def _wait(since: float, until: float | None, reason: str, intervals: Sequence[Row]) -> Iterator[Step]:
    yield Step(at=since, until=until, what="queued", detail=reason)
    for one in intervals:
        if str(one["state"]) in _PHASES and one["until"] and number(one["until"]) > since:
            yield Step(
                at=number(one["since"]),
                until=number(one["until"]),
                what=str(one["state"]),
                detail=str(one["detail"] or ""),
                level=1,
            )


def _ended_at(call: Row, attempt: Row, *, is_last: bool) -> float | None:
    if attempt["ended_at"]:
        return number(attempt["ended_at"])
    return number(call["ended_at"]) if is_last and call["ended_at"] else None


def _told(attempt: Row) -> str:
    where = f"{attempt['worker']} on {attempt['node']}" if attempt["node"] else str(attempt["worker"])
    said = [str(attempt["outcome"] or "runs"), str(attempt["detail"] or "").partition("\n")[0]]
    return f"{where}: {', '.join(word for word in said if word)}"


def _why(call: Row) -> str:
    failure = call["failure"]
    if not isinstance(failure, dict):
        return ""
    return str(failure["message"] or failure["code"]).partition("\n")[0]
