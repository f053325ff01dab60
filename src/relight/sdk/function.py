"""A decorated function: called here it runs here, `.remote` runs it there.

Everything is checked against its signature before anything is sent.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Generic, NoReturn, ParamSpec, Protocol, TypeVar

from relight.protocol.errors import InvalidRequest
from relight.protocol.inside import RAW, inside
from relight.sdk.call import Call
from relight.sdk.mapping import MapOptions, Mapping
from relight.sdk.session import Callee, Session

P = ParamSpec("P")
R = TypeVar("R")


class HasSession(Protocol):
    """Who knows where calls go."""

    def session(self, what: str) -> Session:
        """Where calls go now.  Raises InvalidRequest naming `what` when there is no such place."""


class Remote(Generic[P, R]):
    """Something that can be called elsewhere.  `check` takes the arguments and raises TypeError when they do not fit."""

    def __init__(self, callee: Callee, sessions: HasSession, check: Callable[..., object] | None = None) -> None:
        self._callee = callee
        self._sessions = sessions
        self._check = check

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it elsewhere and wait: what it returns, or raises."""
        self._fit(args, kwargs)
        result: R = self._session().run(self._callee, args, kwargs)
        return result

    def spawn(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Run it elsewhere; returns at once with the call, which is kept by then."""
        self._fit(args, kwargs)
        session = self._session()
        return Call(session.spawn(self._callee, args, kwargs), session)

    def map(
        self, iterable: Iterable[Any], *more: Iterable[Any], order_outputs: bool = True, return_exceptions: bool = False
    ) -> Iterator[R]:
        """Run it for each item (or each row of several iterables), on as many workers as there is room for.

        The input is read as the output is, so it may be endless; results come in the order of the input.
        """
        options = MapOptions(order_outputs=order_outputs, return_exceptions=return_exceptions)
        return self._map(zip(iterable, *more, strict=False), options)

    def starmap(
        self, iterable: Iterable[Iterable[Any]], *, order_outputs: bool = True, return_exceptions: bool = False
    ) -> Iterator[R]:
        """As `map`, each item being the arguments of one call."""
        options = MapOptions(order_outputs=order_outputs, return_exceptions=return_exceptions)
        return self._map((tuple(item) for item in iterable), options)

    def for_each(self, iterable: Iterable[Any], *more: Iterable[Any], ignore_exceptions: bool = False) -> None:
        """As `map`, for what the calls do rather than for what they return."""
        for _ in self.map(iterable, *more, order_outputs=False, return_exceptions=ignore_exceptions):
            pass

    def _map(self, rows: Iterable[tuple[Any, ...]], options: MapOptions) -> Iterator[R]:
        return Mapping(self._session(), self._callee, self._fitting(rows), options).results()

    def _fitting(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        for row in rows:
            self._fit(row, {})
            yield row

    def _fit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._check is None:
            return
        try:
            self._check(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._callee}() {error}") from None

    def _session(self) -> Session:
        if inside.is_worker:
            raise InvalidRequest(
                f"cannot call {self._callee} elsewhere from inside a worker: that is not supported yet; "
                "call it as a plain function, which runs it here"
            )
        return self._sessions.session(str(self._callee))


class Function(Remote[P, R]):
    """A function of an app."""

    def __init__(self, raw: Callable[P, R], callee: Callee, sessions: HasSession) -> None:
        super().__init__(callee, sessions, _lazy_check(raw))
        functools.update_wrapper(self, raw)
        self.raw = raw
        setattr(self, RAW, raw)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here."""
        return self.raw(*args, **kwargs)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here."""
        return self.raw(*args, **kwargs)

    @staticmethod
    def from_name(app: str, name: str, environment: str = "main") -> Remote[..., Any]:
        """A function that is deployed, by its name (`square`, or `Reader.read`), on the server found from here."""
        function, _, method = name.partition(".")
        return Remote(Callee(function=function, method=method), _Deployed(app, environment))

    def __reduce__(self) -> str:
        """By name: whoever gets it imports it."""
        return str(self.__qualname__)  # type: ignore[attr-defined]  # set by update_wrapper

    def __repr__(self) -> str:
        return f"<relight function {self._callee}>"


class AsyncFunction(Remote[P, R]):
    """An `async def` of an app: called here it gives its coroutine, `.remote` waits."""

    def __init__(self, raw: Callable[P, Coroutine[Any, Any, R]], callee: Callee, sessions: HasSession) -> None:
        super().__init__(callee, sessions, _lazy_check(raw))
        functools.update_wrapper(self, raw)
        self.raw = raw
        setattr(self, RAW, raw)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run it here."""
        return self.raw(*args, **kwargs)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run it here."""
        return self.raw(*args, **kwargs)

    def __reduce__(self) -> str:
        """By name: whoever gets it imports it."""
        return str(self.__qualname__)  # type: ignore[attr-defined]  # set by update_wrapper

    def __repr__(self) -> str:
        return f"<relight function {self._callee}>"


def _lazy_check(raw: Callable[..., Any]) -> Callable[..., object]:
    """Binds arguments to the signature, which is read when first needed: workers never need it."""
    bind: list[Callable[..., object]] = []

    def check(*args: Any, **kwargs: Any) -> object:
        if not bind:
            bind.append(inspect.signature(raw).bind)
        return bind[0](*args, **kwargs)

    return check


class _Deployed:
    """Sessions of something deployed, on the server found when first needed."""

    def __init__(self, app: str, environment: str) -> None:
        self._app = app
        self._environment = environment
        self._session: Session | None = None

    def session(self, what: str) -> Session:
        from relight.sdk.connection import connect

        if self._session is None:
            self._session = Session(connect(), self._app, self._environment)
        return self._session


def refuse_generator(name: str, raw: Callable[..., Any]) -> None:
    """Raises InvalidRequest when `raw` is a generator."""
    if inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw):
        raise InvalidRequest(
            f"cannot decorate {name}: it yields, and results that come in parts are not supported yet; return a list"
        )


def refuse_local(name: str, qualname: str) -> None:
    """Raises InvalidRequest when `qualname` is inside a function, where no worker finds it."""
    if "<" in qualname:
        raise InvalidRequest(
            f"cannot decorate {name}: it is inside {qualname.split('.<')[0]}, where workers cannot find it; "
            "move it to the top of its module"
        )


def not_running(what: str) -> NoReturn:
    """Raise the error of a call that has nowhere to go."""
    raise InvalidRequest(f"cannot call {what} elsewhere: its app is not running; open `with app.run():`, or deploy it")
