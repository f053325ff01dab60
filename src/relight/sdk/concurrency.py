"""How many calls of a function one worker has at once: `@relight.concurrent`, and as one, `@relight.batched`.

Both mark what stands below them, and so come below `@app.function()`, `@app.cls()` or on a class's method.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, overload

from relight.protocol.errors import InvalidRequest
from relight.protocol.inside import BATCHED, CONCURRENT, RAW
from relight.protocol.manifest import Batching, Concurrency

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

MOST = 1000
"""So many calls one worker has at once at most."""

MAX_WAIT_MS = 60_000


class _Batched(Protocol):
    """`@relight.batched(…)`, waiting for the function: one call gives one of what that takes lists of, and gets one."""

    @overload
    def __call__(
        self, raw: Callable[..., Coroutine[Any, Any, list[R]]], /
    ) -> Callable[..., Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, raw: Callable[..., list[R]], /) -> Callable[..., R]: ...


def concurrent(*, max_inputs: int, target_inputs: int | None = None) -> Callable[[F], F]:
    """Let one worker run up to `max_inputs` calls at once: `async def` as tasks of one loop, all else in threads.

    With `target_inputs` another worker is started as soon as each has so many; `max_inputs` is then for bursts.
    """
    target = max_inputs if target_inputs is None else target_inputs
    _check_whole("max_inputs", max_inputs, MOST)
    _check_whole("target_inputs", target, max_inputs)
    said = Concurrency(max_inputs=max_inputs, target_inputs=target)

    def decorate(raw: F) -> F:
        _refuse_decorated("concurrent", raw)
        setattr(raw, CONCURRENT, said)
        return raw

    return decorate


def batched(*, max_batch_size: int, wait_ms: float) -> _Batched:
    """Gather calls into one: the function is given a list for each parameter, and returns a list with a result for each.

    A batch begins when it has `max_batch_size` calls, or when its first has waited for `wait_ms`.  An exception in the
    returned list is raised at the one caller whose place it has.
    """
    _check_whole("max_batch_size", max_batch_size, MOST)
    if isinstance(wait_ms, bool) or not isinstance(wait_ms, (int, float)) or not 0 <= wait_ms <= MAX_WAIT_MS:
        raise InvalidRequest(
            f"cannot decorate: wait_ms={wait_ms!r} is not between 0 and {MAX_WAIT_MS}; write such a number"
        )
    said = Batching(max_batch_size=max_batch_size, wait_seconds=wait_ms / 1000)

    def decorate(raw: Callable[..., Any]) -> Callable[..., Any]:
        _refuse_decorated("batched", raw)
        _check_batched(raw)
        setattr(raw, BATCHED, said)
        return raw

    return decorate


def concurrency_of(raw: object) -> Concurrency:
    """What a function or a class says of it."""
    said = getattr(raw, CONCURRENT, None)
    return said if isinstance(said, Concurrency) else Concurrency()


def batching_of(raw: object) -> Batching | None:
    """What a function says of it."""
    said = getattr(raw, BATCHED, None)
    return said if isinstance(said, Batching) else None


def only(returned: Any, name: str) -> Any:
    """The one result of a batch of one.  Raises it where it is an exception, and ValueError when that is no such list."""
    if isinstance(returned, (str, bytes, dict)) or not hasattr(returned, "__len__") or len(returned) != 1:
        raise ValueError(f"cannot give 1 call its result: {name} is batched; return a list with one for each call")
    (value,) = returned
    if isinstance(value, BaseException):
        raise value
    return value


def _refuse_decorated(name: str, raw: Any) -> None:
    if hasattr(raw, RAW):
        what = getattr(raw, "__name__", repr(raw))
        raise InvalidRequest(
            f"cannot decorate {what}: @relight.{name}() stands above the decorator that makes it remote; put it below"
        )
    if not inspect.isfunction(raw) and not (name == "concurrent" and inspect.isclass(raw)):
        raise InvalidRequest(
            f"cannot decorate {raw!r} with @relight.{name}(): it is not a plain function; put it first"
        )


def _check_batched(raw: Callable[..., Any]) -> None:
    name = raw.__qualname__
    if inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw):
        raise InvalidRequest(f"cannot batch {name}: it yields; return a list with a result for each call")
    stars = [
        one.name
        for one in inspect.signature(raw).parameters.values()
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if stars:
        raise InvalidRequest(
            f"cannot batch {name}: nobody knows which calls give what to *{stars[0]}; name each of its parameters"
        )


def _check_whole(name: str, value: object, most: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidRequest(f"cannot decorate: {name}={value!r} is not a whole number from 1 to {most:g}; write one")
