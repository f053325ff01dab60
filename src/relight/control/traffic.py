"""Web requests that are over: recorded in groups, and told as the calls they are.

Nothing here is on a request's way: it is noted once its answer is with whoever asked (or nobody is there any more), and
kept with others a moment later (`store/requests.py`).  What was in a query, a header or a body is not noted.
"""

from __future__ import annotations

import asyncio
import logging

from relight.clock import Clock
from relight.control.exchanges import Exchange
from relight.protocol.api import CallDetail
from relight.protocol.calls import AttemptView, CallState, CallView, WebRequest
from relight.protocol.errors import Failure, FunctionTimeout, NotFound
from relight.protocol.views import CallQuery
from relight.store.requests import Kept, Place, Request
from relight.store.store import Store

PATH_LENGTH = 500
WHY_LENGTH = 300
FAULT = 500
"""An answer of such a status, or above, is a failure."""

_FIELDS_TO_CLIENT = 8
"""In a request's head (`protocol.web.RequestHead`), after so many."""

_log = logging.getLogger("relight.control")


class Shares:
    """A worker's time with the web, shared out: each moment belongs to all requests that it has then, in equal parts.

    `passed` is what a request would have had that was there from the beginning; what it had is the difference between its
    end and its beginning.  So what all have had together is exactly how long the worker had any.
    """

    __slots__ = ("_at", "_passed")

    def __init__(self) -> None:
        self._at = self._passed = 0.0

    def passed(self, now: float, requests: int) -> float:
        """Go on to now, since when last asked there were so many; the sum of one request's parts, in seconds."""
        if requests:
            self._passed += (now - self._at) / requests
        self._at = now
        return self._passed


class Traffic:
    """Every web request that is over, of every workspace."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._requests = store.requests
        self._clock = clock
        self._lost = 0

    # -- in

    def note(self, place: Place, exchange: Exchange) -> None:
        """One is over."""
        verb, path, *_, client, _ = exchange.head.split(b"\0", _FIELDS_TO_CLIENT)
        state, code, why = _outcome(exchange)
        offset = self._clock.now() - self._clock.monotonic()
        started = exchange.given_at
        group = self._requests.add(
            place,
            Request(  # by its order: names would cost as much as all the rest
                str(verb, "latin-1"),
                str(path[:PATH_LENGTH], "latin-1"),
                str(client, "latin-1"),
                exchange.status,
                state,
                code,
                why,
                exchange.worker,
                exchange.tries,
                exchange.started + offset,
                started + offset if started else None,
                exchange.ended_at + offset,
                exchange.bytes_out,
                round(exchange.used_seconds * 1e6),
            ),
        )
        if group is not None:
            group.add_done_callback(self._kept)

    def _kept(self, group: asyncio.Future[None]) -> None:
        why = None if group.cancelled() else group.exception()
        if why is not None:
            _log.error("web requests not recorded", extra={"why": str(why)})
        lost, self._lost = self._requests.lost - self._lost, self._requests.lost
        if lost:
            _log.warning("web requests not recorded", extra={"requests": lost, "why": "the disk does not keep up"})

    # -- out

    async def list(self, workspace: str, query: CallQuery) -> tuple[CallView, ...]:
        """Those that are asked for, newest first.  None has been made by a call."""
        if query.parent or query.kind == "call" or (query.state is not None and not query.state.is_final):
            return ()
        return tuple(map(_view, await self._requests.newest(workspace, query)))

    async def show(self, workspace: str, request_id: str) -> CallDetail:
        """All that is known of one.  Raises NotFound."""
        kept = await self._requests.get(workspace, request_id)
        if kept is None:
            raise NotFound(
                f"cannot find request {request_id!r}: it is not kept here, or no longer; "
                "`relight calls list --kind request` shows what is"
            )
        view = _view(kept)
        return CallDetail(call=view, attempts=_attempts(kept), worker_intervals=(), start=None)


def _outcome(exchange: Exchange) -> tuple[str, str, str]:
    """The state that one ended in, and the code and the words of its error where it has one."""
    error = exchange.error
    if error is not None:
        state = CallState.TIMED_OUT if isinstance(error, FunctionTimeout) else CallState.FAILED
        return state.value, error.code, str(error)[:WHY_LENGTH]
    if not exchange.is_whole:
        return CallState.CANCELLED.value, "", ""
    return (CallState.FAILED if exchange.status >= FAULT else CallState.SUCCEEDED).value, "", ""


def _view(kept: Kept) -> CallView:
    request_id, place, request = kept
    state = CallState(request.state)
    return CallView(
        id=request_id,
        app=place.app,
        environment=place.environment,
        version=place.version,
        function=place.function,
        method=place.method,
        state=state,
        attempts=request.tries,
        worker=request.worker,
        submitted_at=request.submitted_at,
        started_at=request.started_at,
        ended_at=request.ended_at,
        failure=_failure(request) if state not in (CallState.SUCCEEDED, CallState.CANCELLED) else None,
        request=WebRequest(
            verb=request.verb,
            path=request.path,
            status=request.status,
            client=request.client,
            bytes_out=request.bytes_out,
        ),
    )


def _failure(request: Request) -> Failure:
    if request.code:
        return Failure(code=request.code, message=request.why)
    return Failure(
        code="function_failed", message=f"cannot take it as done: the function answered {request.status}; see its log"
    )


def _attempts(kept: Kept) -> tuple[AttemptView, ...]:
    """The try that ended it; of those before it, it is known how many there were."""
    request = kept.request
    if request.started_at is None:
        return ()
    return (
        AttemptView(
            call=kept.id,
            number=request.tries,
            worker=request.worker,
            node="",
            started_at=request.started_at,
            ended_at=request.ended_at,
            outcome=request.state,
        ),
    )
