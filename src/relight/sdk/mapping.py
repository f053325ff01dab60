"""`.map`: many calls of one function, lazily in, in order out, in bounded memory.

At most `WINDOW` calls are submitted and not yet yielded.  The input is read by whoever reads the output, in small
batches: as much as `BATCH_SECONDS` yield, then results are looked for, so that a slow input delays nothing by more
than one of its items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from relight.clock import now_ms
from relight.protocol.api import Await, Submit
from relight.protocol.calls import CallRequest, CallView
from relight.protocol.errors import RelightError, Unavailable
from relight.protocol.ids import new_id
from relight.sdk.session import FIRST_WAIT_SECONDS, Callee, Session, Waiting

WINDOW = 1_000
BATCH = 100
BATCH_SECONDS = 0.02
BATCH_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """How results come out."""

    order_outputs: bool = True
    return_exceptions: bool = False


class Mapping:
    """One `.map`, while it goes on."""

    def __init__(
        self, session: Session, callee: Callee, inputs: Iterable[tuple[Any, ...]], options: MapOptions
    ) -> None:
        self._session = session
        self._callee = callee
        self._inputs = iter(inputs)
        self._options = options
        self._group = new_id("group", now_ms())
        self._places: dict[str, int] = {}  # calls that have not ended, and their place in the output
        self._ended: dict[int, CallView] = {}  # what has ended and was not yielded
        self._submitted = 0
        self._yielded = 0
        self._after = 0
        self._is_exhausted = False
        self._waiting = Waiting(str(callee), session.say)
        self._wait_seconds = FIRST_WAIT_SECONDS

    def results(self) -> Iterator[Any]:
        """The results as they come.  Left early, it cancels what is not needed any more."""
        try:
            while True:
                self._submit_some()
                if self._is_exhausted and self._yielded == self._submitted:
                    return
                self._hear()
                while (place := self._next()) is not None:
                    yield self._take(place)
        finally:
            self._cancel_rest()

    def _submit_some(self) -> None:
        """Read a batch of the input, if there is room for one, and submit it."""
        if self._is_exhausted or self._submitted - self._yielded > WINDOW - BATCH:
            return
        clock = self._session.clock
        began = clock.monotonic()
        requests: list[CallRequest] = []
        size = 0
        while len(requests) < BATCH and size < BATCH_BYTES and clock.monotonic() - began < BATCH_SECONDS:
            try:
                args = next(self._inputs)
            except StopIteration:
                self._is_exhausted = True
                break
            request = self._session.request(self._callee, args, {}, self._group)
            size += len(request.payload.data or b"")
            requests.append(request)
        for request in requests:
            self._places[request.id] = self._submitted
            self._submitted += 1
        if requests:
            self._session.connection.submit(Submit(calls=tuple(requests)))

    def _hear(self) -> None:
        """Learn what has ended; waits for it only when there is nothing else to do."""
        may_submit = not self._is_exhausted and self._submitted - self._yielded <= WINDOW - BATCH
        wait = 0.0 if may_submit else self._wait_seconds
        answer = self._session.connection.wait(Await(group=self._group, after=self._after, wait_seconds=wait))
        for view in answer.calls:
            self._after = max(self._after, view.sequence)
            place = self._places.pop(view.id, None)
            if place is not None:
                self._ended[place] = view
        if wait and not answer.calls:
            self._waiting.tell(answer.group_reason)
            self._wait_seconds = min(self._wait_seconds * 2, 10.0)

    def _next(self) -> int | None:
        """The place of the result to yield now, None when it has to be waited for."""
        if self._options.order_outputs:
            return self._yielded if self._yielded in self._ended else None
        return next(iter(self._ended), None)

    def _take(self, place: int) -> Any:
        view = self._ended.pop(place)
        self._yielded += 1
        try:
            return self._session.outcome(view)
        except Unavailable:
            raise  # the way to the result, not the result
        except Exception as error:
            if not self._options.return_exceptions:
                raise
            return error

    def _cancel_rest(self) -> None:
        for call in tuple(self._places):
            with suppress(RelightError):  # it has ended meanwhile, or there is no server to cancel it
                self._session.connection.cancel(call)
        self._places.clear()
