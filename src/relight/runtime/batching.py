"""Calls gathered into batches: when one begins, what it is given, and which of its results is whose.  Without I/O.

gathered ─ `size` are there, or the first has waited long enough, and fewer than `most` run ─▶ a batch
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> object:
        """Let it not happen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A batch has `size` calls at most, waits for them for `wait_seconds` at most; `most` run at once."""

    size: int
    wait_seconds: float
    most: int = 1


class Gathering(Generic[T]):
    """The calls of one function that wait to be batched.  `begin` is given each batch; `over` must be said of each."""

    def __init__(
        self,
        rule: Rule,
        begin: Callable[[Sequence[T]], None],
        now: Callable[[], float],
        later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        self._rule = rule
        self._begin = begin
        self._now = now
        self._later = later
        self._waiting: deque[tuple[float, T]] = deque()
        self._running = 0
        self._timer: Timer | None = None

    def add(self, call: T) -> None:
        """One more waits."""
        self._waiting.append((self._now(), call))
        self._go()

    def remove(self, call: T) -> bool:
        """Take out one that waits; False when it does not."""
        kept = deque(entry for entry in self._waiting if entry[1] is not call)
        is_here = len(kept) < len(self._waiting)
        self._waiting = kept
        self._go()
        return is_here

    def over(self) -> None:
        """A batch has ended."""
        self._running -= 1
        self._go()

    def _go(self) -> None:
        while self._waiting and self._running < self._rule.most and self._is_due():
            calls = [self._waiting.popleft()[1] for _ in range(min(self._rule.size, len(self._waiting)))]
            self._running += 1
            self._begin(calls)
        self._watch()

    def _is_due(self) -> bool:
        return len(self._waiting) >= self._rule.size or self._left() <= 0

    def _left(self) -> float:
        return self._waiting[0][0] + self._rule.wait_seconds - self._now()

    def _watch(self) -> None:
        """Look again when the first has waited long enough; while all that may run do, the end of one looks."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting and self._running < self._rule.most:
            self._timer = self._later(max(0.0, self._left()), self._go)


def together(
    function: Callable[..., Any], calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]
) -> tuple[list[Any], dict[str, list[Any]]]:
    """What a batched function is given: a list for each parameter, with what each call gives it, or its default."""
    parameters = inspect.signature(function).parameters.values()
    bound = [inspect.signature(function).bind(*args, **kwargs).arguments for args, kwargs in calls]
    args: list[Any] = []
    kwargs: dict[str, list[Any]] = {}
    for one in parameters:
        if not any(one.name in given for given in bound):
            continue
        values = [given.get(one.name, one.default) for given in bound]
        if one.kind is one.POSITIONAL_ONLY:
            args.append(values)
        else:
            kwargs[one.name] = values
    return args, kwargs


def check_fit(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise TypeError when one call's arguments are not what the function takes."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(str(error)) from None  # without the frames of `inspect`, which are not the user's


def apart(function: Callable[..., Any], returned: Any, count: int) -> Iterator[Any]:
    """What each of `count` calls gets of what a batch returned, in order.  Raises ValueError when that is no such list."""
    if isinstance(returned, (str, bytes, dict)) or not hasattr(returned, "__len__"):
        raise ValueError(
            f"cannot give {count} calls their results: {function.__qualname__} is batched and returned a "
            f"{type(returned).__qualname__}; return a list with one for each call, in order"
        )
    if len(returned) != count:
        raise ValueError(
            f"cannot give {count} calls their results: {function.__qualname__} is batched and returned {len(returned)}; "
            "return one for each call, in order (an exception for one that failed)"
        )
    return iter(returned)
