"""What can be done with something that runs elsewhere: `f.remote(…)`, `f.spawn(…)`, `f.map(…)` and the like.

Each verb is called to block, and has `.aio` for the caller's own event loop.  Both are thin: what is asked, and in which
order, is said once, as `Steps`.  A verb is made when it is named, so a decorated function costs nothing for having them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from collections.abc import Mapping as Keywords
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

from relight.protocol.calls import CallRequest
from relight.sdk.call import Call, CallGroup
from relight.sdk.mapping import MapOptions, Mapping, results, results_aio
from relight.sdk.session import Callee, Session
from relight.sdk.streaming import Reading, items, items_aio

if TYPE_CHECKING:
    from typing import Unpack

    from relight.sdk.elsewhere import MapWords
    from relight.sdk.feed import Rows

P = ParamSpec("P")
R = TypeVar("R")
Y = TypeVar("Y")

Row = tuple[Any, ...]
AnyIterable = Iterable[Any] | AsyncIterable[Any]
_END: Any = object()
NO_KEYWORDS: Keywords[str, Any] = MappingProxyType({})


class Elsewhere(Protocol):
    """Something that runs elsewhere, as its verbs see it."""

    @property
    def callee(self) -> Callee:
        """What is called."""

    def fit(self, args: tuple[Any, ...], kwargs: Keywords[str, Any]) -> None:
        """Raises TypeError when these are not arguments of it."""

    def session(self) -> Session:
        """Where calls go now.  Raises InvalidRequest when there is no such place."""


class Verb:
    """One way to call something elsewhere."""

    __slots__ = ("_of",)

    def __init__(self, of: Elsewhere) -> None:
        self._of = of

    def _request(self, args: tuple[Any, ...], kwargs: Keywords[str, Any]) -> tuple[Session, CallRequest]:
        of = self._of
        of.fit(args, kwargs)
        session = of.session()
        return session, session.request(of.callee, args, kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} of {self._of!r}>"


class Run(Verb, Generic[P, R]):
    """Run it elsewhere and wait: what it returns, or raises.  Interrupted, or cancelled, it cancels the call."""

    __slots__ = ()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        session, request = self._request(args, kwargs)
        try:
            result: R = session.connection.do(session.run(request))
        except BaseException as error:
            if not isinstance(error, Exception):  # Ctrl-C, or what stops the call inside which this is
                session.connection.do(session.try_cancel(request.id))
            raise
        return result

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same on the caller's event loop."""
        session, request = self._request(args, kwargs)
        pool = session.connection.pool()
        try:
            result: R = await pool.do(session.run(request))
        except BaseException as error:
            if not isinstance(error, (Exception, GeneratorExit)):
                await pool.do_at_least(session.try_cancel(request.id))
            raise
        return result


class Spawn(Verb, Generic[P, R]):
    """Run it elsewhere; returns at once with the call, which is kept by then."""

    __slots__ = ()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        session, request = self._request(args, kwargs)
        session.connection.do(session.spawn((request,)))
        return Call(request.id, session)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """The same on the caller's event loop."""
        session, request = self._request(args, kwargs)
        await session.connection.pool().do(session.spawn((request,)))
        return Call(request.id, session)


class _Many(Verb):
    """A call for each row of an input."""

    __slots__ = ()

    def _map(self, rows: Iterable[Row], options: MapOptions, others: Keywords[str, object]) -> Iterator[Any]:
        self._pass_over(others)
        return results(Mapping(self._of.session(), self._of.callee, options), self._fitting(rows, options.kwargs))

    def _map_aio(self, rows: Rows, options: MapOptions, others: Keywords[str, object]) -> AsyncGenerator[Any, None]:
        self._pass_over(others)
        mapping = Mapping(self._of.session(), self._of.callee, options)
        if isinstance(rows, AsyncIterable):
            return results_aio(mapping, self._fitting_aio(rows, options.kwargs))
        return results_aio(mapping, self._fitting(rows, options.kwargs))

    def _pass_over(self, others: Keywords[str, object]) -> None:
        if others:
            from relight.sdk.elsewhere import MapWords, pass_over  # which few need

            own = "iterables, kwargs, order_outputs and return_exceptions"
            pass_over(f"cannot map {self._of.callee}", others, MapWords, own)

    def _fitting(self, rows: Iterable[Row], kwargs: Keywords[str, Any]) -> Iterator[Row]:
        fit = self._of.fit
        for row in rows:
            fit(row, kwargs)
            yield row

    async def _fitting_aio(self, rows: AsyncIterable[Row], kwargs: Keywords[str, Any]) -> AsyncIterator[Row]:
        async for row in rows:
            self._of.fit(row, kwargs)
            yield row


