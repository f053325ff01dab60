"""The items of a generator: each is made once its reader has room for it, and not before.

The first needs no leave; item n is made when `Grant(items >= n)` has come.  Whatever ends it early (an interrupt, an
item that cannot be sent) closes the generator, so that its `finally` blocks run.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from types import FunctionType
from typing import Any, Protocol

from relight.protocol.calls import CallEvent
from relight.protocol.channel import Item, Run
from relight.protocol.values import dump_result
from relight.runtime.interrupts import CallInterrupted
from relight.runtime.sealed import sealed

NO_MORE: Any = object()
"""What stands for the item after the last."""

_MAKES = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


class Gate(Protocol):
    """What lets a generator go on, or stops it."""

    @property
    def reason(self) -> CallEvent | None:
        """Why the call is to stop; None while it is not."""

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Send a message whole."""

    def wait_grant(self, call: str, items: int) -> None:
        """Return when the call may make so many items.  Raises CallInterrupted when it is to stop."""


class Awaits(Protocol):
    """The worker's event loop."""

    def run(self, value: Any) -> Any:
        """`value`, awaited when it is a coroutine."""


class Makes(Protocol):
    """A generator of either kind."""

    def next(self) -> Any:
        """The next item, NO_MORE when there is none."""

    def close(self) -> None:
        """Let it run what it wants done at its end."""


def makes_items(function: Callable[..., Any]) -> bool:
    """Whether a call of this function gives items rather than one value."""
    plain = getattr(function, "__func__", function)
    if type(plain) is FunctionType:  # as nearly all are; `inspect` asks four functions more
        return bool(plain.__code__.co_flags & _MAKES)
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


class Items:
    """Sends what generators make."""

    def __init__(self, gate: Gate, loop: Awaits) -> None:
        self._gate = gate
        self._loop = loop

    def send_all(self, order: Run, made: Any, say: Callable[[Any], Any]) -> None:
        """Send what `say` makes of the items of the generator `made`, until none is left or the call is interrupted."""
        maker: Makes = _Plain(made) if isinstance(made, Generator) else _Asynchronous(made, self._loop)
        number = 1
        try:
            while (value := maker.next()) is not NO_MORE:
                if self._gate.reason is not None:
                    raise CallInterrupted(order.call)  # it was told to stop, and made another item all the same
                self._send(order, number, say(value))
                number += 1
                self._gate.wait_grant(order.call, number)
        finally:
            maker.close()

    def _send(self, order: Run, number: int, value: Any) -> None:
        payload, descriptors = sealed(dump_result(value, order.accept))
        try:
            self._gate.send(Item(call=order.call, number=number, payload=payload), descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


class _Plain:
    """What `def` with `yield` makes."""

    def __init__(self, made: Generator[Any, None, Any]) -> None:
        self._made = made

    def next(self) -> Any:
        return next(self._made, NO_MORE)

    def close(self) -> None:
        self._made.close()


class _Asynchronous:
    """What `async def` with `yield` makes: the loop runs for one item at a time."""

    def __init__(self, made: AsyncGenerator[Any, None], loop: Awaits) -> None:
        self._made = made
        self._loop = loop

    def next(self) -> Any:
        return self._loop.run(_next(self._made))

    def close(self) -> None:
        self._loop.run(_close(self._made))


async def _next(made: AsyncGenerator[Any, None]) -> Any:
    return await anext(made, NO_MORE)


async def _close(made: AsyncGenerator[Any, None]) -> None:
    await made.aclose()
