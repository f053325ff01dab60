"""One attempt of a call on a worker, and how it is said to have ended: decided here, without I/O.

fetching (a large input) ─▶ running ─▶ over
          └──── interrupted: cancelled or timed out ────▶ over, by the worker's word or by its death
"""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import dataclass, replace
from typing import Protocol

from relight.agent.outbox import Held
from relight.agent.values import check_payload
from relight.protocol.calls import CallEvent
from relight.protocol.channel import Ended
from relight.protocol.errors import (
    CallCancelled,
    Failure,
    FunctionTimeout,
    ProtocolError,
    RelightError,
    WorkerLost,
    failure_of,
)
from relight.protocol.exits import WorkerExit
from relight.protocol.link import CallEnd, RunCall
from relight.protocol.payload import Payload
from relight.protocol.web import FORMAT
from relight.sandbox.spec import SandboxExit

_FULL = (errno.ENOSPC, errno.EDQUOT)
_OUTCOMES = (CallEvent.SUCCEEDED, CallEvent.FAILED, CallEvent.CANCELLED, CallEvent.TIMED_OUT)


class Cancels(Protocol):
    """A timer or a task."""

    def cancel(self) -> object:
        """Let it not happen."""


@dataclass(slots=True, kw_only=True)
class Attempt:
    """`timers` are what must not outlive it; `interrupted` says for what reason it was told to stop.

    `began` is when its worker came to it, in monotonic seconds; None while it waits behind another.  `is_recalled` says
    that the worker was told to give it back unless it had begun.  `descriptors` hold a large input until the worker is
    given it.
    """

    order: RunCall
    is_fetching: bool = False
    is_recalled: bool = False
    interrupted: CallEvent | None = None
    has_outlived_grace: bool = False
    timers: tuple[Cancels, ...] = ()
    began: float | None = None
    descriptors: tuple[int, ...] = ()

    @property
    def is_session(self) -> bool:
        """Whether it is a time with the web rather than a call."""
        return self.order.payload.format == FORMAT

    @property
    def held(self) -> Held:
        """Itself, as the server knows it."""
        return Held(self.order.worker, self.order.call, self.order.token, self.order.attempt)

    def disarm(self) -> None:
        """It is over, or about to be: no timer may fire any more."""
        for timer in self.timers:
            timer.cancel()
        self.timers = ()
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = ()


def end_as_told(attempt: Attempt, ended: Ended, now: float) -> CallEnd:
    """The end that a worker tells, at `now`.  Raises ProtocolError when it has no meaning."""
    _check(ended)
    outcome, failure = ended.outcome, ended.failure
    if attempt.interrupted is not None and outcome is CallEvent.FAILED:
        outcome = attempt.interrupted  # what the function raised on its way out is how it obeyed
    if attempt.interrupted is None and outcome in (CallEvent.CANCELLED, CallEvent.TIMED_OUT):
        outcome = CallEvent.FAILED  # nobody asked for that: the function raised it itself
    seconds = 0.0 if attempt.began is None else max(0.0, now - attempt.began)
    if outcome is CallEvent.SUCCEEDED:
        return _end(attempt, outcome, result=ended.result, seconds=seconds, cpu_us=ended.cpu_us)
    failure = failure or failure_of(_error_of(outcome, "the function was interrupted"))
    return _end(attempt, outcome, failure=failure, seconds=seconds, cpu_us=ended.cpu_us)


def end_before_start(attempt: Attempt, outcome: CallEvent) -> CallEnd:
    """The end of an attempt that was stopped before it began."""
    return _end(attempt, outcome, failure=failure_of(_error_of(outcome, "it had not begun")))


def end_refused(attempt: Attempt, why: str) -> CallEnd:
    """The end of an attempt that this node cannot begin: not the call's fault, and not charged."""
    failure = failure_of(WorkerLost(f"cannot run the call: {why}; it is tried elsewhere"))
    return _end(attempt, CallEvent.LEASE_LOST, failure=failure, is_charged=False)