class Map(_Many, Generic[R]):
    """Run it for each item (or each row of several iterables), on as many workers as there is room for.

    The input is read as the output is, so it may be endless; results come in the order of the input, or with
    `order_outputs=False` as they end.  `kwargs` go to every call.  With `return_exceptions` a call that raises gives its
    exception in its place.  Left early, it cancels what is left.
    """

    __slots__ = ()

    def __call__(
        self,
        *iterables: Iterable[Any],
        kwargs: Keywords[str, Any] = NO_KEYWORDS,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        **others: Unpack[MapWords],
    ) -> Iterator[R]:
        options = MapOptions(order_outputs=order_outputs, return_exceptions=return_exceptions, kwargs=kwargs)
        return self._map(zip(*iterables, strict=False), options, others)

    def aio(
        self,
        *iterables: AnyIterable,
        kwargs: Keywords[str, Any] = NO_KEYWORDS,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        **others: Unpack[MapWords],
    ) -> AsyncGenerator[R, None]:
        """The same on the caller's event loop; each iterable may be an async one."""
        options = MapOptions(order_outputs=order_outputs, return_exceptions=return_exceptions, kwargs=kwargs)
        return self._map_aio(_rows(iterables), options, others)


class Starmap(_Many, Generic[R]):
    """As `map`, each item being the positional arguments of one call."""

    __slots__ = ()

    def __call__(
        self,
        iterable: Iterable[Iterable[Any]],
        *,
        kwargs: Keywords[str, Any] = NO_KEYWORDS,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        **others: Unpack[MapWords],
    ) -> Iterator[R]:
        options = MapOptions(order_outputs=order_outputs, return_exceptions=return_exceptions, kwargs=kwargs)
        return self._map((tuple(item) for item in iterable), options, others)

    def aio(
        self,
        iterable: Iterable[Iterable[Any]] | AsyncIterable[Iterable[Any]],
        *,
        kwargs: Keywords[str, Any] = NO_KEYWORDS,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        **others: Unpack[MapWords],
    ) -> AsyncGenerator[R, None]:
        """The same on the caller's event loop; the iterable may be an async one."""
        options = MapOptions(order_outputs=order_outputs, return_exceptions=return_exceptions, kwargs=kwargs)
        if isinstance(iterable, AsyncIterable):
            return self._map_aio((tuple(item) async for item in iterable), options, others)
        return self._map_aio((tuple(item) for item in iterable), options, others)


class ForEach(_Many):
    """As `map`, for what the calls do rather than for what they return."""

    __slots__ = ()

    def __call__(
        self,
        *iterables: Iterable[Any],
        kwargs: Keywords[str, Any] = NO_KEYWORDS,
        ignore_exceptions: bool = False,
    ) -> None:
        options = MapOptions(order_outputs=False, return_exceptions=ignore_exceptions, kwargs=kwargs)
        for _ in self._map(zip(*iterables, strict=False), options, NO_KEYWORDS):
            pass

    async def aio(
        self,
        *iterables: AnyIterable,
        kwargs: Keywords[str, Any] = NO_KEYWORDS,
        ignore_exceptions: bool = False,
    ) -> None:
        """The same on the caller's event loop; each iterable may be an async one."""
        options = MapOptions(order_outputs=False, return_exceptions=ignore_exceptions, kwargs=kwargs)
        async for _ in self._map_aio(_rows(iterables), options, NO_KEYWORDS):
            pass


class SpawnMap(_Many, Generic[R]):
    """Submit a call for each item and return at once with all of them, which are kept by then."""

    __slots__ = ()

    def __call__(self, *iterables: Iterable[Any], kwargs: Keywords[str, Any] = NO_KEYWORDS) -> CallGroup[R]:
        group: CallGroup[R] = CallGroup(self._of.session())
        rows = self._fitting(zip(*iterables, strict=False), kwargs)
        while steps := group.submit_some(self._of.callee, rows, kwargs):
            group.connection.do(steps)
        return group

    async def aio(self, *iterables: AnyIterable, kwargs: Keywords[str, Any] = NO_KEYWORDS) -> CallGroup[R]:
        """The same on the caller's event loop; each iterable may be an async one."""
        rows = _rows(iterables)
        known = [row async for row in rows] if isinstance(rows, AsyncIterable) else rows
        group: CallGroup[R] = CallGroup(self._of.session())
        fitting = self._fitting(known, kwargs)
        while steps := group.submit_some(self._of.callee, fitting, kwargs):
            await group.connection.pool().do(steps)
        return group


class Iterate(Verb, Generic[P, Y]):
    """Run a generator elsewhere: what it yields, as it yields it.  Nothing runs before the first item is asked for.

    A reader that stops early stops it.
    """

    __slots__ = ()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[Y]:
        return items(Reading(*self._request(args, kwargs)))

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Y, None]:
        """The same on the caller's event loop."""
        return items_aio(Reading(*self._request(args, kwargs)))


def _rows(iterables: tuple[AnyIterable, ...]) -> Rows:
    """The rows of several iterables, of which some may be async ones."""
    plain = [one for one in iterables if not isinstance(one, AsyncIterable)]
    return zip(*plain, strict=False) if len(plain) == len(iterables) else _zip_aio(iterables)


async def _zip_aio(iterables: tuple[AnyIterable, ...]) -> AsyncIterator[Row]:
    sources = [aiter(one) if isinstance(one, AsyncIterable) else _aiter(iter(one)) for one in iterables]
    while True:
        row = tuple([await anext(source, _END) for source in sources])
        if any(one is _END for one in row):
            return
        yield row


async def _aiter(items: Iterator[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item
