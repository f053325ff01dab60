"""One attempt of one call: arguments in, the user's code, an end out.  Whatever the user's code does becomes an end."""

from __future__ import annotations

import inspect
import mmap
import os
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from relight.protocol.calls import CallEvent
from relight.protocol.channel import Ended, Run
from relight.protocol.errors import Failure, RelightError, failure_of
from relight.protocol.inside import inside
from relight.protocol.payload import INLINE_BYTES, JSON, RAW, Payload
from relight.protocol.values import dump_exception, dump_result, load_input
from relight.protocol.web import FORMAT
from relight.runtime.generators import Items, makes_items
from relight.runtime.interrupts import CallInterrupted, Interrupts
from relight.runtime.loader import Loaded
from relight.runtime.sealed import sealed
from relight.runtime.tracebacks import describe, summarize

if TYPE_CHECKING:
    import asyncio

    from relight.runtime.inputs import Inputs


TURN_SECONDS = 0.1
"""A loop that takes longer for one turn is held up by a task."""


class Loop:
    """The one event loop of a worker, made when the first `async def` needs it."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, value: Any) -> Any:
        """`value`, awaited when it is a coroutine."""
        if not inspect.iscoroutine(value):
            return value
        return self._run(value)

    def made(self) -> asyncio.AbstractEventLoop:
        """The loop itself."""
        import asyncio  # as below

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        import asyncio  # 30 ms, and most functions are plain

        loop = self.made()
        task = loop.create_task(coroutine)
        self._interrupts.cancel_by(_Cancelling(loop, task, partial(asyncio.current_task, loop)))
        try:
            return loop.run_until_complete(task)
        finally:
            self._interrupts.cancel_by(None)


class _Cancelling:
    """Stops a task: by the loop, as a raise out of the loop's own code would leave that broken.

    Asked again when the loop has not come to it for a while, it raises in the task that does not let it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], current: Callable[[], object | None]
    ) -> None:
        self._loop = loop
        self._task = task
        self._current = current
        self._asked_at: float | None = None
        self._is_done = False

    def __call__(self) -> None:
        if self._asked_at is None:
            self._asked_at = self._loop.time()
            self._loop.call_soon_threadsafe(self._cancel)
        elif not self._is_done and self._loop.time() - self._asked_at > TURN_SECONDS and self._current() is not None:
            raise CallInterrupted("the event loop did not go on")

    def _cancel(self) -> None:
        self._is_done = True
        self._task.cancel()


@dataclass(frozen=True, slots=True)
class Result:
    """An end, and the descriptors to send with it."""

    ended: Ended
    descriptors: tuple[int, ...] = ()


class Prepared(NamedTuple):
    """A call that can be made: `say` is what becomes of what it gives."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    say: Callable[[Any], Any]


class Callees:
    """What calls of one loaded function ask for.  `module` stands for the caller's `__main__`."""

    def __init__(self, loaded: Loaded, module: str) -> None:
        self.find = loaded.find
        self.web = loaded.web
        self._aliases = {"__main__": module} if module else {}
        self._inputs = loaded.inputs

    def prepare(self, order: Run, descriptor: int | None) -> Prepared:
        """Find what is called, and rebuild what it is given.  Raises what that raises."""
        args, kwargs = _arguments(order.payload, descriptor, self._aliases)
        function: Callable[..., Any] = self.find(order.method)
        say: Callable[[Any], Any] = _as_it_is
        if order.payload.format == JSON:
            args, kwargs = self._speak_json().arguments(function, args, kwargs)
        if order.accept[:1] == (JSON,):
            say = partial(self._speak_json().result, function)
        elif order.accept == (RAW, JSON):
            say = partial(self._say_bytes, function)
        return Prepared(function, args, kwargs, say)

    def failed(self, order: Run, error: BaseException) -> Result:
        """The end of a call that raised."""
        return Result(
            Ended(call=order.call, outcome=CallEvent.FAILED, failure=failure_from(self._explained(order, error)))
        )

    def forget_files(self) -> None:
        """The call that runs here is over: the files that came with it go."""
        if inside.folder:
            self._speak_json().forget_files()

    def _explained(self, order: Run, error: BaseException) -> BaseException:
        """The error; of arguments that do not fit, which is seen before the user's first line, in our words."""
        if type(error) is not TypeError or "\n  File " in describe(error):
            return error
        function = self.find(order.method)
        why = str(error).partition("() ")[2] or str(error)
        takes = inspect.signature(function).replace(return_annotation=inspect.Signature.empty)
        return TypeError(f"cannot call {function.__qualname__}: {why}; it takes {takes}")

    def _say_bytes(self, function: Callable[..., Any], value: Any) -> Any:
        return value if isinstance(value, bytes) else self._speak_json().result(function, value)

    def _speak_json(self) -> Inputs:
        if self._inputs is None:
            from relight.runtime.inputs import Inputs  # 10 ms that no call from Python needs

            self._inputs = Inputs()
        return self._inputs


