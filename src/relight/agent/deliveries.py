"""What is told of an attempt, in its order: the items of a generator, then the end.

A value too large for a message is with the server before the message that names it; whatever the attempt says after
that waits for it, so that no item overtakes another, and no end its items.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from relight.agent.attempts import Attempt
from relight.agent.outbox import Outbox
from relight.agent.values import check_payload
from relight.protocol.calls import CallEvent, Token
from relight.protocol.channel import Item
from relight.protocol.errors import Failure, ProtocolError, RelightError, Unavailable, failure_of
from relight.protocol.link import CallEnd, CallItem
from relight.protocol.payload import Payload


class KeepsValues(Protocol):
    """Gives large values to the server."""

    async def deliver(self, end: CallEnd, descriptors: Sequence[int]) -> CallEnd:
        """The end, with the values that came as descriptors kept by the server."""

    async def keep(self, payload: Payload, descriptor: int) -> Payload:
        """The payload that names what `descriptor` held.  Closes it.  Raises RelightError."""


@dataclass(slots=True)
class _Telling:
    """One attempt: how many items came, may come and were told; what is being uploaded, and why one could not be."""

    items: int = 0
    told: int = 0
    granted: int = 1
    sending: asyncio.Task[None] | None = None
    refusal: Failure | None = None


class Deliveries:
    """`stop` is called with an attempt of which an item could not be given to the server: it cannot go on."""

    def __init__(
        self, outbox: Outbox, values: KeepsValues, tasks: asyncio.TaskGroup, stop: Callable[[Attempt], None]
    ) -> None:
        self._outbox = outbox
        self._values = values
        self._tasks = tasks
        self._stop = stop
        self._tellings: dict[tuple[str, Token], _Telling] = {}

    def grant(self, attempt: Attempt, items: int) -> bool:
        """The attempt may make so many items; false when that is nothing new."""
        telling = self._telling(attempt)
        is_more = items > telling.granted
        telling.granted = max(items, telling.granted)
        return is_more

    def granted(self, attempt: Attempt) -> int:
        """How many items the attempt may make."""
        telling = self._tellings.get(attempt.held.key)
        return 1 if telling is None else telling.granted

    def check_item(self, attempt: Attempt, item: Item) -> None:
        """Raises ProtocolError when this item cannot be the next of the attempt."""
        telling = self._telling(attempt)
        if item.number != telling.items + 1 or item.number > telling.granted:
            raise ProtocolError(
                f"cannot believe item {item.number} of {item.call}: "
                f"{telling.items} came before it, and {telling.granted} may come"
            )
        check_payload("an item", item.payload)

    def item(self, attempt: Attempt, item: Item, descriptors: Sequence[int] = ()) -> None:
        """Tell an item, once all before it are told."""
        telling = self._telling(attempt)
        telling.items = item.number
        told = CallItem(call=item.call, token=attempt.order.token, number=item.number, payload=item.payload)
        if descriptors or telling.sending is not None or telling.refusal is not None:
            self._follow(attempt, telling, self._send_item(attempt, telling, told, descriptors))
        else:
            self._tell(telling, told)

    def end(self, attempt: Attempt, end: CallEnd, descriptors: Sequence[int] = ()) -> None:
        """Tell how an attempt ended, once all it said before is told."""
        telling = self._tellings.pop(attempt.held.key, None)
        if descriptors or (telling is not None and telling.sending is not None):
            telling = telling or _Telling()
            self._outbox.promise(attempt.held)
            self._follow(attempt, telling, self._send_end(attempt, telling, end, descriptors))
        else:
            self._outbox.end(attempt.held, _judged(telling, end))

    def _telling(self, attempt: Attempt) -> _Telling:
        return self._tellings.setdefault(attempt.held.key, _Telling())

    def _tell(self, telling: _Telling, item: CallItem) -> None:
        telling.told = item.number
        self._outbox.item(item)

    def _follow(self, attempt: Attempt, telling: _Telling, act: Coroutine[None, None, None]) -> None:
        before = telling.sending

        async def follow() -> None:
            if before is not None:
                await asyncio.wait((before,))
            await act

        task = self._tasks.create_task(follow(), name=f"{attempt.order.call}.deliver")
        telling.sending = task
        task.add_done_callback(lambda done: _forget(telling, done))

    async def _send_item(self, attempt: Attempt, telling: _Telling, item: CallItem, descriptors: Sequence[int]) -> None:
        if telling.refusal is not None:
            for descriptor in descriptors:
                os.close(descriptor)
            return
        try:
            for descriptor in descriptors:
                item = replace(item, payload=await self._values.keep(item.payload, descriptor))
        except (RelightError, OSError) as error:
            refusal = error if isinstance(error, RelightError) else Unavailable(f"cannot keep an item: {error}")
            telling.refusal = failure_of(refusal)
            self._stop(attempt)
            return
        self._tell(telling, item)

    async def _send_end(self, attempt: Attempt, telling: _Telling, end: CallEnd, descriptors: Sequence[int]) -> None:
        if descriptors:
            end = await self._values.deliver(end, descriptors)
        self._outbox.end(attempt.held, _judged(telling, end))


def _judged(telling: _Telling | None, end: CallEnd) -> CallEnd:
    """An attempt of which an item is missing has failed by that, whatever it said afterwards."""
    if telling is None or not (telling.items or telling.refusal):
        return end
    if telling.refusal is None:
        return replace(end, items=telling.told)
    return replace(end, outcome=CallEvent.FAILED, result=None, failure=telling.refusal, items=telling.told)


def _forget(telling: _Telling, done: asyncio.Task[None]) -> None:
    if telling.sending is done:
        telling.sending = None
