"""Classes whose objects live in workers: `@app.cls`, with `@enter`, `@exit` and `@method`.

The class stays the user's own.  A decorated method is a descriptor: looked up on an object it can be called here, or
elsewhere, where a worker has made its own object once and entered it.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from relight.protocol.errors import InvalidRequest
from relight.protocol.inside import ENTER, ENTER_SNAP, EXIT, HOOK, RAW, WEB
from relight.protocol.manifest import Json, MethodSpec
from relight.sdk.bindings import binding_text, merged
from relight.sdk.function import Fit, HasSession, Remote, RemoteGenerator
from relight.sdk.options import CallOptions, SessionWish, call_options, method_of, split_session
from relight.sdk.parameters import given_of
from relight.sdk.session import Callee

if TYPE_CHECKING:
    from typing import Unpack

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Y = TypeVar("Y")
C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])

CLASS = "__relight_class__"
_ENTERED = "__relight_entered__"
_ENTERING = threading.RLock()  # not state: it only keeps two threads from entering one object twice


@dataclass(frozen=True, slots=True)
class ClassRecord:
    """What `@app.cls` knows of a class, kept in the class itself; `options` are those of `with_options`."""

    name: str
    sessions: HasSession
    options: tuple[tuple[str, Json], ...] = ()
    session: SessionWish = field(default_factory=SessionWish)


class _Bound(Generic[P, R]):
    """A method of one object, as it is called here."""

    def _bind(self, instance: object, raw: Callable[..., Any]) -> None:
        self._instance = instance
        self._bound: Callable[P, R] = raw.__get__(instance)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here; the object is entered first, once."""
        enter_here(self._instance)
        return self._bound(*args, **kwargs)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here; the object is entered first, once."""
        return self(*args, **kwargs)


class BoundMethod(_Bound[P, R], Remote[P, R]):
    """A method of one object."""


class BoundAsyncMethod(_Bound[P, Coroutine[Any, Any, R]], Remote[P, R]):
    """An `async def` of one object."""


class BoundGenerator(_Bound[P, Iterator[Y]], RemoteGenerator[P, Y]):
    """A method of one object that yields."""


class BoundAsyncGenerator(_Bound[P, AsyncIterator[Y]], RemoteGenerator[P, Y]):
    """An `async def` of one object that yields."""


class Marked:
    """A decorated method, on its class."""

    def __init__(self, raw: Callable[..., Any]) -> None:
        for name in functools.WRAPPER_ASSIGNMENTS:
            setattr(self, name, getattr(raw, name, None))
        self.raw = raw
        self.fit = Fit(raw, is_bound=True)
        setattr(self, RAW, raw)

    def _of(self, kind: Any, instance: object, owner: type[Any]) -> Any:
        record = vars(owner).get(CLASS)
        if not isinstance(record, ClassRecord):
            raise InvalidRequest(
                f"cannot use {owner.__qualname__}.{self.raw.__name__}: the class has no @app.cls(); decorate it"
            )
        binding = binding_text(given_of(instance), record.options)
        callee = record.session.on(Callee(function=record.name, method=self.raw.__name__, binding=binding))
        bound = kind(callee, record.sessions, self.fit)
        bound._bind(instance, self.raw)
        return bound

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.raw,)


class Method(Marked, Generic[S, P, R]):
    """A decorated method."""

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Method[S, P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> BoundMethod[P, R]: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> Method[S, P, R] | BoundMethod[P, R]:
        bound: BoundMethod[P, R]
        if instance is None:
            return self
        bound = self._of(BoundMethod, instance, owner)
        return bound


class AsyncMethod(Marked, Generic[S, P, R]):
    """A decorated `async def`."""

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> AsyncMethod[S, P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> BoundAsyncMethod[P, R]: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> AsyncMethod[S, P, R] | BoundAsyncMethod[P, R]:
        bound: BoundAsyncMethod[P, R]
        if instance is None:
            return self
        bound = self._of(BoundAsyncMethod, instance, owner)
        return bound


class GeneratorMethod(Marked, Generic[S, P, Y]):
    """A decorated method that yields."""

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> GeneratorMethod[S, P, Y]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> BoundGenerator[P, Y]: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> GeneratorMethod[S, P, Y] | BoundGenerator[P, Y]:
        bound: BoundGenerator[P, Y]
        if instance is None:
            return self
        bound = self._of(BoundGenerator, instance, owner)
        return bound


class AsyncGeneratorMethod(Marked, Generic[S, P, Y]):
    """A decorated `async def` that yields."""

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> AsyncGeneratorMethod[S, P, Y]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> BoundAsyncGenerator[P, Y]: ...
    def __get__(
        self, instance: object | None, owner: type[Any]
    ) -> AsyncGeneratorMethod[S, P, Y] | BoundAsyncGenerator[P, Y]:
        bound: BoundAsyncGenerator[P, Y]
        if instance is None:
            return self
        bound = self._of(BoundAsyncGenerator, instance, owner)
        return bound


class _MethodDecorator:
    """`@relight.method()`, waiting for the method."""

    @overload
    def __call__(self, raw: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /) -> AsyncMethod[S, P, R]: ...  # type: ignore[overload-overlap]  # the first that fits is meant
    @overload
    def __call__(self, raw: Callable[Concatenate[S, P], AsyncIterator[Y]], /) -> AsyncGeneratorMethod[S, P, Y]: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def __call__(self, raw: Callable[Concatenate[S, P], Iterator[Y]], /) -> GeneratorMethod[S, P, Y]: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def __call__(self, raw: Callable[Concatenate[S, P], R], /) -> Method[S, P, R]: ...
    def __call__(self, raw: Callable[..., Any], /) -> Any:
        """Mark it."""
        if not inspect.isfunction(raw):
            raise InvalidRequest(
                f"cannot decorate {raw!r} with @relight.method(): it is not a plain method; put it first"
            )
        if inspect.isasyncgenfunction(raw):
            return AsyncGeneratorMethod(raw)
        if inspect.isgeneratorfunction(raw):
            return GeneratorMethod(raw)
        return AsyncMethod(raw) if inspect.iscoroutinefunction(raw) else Method(raw)


def method(*, is_generator: bool | None = None) -> _MethodDecorator:
    """Make a method of an `@app.cls` callable from elsewhere.  What yields is a generator, whether this is said or not."""
    return _MethodDecorator()


def enter(*, snap: bool = False) -> Callable[[F], F]:
    """Run this method once in each worker, before its first call: load what all calls use.

    With `snap` once for all workers that are forked from one template, before those without: each has what it made.
    """
    return _hook(ENTER_SNAP if snap else ENTER, "enter")


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
    """The methods that may be called from elsewhere.  Raises InvalidRequest when there is none."""
    marked: dict[str, Callable[..., Any]] = {
        name: value.raw for name, value in _members(kind) if isinstance(value, Marked)
    }
    members = ((name, value) for name, value in _members(kind) if inspect.isfunction(value))
    web: dict[str, Callable[..., Any]] = {name: value for name, value in members if hasattr(value, WEB)}
    if not marked and not web:
        raise InvalidRequest(f"cannot decorate {kind.__qualname__}: no method has @relight.method(); decorate one")
    return tuple(method_of(raw, name, is_bound=True) for name, raw in {**marked, **web}.items())


def has_snap(kind: type) -> bool:
    """Whether objects of a class have something to do once for many workers: a method with `@relight.enter(snap=True)`."""
    return any(getattr(value, HOOK, None) == ENTER_SNAP for _, value in _members(kind))


def register(kind: type, record: ClassRecord) -> None:
    """Let a class know what it is to its app.  `kind.with_options` is there unless the class has one of its own."""
    setattr(kind, CLASS, record)
    if not hasattr(kind, "with_options"):
        setattr(kind, "with_options", classmethod(_with_options))  # noqa: B010 - the class is the user's


def with_options(kind: C, /, **given: Unpack[CallOptions]) -> C:
    """The class with other options for the calls of its objects: `with_options(Model, gpu="A100")(size="13b")`.

    The same as `Model.with_options(gpu="A100")`, which type checkers cannot see.
    """
    return _with_options(kind, **given)


def _with_options(kind: C, **given: Unpack[CallOptions]) -> C:
    record = vars(kind).get(CLASS)
    if not isinstance(record, ClassRecord):
        raise InvalidRequest(f"cannot change the options of {kind!r}: it has no @app.cls(); decorate it")
    rest, session = split_session(record.name, given)
    options = merged(record.options, call_options(record.name, rest))
    made_of = replace(record, options=options, session=session.over(record.session))
    names = ("__module__", "__qualname__", "__doc__")
    body = {**{name: getattr(kind, name) for name in names}, CLASS: made_of}
    made: C = type(kind)(kind.__name__, (kind,), body)
    return made


def enter_here(instance: object) -> None:
    """Run the `@enter` methods of an object here, if that was not done."""
    with _ENTERING:
        if getattr(instance, _ENTERED, False):
            return
        for hook in (ENTER_SNAP, ENTER):
            for name, value in _members(type(instance)):
                if getattr(value, HOOK, None) == hook:
                    _run(getattr(instance, name)())
        with suppress(AttributeError):  # __slots__: then it enters each time
            setattr(instance, _ENTERED, True)


def _run(value: Any) -> None:
    """Await a coroutine, in a thread of its own where a loop runs already: it must be done before the first call."""
    if not inspect.iscoroutine(value):
        return
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(value)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, value).result()


def _members(kind: type) -> Iterator[tuple[str, object]]:
    """What a class has, in the order of its bases and of its lines."""
    found: dict[str, object] = {}
    for base in reversed(kind.__mro__):
        found.update(vars(base))
    return iter(found.items())