class Attempts:
    """Runs attempts, one after the other; `tell_tokens` is called when a web request has ended."""

    def __init__(
        self, callees: Callees, interrupts: Interrupts, loop: Loop, tell_tokens: Callable[[], None] = lambda: None
    ) -> None:
        self._tell_tokens = tell_tokens
        self._callees = callees
        self._interrupts = interrupts
        self._loop = loop
        self._items = Items(interrupts, loop)

    def run(self, order: Run, descriptor: int | None) -> Result:
        """Run it to its end; the files that came with it go then."""
        try:
            return self._run(order, descriptor)
        finally:
            self._callees.forget_files()

    def _run(self, order: Run, descriptor: int | None) -> Result:
        try:
            try:
                # Between `arm` and `disarm` an interrupt may come at any instruction, the last one included.
                self._interrupts.arm(order.call)
                payload = self._call(order, descriptor)
            finally:
                self._interrupts.disarm()
        except CallInterrupted as error:
            self._interrupts.disarm()
            return interrupted(order.call, self._interrupts.reason, error)
        except BaseException as error:  # noqa: BLE001 - the boundary of user code: whatever it raises is the call's end
            if self._interrupts.reason is not None:
                return interrupted(order.call, self._interrupts.reason, error)
            return self._callees.failed(order, error)
        if self._interrupts.reason is not None:
            return interrupted(order.call, self._interrupts.reason)
        return succeeded(order.call, payload)

    def _call(self, order: Run, descriptor: int | None) -> Payload:
        if order.payload.format == FORMAT and descriptor is not None:
            from relight.runtime.web.session import serve  # who serves no web need not pay for it

            handler = self._callees.web(order.method).handler
            self._loop.run(serve(descriptor, handler, self._interrupts.leave_by, self._tell_tokens))
            return dump_result(None, order.accept)
        function, args, kwargs, say = self._callees.prepare(order, descriptor)
        if makes_items(function):
            self._items.send_all(order, function(*args, **kwargs), say)
            return dump_result(None, order.accept)
        return dump_result(say(self._loop.run(function(*args, **kwargs))), order.accept)


def interrupted(call: str, reason: CallEvent | None, error: BaseException | None = None) -> Result:
    """The end of a call that was told to stop."""
    outcome = reason or CallEvent.CANCELLED
    why = "it was cancelled; call again to have a result"
    if outcome is CallEvent.TIMED_OUT:
        why = "it ran longer than its timeout; raise timeout=, or do less in one call"
    failure = Failure(
        code=outcome.value,
        message=f"cannot finish call {call}: {why}",
        traceback=describe(error) if error is not None else "",
    )
    return Result(Ended(call=call, outcome=outcome, failure=failure))


def succeeded(call: str, payload: Payload) -> Result:
    """The end of a call that gave something."""
    result, descriptors = sealed(payload)
    return Result(Ended(call=call, outcome=CallEvent.SUCCEEDED, result=result), descriptors)


def failure_from(error: BaseException) -> Failure:
    """What user code raised, as data; the exception itself goes along when it can be pickled."""
    if isinstance(error, RelightError) and error.__traceback__ is not None and _is_of_values(error):
        told = describe(error)
        return replace(failure_of(error), traceback=told if "\n  File " in told else "")  # "": none of it is the user's
    # An exit or a keyboard interrupt must not be raised again in the caller's process: it would end that.
    exception = dump_exception(error, INLINE_BYTES) if isinstance(error, Exception) else None
    return Failure(
        code="function_failed",
        message=summarize(error),
        type_name=f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        traceback=describe(error),
        exception=exception,
    )


def _is_of_values(error: RelightError) -> bool:
    return error.code in ("value_not_portable", "invalid_request", "invalid_input", "not_found")


def _as_it_is(value: Any) -> Any:
    return value


def _arguments(
    payload: Payload, descriptor: int | None, aliases: dict[str, str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if descriptor is None:
        return load_input(payload, None, aliases)
    try:
        mapped = mmap.mmap(descriptor, payload.size, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)
    with closing(mapped):
        return load_input(payload, mapped, aliases)
