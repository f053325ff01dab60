"""Two shells over one definition: `x.verb(…)` takes its steps by blocking, `await x.verb.aio(…)` on the caller's loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from relight.sdk.connection import Connection
from relight.sdk.steps import Steps

P = ParamSpec("P")
R = TypeVar("R")


class HasConnection(Protocol):
    """Something on a server."""

    @property
    def connection(self) -> Connection:
        """The way there."""


S = TypeVar("S", bound=HasConnection)


class Asked(Generic[P, R]):
    """Something to ask, of one object."""

    __slots__ = ("_of", "_steps")

    def __init__(self, of: HasConnection, steps: Callable[P, Steps[R]]) -> None:
        self._of = of
        self._steps = steps

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._of.connection.do(self._steps(*args, **kwargs))

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same on the caller's event loop."""
        return await self._of.connection.pool().do(self._steps(*args, **kwargs))


class asked(Generic[S, P, R]):
    """Makes a method that says steps one that takes them, with `.aio` beside it."""

    def __init__(self, steps: Callable[Concatenate[S, P], Steps[R]]) -> None:
        self._steps = steps
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> asked[S, P, R]: ...
    @overload
    def __get__(self, instance: S, owner: type[Any]) -> Asked[P, R]: ...
    def __get__(self, instance: S | None, owner: type[Any]) -> asked[S, P, R] | Asked[P, R]:
        if instance is None:
            return self
        return Asked(instance, self._steps.__get__(instance))
