"""`.map`: many calls of one function, lazily in, in order out, in bounded memory.

At most `WINDOW` calls are submitted and not yet yielded.  `Mapping` knows what may be submitted, what has ended and what
is to be yielded next; it does no I/O.  Two shells drive it:

`results`  The input is read by whoever reads the output, in small batches: as much as `BATCH_SECONDS` yield, then results
           are looked for, so that a slow input delays nothing by more than one of its items.  While the server keeps one
           batch the next is read.
`results_aio`  The input is read by a task of its own, and results are heard by another, so neither waits for the other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence
from collections.abc import Mapping as Keywords
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from relight.clock import now_ms
from relight.protocol.api import Await, CallViews
from relight.protocol.calls import CallRequest, CallView
from relight.protocol.errors import Unavailable
from relight.protocol.ids import new_id
from relight.protocol.inside import inside
from relight.sdk import progress
from relight.sdk.session import BATCH_BYTES, FIRST_WAIT_SECONDS, Callee, Session, Waiting
from relight.sdk.steps import Steps

if TYPE_CHECKING:
    from asyncio import Future

    from relight.sdk.connection import Begun
    from relight.sdk.feed import Feed, Rows

WINDOW = 1_000
BATCH = 100
BATCH_SECONDS = 0.02
_LONGEST_WAIT_SECONDS = 10.0

Row = tuple[Any, ...]
"""The positional arguments of one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """How calls are made and how results come out."""

    order_outputs: bool = True
    return_exceptions: bool = False
    is_left_running: bool = False
    kwargs: Keywords[str, Any] = field(default_factory=dict)


class Mapping:
    """One `.map`, while it goes on."""

    def __init__(self, session: Session, callee: Callee, options: MapOptions) -> None:
        self.session = session
        self.is_exhausted = False
        self._callee = callee
        self._options = options
        self._group = new_id("group", now_ms())
        self._places: dict[str, int] = {}  # calls that have not ended, and their place in the output
        self._ended: dict[int, CallView] = {}  # what has ended and was not yielded
        self._submitted = 0
        self._yielded = 0
        self._after = 0
        self._waiting = Waiting(str(callee), session.say)
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._progress = progress.begin(str(callee))

    @staticmethod
    def of_submitted(session: Session, group: str, calls: Sequence[str], options: MapOptions) -> Mapping:
        """The results of calls that were submitted by somebody else, and run on when nobody reads them."""
        mapping = Mapping(session, Callee(function="a spawned call"), replace(options, is_left_running=True))
        mapping._group = group
        mapping._places = {call: place for place, call in enumerate(calls)}
        mapping._submitted = len(calls)
        mapping.is_exhausted = True
        return mapping

    @property
    def has_room(self) -> bool:
        """Whether a batch may be submitted."""
        return not self.is_exhausted and self._submitted - self._yielded <= WINDOW - BATCH

    @property
    def is_over(self) -> bool:
        """Whether everything was yielded."""
        return self.is_exhausted and self._yielded == self._submitted

    @property
    def expects(self) -> bool:
        """Whether calls are on their way."""
        return bool(self._places)

    def request(self, row: Row) -> CallRequest:
        """The next call."""
        request = self.session.request(self._callee, row, self._options.kwargs, self._group)
        self._places[request.id] = self._submitted
        self._submitted += 1
        return request

    def hear(self, *, may_wait: bool) -> Steps[None]:
        """Learn what has ended."""
        wait = self._wait_seconds if may_wait else 0.0
        query = Await(group=self._group, after=self._after, wait_seconds=wait, caller=inside.call)
        self._take_in((yield from self.session.connection.server.wait(query)), may_wait)

    def next(self) -> int | None:
        """The place of the result to yield now, None when it has to be waited for."""
        if self._options.order_outputs:
            return self._yielded if self._yielded in self._ended else None
        return next(iter(self._ended), None)

    def take(self, place: int) -> Steps[Any]:
        """What the call at a place returned; raises what it raised, unless that is a result too."""
        view = self._ended.pop(place)
        self._yielded += 1
        try:
            return (yield from self.session.take(view))
        except Unavailable:
            raise  # the way to the result, not the result
        except Exception as error:
            if not self._options.return_exceptions:
                raise
            return error

    def leave(self) -> Steps[None] | None:
        """Cancel what is not needed any more, by one request; None when there is nothing."""
        self._progress.end()
        if not self._places or self._options.is_left_running:
            return None
        self._places.clear()
        return self.session.try_cancel(group=self._group)

    def _take_in(self, answer: CallViews, has_waited: bool) -> None:
        for view in answer.calls:
            self._after = max(self._after, view.sequence)
            place = self._places.pop(view.id, None)
            if place is not None:
                self._ended[place] = view
        total = self._submitted if self.is_exhausted else None
        self._progress.tell(self._submitted, self._submitted - len(self._places), total)
        if has_waited and not answer.calls:
            self._waiting.tell(answer.group_reason)
            self._wait_seconds = min(self._wait_seconds * 2, _LONGEST_WAIT_SECONDS)