def end_without_input(attempt: Attempt, error: RelightError) -> CallEnd:
    """The end of an attempt whose input cannot be had."""
    return _end(attempt, CallEvent.FAILED, failure=failure_of(error))


def end_with_worker(attempt: Attempt, ending: WorkerExit, *, is_own_fault: bool) -> CallEnd:
    """The end of an attempt whose worker died under it; `is_own_fault`: it was the one that ran.

    One that had to be killed for not obeying ends as it was told to; a neighbour of such a one is not charged.
    """
    if attempt.interrupted is not None:
        how = "its worker was killed" if attempt.has_outlived_grace else f"its worker ended ({ending.reason})"
        failure = replace(failure_of(_error_of(attempt.interrupted, how)), exit=ending)
        return _end(attempt, attempt.interrupted, failure=failure)
    told = f"its worker {attempt.order.worker} {ending.how}{ending.last_words}"
    failure = replace(failure_of(WorkerLost(f"cannot finish the call: {told}; {ending.advice}")), exit=ending)
    return _end(attempt, CallEvent.LEASE_LOST, failure=failure, is_charged=is_own_fault and ending.is_own_fault)


def start_reason(error: BaseException | None, failure: Failure | None = None) -> str:
    """Why a start failed, in one word: by what it came of, or by what its worker says that it raised."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return "disk_full"
        error = error.__cause__ or error.__context__
    is_full = failure is not None and any(f"[Errno {number}]" in failure.message for number in _FULL)
    return "disk_full" if is_full and failure is not None and failure.type_name == "OSError" else "start_failed"


def exit_of(ended: SandboxExit, *, killed_for: str, is_leaving: bool, last_lines: tuple[str, ...]) -> WorkerExit:
    """How a worker ended, in one word, by the most telling of the reasons there are."""
    if killed_for:
        reason = killed_for
    elif ended.out_of_memory:
        reason = "evicted" if ended.is_evicted else "out_of_memory"
    elif ended.signal is not None:
        reason = f"signal:{_signal_name(ended.signal)}"
    elif is_leaving and not ended.code:
        reason = "stopped"
    elif ended.code is None:
        reason = "template_lost"
    else:
        reason = f"exited:{ended.code}"
    return WorkerExit(
        reason=reason,
        code=ended.code,
        signal=ended.signal,
        peak_memory_bytes=ended.peak_memory_bytes,
        last_lines=last_lines,
    )


def _end(
    attempt: Attempt,
    outcome: CallEvent,
    *,
    result: Payload | None = None,
    failure: Failure | None = None,
    is_charged: bool = True,
    seconds: float = 0.0,
    cpu_us: int | None = None,
) -> CallEnd:
    order = attempt.order
    return CallEnd(
        call=order.call,
        token=order.token,
        outcome=outcome,
        worker=order.worker,
        result=result,
        failure=failure,
        is_charged=is_charged,
        seconds=seconds,
        cpu_us=cpu_us,
    )


def _error_of(outcome: CallEvent, how: str) -> RelightError:
    if outcome is CallEvent.TIMED_OUT:
        return FunctionTimeout(f"cannot finish the call: its time was over, and {how}; raise timeout= if it needs more")
    if outcome is CallEvent.CANCELLED:
        return CallCancelled(f"cannot finish the call: it was cancelled, and {how}; call again to have a result")
    return RelightError(f"cannot finish the call: it ended as {outcome.value}, and its worker did not say why")


def _check(ended: Ended) -> None:
    if ended.outcome not in _OUTCOMES:
        raise ProtocolError(f"cannot believe an end: {ended.outcome.value!r} is not an outcome")
    if ended.cpu_us is not None and ended.cpu_us < 0:
        raise ProtocolError(f"cannot believe an end: a call does not take {ended.cpu_us} µs of CPU time")
    exception = ended.failure.exception if ended.failure is not None else None
    for payload in (ended.result, exception):
        if payload is not None:
            check_payload("an end", payload)
    if ended.outcome is CallEvent.SUCCEEDED and ended.result is None:
        raise ProtocolError("cannot believe an end: it succeeded without a result")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
