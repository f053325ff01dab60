"""What a generator yields elsewhere, item by item.

Asking for more says that the items before are with the reader, so an item is asked for only when it is wanted.  A reader
that stops, for whatever reason, cancels the call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Generator
from typing import Any

from relight.protocol.api import ReadItems
from relight.protocol.calls import CallRequest
from relight.protocol.errors import InvalidRequest
from relight.protocol.payload import Payload
from relight.sdk.session import FIRST_WAIT_SECONDS, Session, Waiting, name_of
from relight.sdk.steps import Steps

_LONGEST_WAIT_SECONDS = 10.0
_NOTHING = object()


class Reading:
    """One call of a generator, while its items are read."""

    def __init__(self, session: Session, request: CallRequest) -> None:
        self.session = session
        self.is_over = False
        self._request = request
        self._items: deque[Payload] = deque()
        self._taken = 0
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._waiting = Waiting(name_of(request), session.say)

    def start(self) -> Steps[None]:
        """Let the call be kept."""
        return self.session.submit((self._request,), reads_items=True)

    def next(self) -> Steps[Any]:
        """The next item; `_NOTHING` when there is none.  Raises what the generator raised."""
        while not self._items and not self.is_over:
            yield from self._hear()
        if not self._items:
            return _NOTHING
        return (yield from self.session.open(self._items.popleft()))

    def leave(self) -> Steps[None]:
        """Cancel the call."""
        return self.session.try_cancel(self._request.id)

    def _hear(self) -> Steps[None]:
        query = ReadItems(call=self._request.id, taken=self._taken, wait_seconds=self._wait_seconds)
        answer = yield from self.session.connection.server.read_items(query)
        self._items.extend(answer.items)
        self._taken += len(answer.items)
        if answer.items:
            self._wait_seconds = FIRST_WAIT_SECONDS
        elif answer.call.state.is_final:
            self.is_over = True
            value = yield from self.session.outcome(answer.call)
            if value is not None and not self._taken:
                name = name_of(self._request)
                raise InvalidRequest(
                    f"cannot iterate over {name}: it returned a {type(value).__qualname__}, and yields nothing; "
                    f"call {name}.remote(…)"
                )
        else:
            self._waiting.tell(answer.call.pending_reason)
            self._wait_seconds = min(self._wait_seconds * 2, _LONGEST_WAIT_SECONDS)


def items(reading: Reading) -> Generator[Any, None, None]:
    """The items as they come, by blocking."""
    connection = reading.session.connection
    try:
        connection.do(reading.start())
        while (item := connection.do(reading.next())) is not _NOTHING:
            yield item
    finally:
        if not reading.is_over:
            connection.do(reading.leave())


async def items_aio(reading: Reading) -> AsyncGenerator[Any, None]:
    """The items as they come, on an event loop."""
    pool = reading.session.connection.pool()
    try:
        await pool.do(reading.start())
        while (item := await pool.do(reading.next())) is not _NOTHING:
            yield item
    finally:
        if not reading.is_over:
            await pool.do_at_least(reading.leave())
