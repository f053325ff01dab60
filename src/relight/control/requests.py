"""What a call is when it is taken in: what is refused, how it is kept, and how it waits."""

from __future__ import annotations

from dataclasses import dataclass

from relight.clock import Clock
from relight.control.bindings import Bound
from relight.control.catalog import Version, key_of
from relight.protocol.calls import CallRequest
from relight.protocol.errors import InvalidRequest
from relight.protocol.ids import is_id
from relight.scheduler.queue import FunctionKey, WaitingCall
from relight.store.rows import NewCall, Unfinished

SESSION_LETTERS = 255
"""No name of a session is longer."""

KEY_LETTERS = 200
"""No key of calls that wait for each other is longer."""

PAYLOADS_IN_MEMORY = 2000
"""How many waiting calls of a function keep their payload in memory; those behind are read when their turn comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A call that is taken in: as it is kept, and as it waits; None where that is in the store alone."""

    key: FunctionKey
    row: NewCall
    call: WaitingCall | None = None


def check_request(request: CallRequest) -> None:
    """Raise InvalidRequest where no function could be called so."""
    if not is_id(request.id, "call"):
        raise InvalidRequest(
            f"cannot submit call {request.id[:60]!r}: it is not an id of the form call-…; make one for each call"
        )
    if not -100 <= request.priority <= 100 or len(request.key) > KEY_LETTERS:
        raise InvalidRequest(
            f"cannot submit call {request.id}: its priority is {request.priority} and its key has {len(request.key)} "
            f"characters; a priority is from -100 to 100, and a key has {KEY_LETTERS} at most"
        )
    if len(request.session) > SESSION_LETTERS or not request.session.isprintable():
        raise InvalidRequest(
            f"cannot call in session {request.session[:40]!r}: its name has {len(request.session)} characters; "
            f"use up to {SESSION_LETTERS} printable ones"
        )


def patience(request: CallRequest, bound: Bound) -> float | None:
    """How long a call may wait, in seconds; None for ever."""
    limits = (request.queue_timeout_seconds, bound.function.queue_timeout_seconds)
    return min((limit for limit in limits if limit is not None), default=None)


def waiting_call(request: CallRequest, version: Version, bound: Bound, clock: Clock, *, behind: int) -> WaitingCall:
    """A new call, as the scheduler takes it, `behind` so many others of its function."""
    limit = patience(request, bound)
    return WaitingCall(
        id=request.id,
        workspace=version.workspace,
        key=key_of(version, bound),
        method=request.method,
        accept=request.accept,
        payload=request.payload if behind < PAYLOADS_IN_MEMORY else None,
        expires_at=None if limit is None else clock.monotonic() + limit,
        group=request.group,
        parent=request.parent,
        is_awaited=request.is_awaited,
        priority=request.priority,
        order_key=request.key,
        session=request.session,
        is_strict=request.is_strict and bool(request.session),
    )


def recovered_call(row: Unfinished, version: Version, bound: Bound, clock: Clock) -> WaitingCall:
    """A call that was kept, as the scheduler takes it; one that was tried waits for as long as it must."""
    now, left = clock.monotonic(), None
    if row.expires_at is not None and not row.attempts:
        left = row.expires_at - clock.now()
    return WaitingCall(
        id=row.id,
        workspace=row.workspace,
        key=key_of(version, bound),
        method=row.method,
        accept=row.accept,
        attempts=row.attempts,
        not_before=now + max(0.0, row.not_before - clock.now()),
        payload=row.payload,
        expires_at=None if left is None else now + left,
        group=row.group,
        parent=row.parent,
        is_awaited=row.is_awaited,
        priority=row.priority,
        order_key=row.order_key,
        session=row.session,
        is_strict=row.is_strict,
        last_worker=row.worker,
    )
