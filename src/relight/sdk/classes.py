"""Classes whose objects live in workers: `@app.cls`, with `@enter`, `@exit` and `@method`.

The class stays the user's own.  A decorated method is a descriptor: looked up on an object it can be called here, or
elsewhere, where a worker has made its own object once and entered it.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from relight.protocol.errors import InvalidRequest
from relight.protocol.inside import ENTER, EXIT, HOOK, RAW
from relight.protocol.manifest import MethodSpec
from relight.sdk.function import HasSession, Remote
from relight.sdk.options import method_of
from relight.sdk.session import Callee

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
F = TypeVar("F", bound=Callable[..., Any])

CLASS = "__relight_class__"
_ENTERED = "__relight_entered__"
_ENTERING = threading.RLock()  # not state: it only keeps two threads from entering one object twice


@dataclass(frozen=True, slots=True)
class ClassRecord:
    """What `@app.cls` knows of a class, kept in the class itself."""

    name: str
    sessions: HasSession


class BoundMethod(Remote[P, R]):
    """A method of one object."""

    def __init__(self, instance: object, raw: Callable[..., R], record: ClassRecord) -> None:
        self._bound: Callable[P, R] = raw.__get__(instance)
        self._instance = instance
        super().__init__(
            Callee(function=record.name, method=raw.__name__), record.sessions, lambda *a, **k: _bind(self._bound, a, k)
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here; the object is entered first, once."""
        enter_here(self._instance)
        return self._bound(*args, **kwargs)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here; the object is entered first, once."""
        return self(*args, **kwargs)


class Method(Generic[S, P, R]):
    """A decorated method, on its class."""

    def __init__(self, raw: Callable[Concatenate[S, P], R]) -> None:
        for name in functools.WRAPPER_ASSIGNMENTS:
            setattr(self, name, getattr(raw, name, None))
        self.raw = raw
        setattr(self, RAW, raw)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Method[S, P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> BoundMethod[P, R]: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> Method[S, P, R] | BoundMethod[P, R]:
        if instance is None:
            return self
        record = vars(owner).get(CLASS)
        if not isinstance(record, ClassRecord):
            raise InvalidRequest(
                f"cannot use {owner.__qualname__}.{self.raw.__name__}: the class has no @app.cls(); decorate it"
            )
        return BoundMethod(instance, self.raw, record)


def method() -> Callable[[Callable[Concatenate[S, P], R]], Method[S, P, R]]:
    """Make a method of an `@app.cls` callable from elsewhere."""

    def decorate(raw: Callable[Concatenate[S, P], R]) -> Method[S, P, R]:
        return Method(raw)

    return decorate


def enter() -> Callable[[F], F]:
    """Run this method once in each worker, before its first call: load what all calls use."""
    return _hook(ENTER, "enter")


def exit() -> Callable[[F], F]:  # noqa: A001 - it is `@relight.exit()`
    """Run this method once in each worker, when it leaves."""
    return _hook(EXIT, "exit")


def _hook(hook: str, name: str) -> Callable[[F], F]:
    def decorate(raw: F) -> F:
        if not inspect.isfunction(raw):
            raise InvalidRequest(
                f"cannot decorate {raw!r} with @relight.{name}(): it is not a plain method; put it first"
            )
        setattr(raw, HOOK, hook)
        return raw

    return decorate


def methods_of(kind: type) -> tuple[MethodSpec, ...]:
    """The methods that may be called from elsewhere.  Raises InvalidRequest when there is none, or `__init__` asks."""
    found = {name: value for name, value in _members(kind) if isinstance(value, Method)}
    if not found:
        raise InvalidRequest(f"cannot decorate {kind.__qualname__}: no method has @relight.method(); decorate one")
    if inspect.signature(kind).parameters:
        raise InvalidRequest(
            f"cannot decorate {kind.__qualname__}: its __init__ has parameters, which are not supported yet; "
            "set what it needs in a method with @relight.enter()"
        )
    return tuple(method_of(value.raw, name, is_bound=True) for name, value in found.items())


def enter_here(instance: object) -> None:
    """Run the `@enter` methods of an object here, if that was not done."""
    with _ENTERING:
        if getattr(instance, _ENTERED, False):
            return
        for name, value in _members(type(instance)):
            if getattr(value, HOOK, None) == ENTER:
                _run(getattr(instance, name)())
        with suppress(AttributeError):  # __slots__: then it enters each time
            setattr(instance, _ENTERED, True)


def _run(value: Any) -> None:
    if inspect.iscoroutine(value):
        import asyncio

        asyncio.run(value)


def _members(kind: type) -> Iterator[tuple[str, object]]:
    """What a class has, in the order of its bases and of its lines."""
    found: dict[str, object] = {}
    for base in reversed(kind.__mro__):
        found.update(vars(base))
    return iter(found.items())


def _bind(bound: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    return inspect.signature(bound).bind(*args, **kwargs)