# -- by blocking


def results(mapping: Mapping, rows: Iterable[Row]) -> Generator[Any, None, None]:
    """The results as they come.  Left early, it cancels what is not needed any more."""
    connection = mapping.session.connection
    inputs = iter(rows)
    begun: Begun[None] | None = None
    try:
        while True:
            batch = _read(mapping, inputs) if mapping.has_room else []
            if begun is not None and (batch or not mapping.has_room):
                begun.finish()
                begun = None
            if batch:
                begun = connection.begin(mapping.session.submit(batch))
            if mapping.is_over:
                return
            connection.do(mapping.hear(may_wait=not mapping.has_room and begun is None))
            while (place := mapping.next()) is not None:
                yield connection.do(mapping.take(place))
    finally:
        leaving = mapping.leave()
        if leaving is not None:
            if begun is not None:
                begun.settle()
            connection.do(leaving)


def _read(mapping: Mapping, inputs: Iterator[Row]) -> list[CallRequest]:
    """A batch of the input: so much as there is room for in a message, and in `BATCH_SECONDS`."""
    clock = mapping.session.clock
    until = clock.monotonic() + BATCH_SECONDS
    batch: list[CallRequest] = []
    size = 0
    for row in inputs:
        request = mapping.request(row)
        batch.append(request)
        size += request.payload.size
        if len(batch) >= BATCH or size >= BATCH_BYTES or clock.monotonic() >= until:
            return batch
    mapping.is_exhausted = True
    return batch


# -- on an event loop


async def results_aio(mapping: Mapping, rows: Rows) -> AsyncGenerator[Any, None]:
    """The results as they come.  Left early, or cancelled, it cancels what is not needed any more."""
    from asyncio import get_running_loop

    from relight.sdk.feed import Feed

    pool = mapping.session.connection.pool()
    feed = Feed(rows, BATCH, BATCH_SECONDS)
    hearing: Future[None] | None = None
    try:
        while True:
            while mapping.has_room and (batch := _take_batch(mapping, feed)):
                await pool.do(mapping.session.submit(batch))
            if mapping.is_over:
                return
            if hearing is None and mapping.expects:
                hearing = get_running_loop().create_task(pool.do(mapping.hear(may_wait=True)), name="relight.hear")
            await feed.wait_or(hearing, wants_rows=mapping.has_room)
            if hearing is not None and hearing.done():
                hearing.result()
                hearing = None
            while (place := mapping.next()) is not None:
                yield await pool.do(mapping.take(place))
    finally:
        await feed.stop(hearing)
        leaving = mapping.leave()
        if leaving is not None:
            await pool.do_at_least(leaving)


def _take_batch(mapping: Mapping, feed: Feed) -> list[CallRequest]:
    """What was read of the input, as far as a message holds it."""
    batch: list[CallRequest] = []
    size = 0
    while len(batch) < BATCH and size < BATCH_BYTES and (row := feed.next_nowait()) is not None:
        batch.append(mapping.request(row))
        size += batch[-1].payload.size
    if not batch:
        mapping.is_exhausted = feed.is_over()
    return batch
