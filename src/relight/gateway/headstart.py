"""A task whose first step is taken here and now, rather than in the next turn of the loop.

What a request asks for is on its way before the bytes that come behind it are looked at; one that need not wait is
answered at once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


def start_now(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """A task of `loop`, which runs, that has come as far as it can without waiting."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, name=name, eager_start=True)
    if asyncio.current_task(loop) is not None:  # inside another's step there is no room for one of this
        return loop.create_task(work, name=name)
    begun = _Begun(work)
    task = loop.create_task(begun, name=name)
    asyncio._enter_task(loop, task)  # documented for those who take steps of their own ("Extending asyncio")
    try:
        begun.begin()
    finally:
        asyncio._leave_task(loop, task)
    return task


class _Begun(Coroutine[Any, Any, T]):
    """A coroutine that has taken its first step; who drives it hears what came of that when they ask for it.

    Python 3.12's `eager_start` ends it.
    """

    __slots__ = ("_came", "_ended", "_is_told", "_work")

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._is_told = False
        self._came: object = None
        self._ended: BaseException | None = None

    def begin(self) -> None:
        try:
            self._came = self._work.send(None)
        except BaseException as end:  # noqa: BLE001 - StopIteration, with its value, or what its task is to show
            self._ended = end

    def send(self, value: object) -> Any:
        return self._work.send(value) if self._is_told else self._tell()

    def throw(self, *error: Any) -> Any:
        if self._ended is not None:
            return self._tell()
        if not self._is_told and asyncio.isfuture(self._came):
            self._came.cancel()  # as the task would have done, had it seen what is waited for
        self._is_told = True
        return self._work.throw(*error)

    def _tell(self) -> object:
        self._is_told = True
        ended, self._ended = self._ended, None
        if ended is None:
            return self._came
        try:
            raise ended
        finally:
            del ended  # it knows this frame: a ring, once for each request

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, T]:
        raise NotImplementedError("a task drives it")
