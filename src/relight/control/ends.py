"""What an end leads to: a pure table from how an attempt ended to what becomes of the call.

succeeded, cancelled, timed_out ──▶ final        failed ──▶ tried again while `retries` last, then final
lease_lost ──▶ tried again up to LOST_RETRIES times, or as often and as late as `retries` say, then failed: worker_lost

A generator's call of which a reader was handed items is not run again, unless `retries` ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from relight.protocol.calls import CallEvent
from relight.protocol.errors import Failure
from relight.protocol.exits import WorkerExit
from relight.protocol.manifest import Retries

LOST_RETRIES = 3
"""How often a call is tried again when its worker, not its code, was at fault."""


CANCELLED = Failure(
    code="cancelled",
    message="cannot finish the call: it was cancelled while it waited; call again to have a result",
)
"""Why a call that somebody cancelled has no result."""

STOPPED = Failure(code="cancelled", message="cannot finish the call: its app was stopped; deploy it and call again")
"""Why a call of an app that somebody stopped has no result."""


PURGED = Failure(code="cancelled", message="cannot finish the call: its queue was purged; call again to have a result")
"""Why a call that somebody purged has no result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """One attempt's end.  `attempt` counts from 1, the one that ended included; `delivered` items are with a reader.

    It `is_charged` unless its worker ended for somebody else's sake; then `attempt` is that before it.
    """

    event: CallEvent
    attempt: int
    failure: Failure | None = None
    is_cancelled: bool = False
    is_charged: bool = True
    delivered: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of the call: the event that is kept, why it failed, and seconds to wait when it is tried again."""

    event: CallEvent
    failure: Failure | None = None
    delay_seconds: float = 0.0


SUCCESS = Verdict(event=CallEvent.SUCCEEDED)


def judge(ending: Ending, retries: Retries) -> Verdict:
    """What becomes of a call whose attempt ended so."""
    if ending.is_cancelled and ending.event in (CallEvent.LEASE_LOST, CallEvent.FAILED):
        return Verdict(event=CallEvent.CANCELLED, failure=replace(CANCELLED, exit=_exit_in(ending)))
    if ending.event is CallEvent.LEASE_LOST:
        return _judge_lost(ending, retries)
    if ending.event is CallEvent.FAILED and ending.attempt <= retries.count:
        delay = retries.delay_before(ending.attempt)
        return Verdict(event=CallEvent.RETRIED, failure=ending.failure, delay_seconds=delay)
    if ending.event is CallEvent.CANCELLED and ending.failure is None:
        return Verdict(event=CallEvent.CANCELLED, failure=CANCELLED)
    return Verdict(event=ending.event, failure=ending.failure)


def _judge_lost(ending: Ending, retries: Retries) -> Verdict:
    why = ending.failure.message if ending.failure is not None else "its worker was lost"
    if ending.delivered and not retries.count:
        message = (
            f"cannot finish the call: its worker was lost after {ending.delivered} of its items were delivered, and it is "
            f"not run again from the first unless retries= says so; how it was lost: {why}"
        )
        return Verdict(event=CallEvent.FAILED, failure=_lost(message, ending))
    if ending.attempt <= max(LOST_RETRIES, retries.count):
        delay = retries.delay_before(ending.attempt) if retries.count and ending.is_charged else 0.0
        return Verdict(event=CallEvent.LEASE_LOST, failure=ending.failure, delay_seconds=delay)
    message = (
        f"cannot finish the call: it was tried {ending.attempt} times and its worker was lost each time: "
        f"{why.removeprefix('cannot finish the call: ')}"
    )
    return Verdict(event=CallEvent.FAILED, failure=_lost(message, ending))


def _lost(message: str, ending: Ending) -> Failure:
    return Failure(code="worker_lost", message=message, exit=_exit_in(ending))


def _exit_in(ending: Ending) -> WorkerExit | None:
    return ending.failure.exit if ending.failure is not None else None
