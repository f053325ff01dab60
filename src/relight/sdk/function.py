"""A decorated function: called here it runs here, `.remote` runs it there.

Everything is checked against its signature before anything is sent.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from collections.abc import Mapping as Keywords
from dataclasses import replace
from types import FunctionType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, Protocol, TypeVar

from relight.protocol.codec import from_plain
from relight.protocol.errors import InvalidRequest
from relight.protocol.inside import RAW, inside
from relight.sdk.bindings import with_more_options
from relight.sdk.connection import Connection
from relight.sdk.elsewhere import FindWords, pass_over
from relight.sdk.options import CallOptions, ScalingOptions, call_options, scaling_fields, split_session
from relight.sdk.requests import query, quoted
from relight.sdk.session import Callee, Session, session_inside
from relight.sdk.shells import asked
from relight.sdk.steps import Steps
from relight.sdk.verbs import ForEach, Iterate, Map, Run, Spawn, SpawnMap, Starmap

if TYPE_CHECKING:
    from typing import Self, Unpack

    from relight.protocol.manifest import Json
    from relight.protocol.scaleviews import ScalingView
    from relight.protocol.views import FunctionStats

P = ParamSpec("P")
R = TypeVar("R")
Y = TypeVar("Y")


class HasSession(Protocol):
    """Who knows where calls go."""

    def session(self, what: str) -> Session:
        """Where calls go now.  Raises InvalidRequest naming `what` when there is no such place."""


class Place:
    """Something that runs elsewhere.  `check` raises TypeError when arguments do not fit."""

    def __init__(self, callee: Callee, sessions: HasSession, check: Fit | None = None) -> None:
        self.callee = callee
        self._sessions = sessions
        self._check = check

    @property
    def connection(self) -> Connection:
        """The way to its server."""
        return self.session().connection

    @asked
    def stats(self) -> Steps[FunctionStats]:
        """How much of it waits and runs, and on how many workers."""
        from relight.protocol.views import FunctionStats  # 10 ms that who only calls need not pay

        session = self.session()
        said = yield from session.connection.server.stats(session.app, self.callee.function, session.environment)
        return from_plain(dict(said), FunctionStats)

    get_current_stats = stats

    @asked
    def update_scaling(self, **given: Unpack[ScalingOptions]) -> Steps[ScalingView]:
        """Change how many workers it has and how its calls wait, at once and without a deploy; what comes of it.

        It outlives the server, and a deploy that leaves what was changed as it was.
        """
        return self._scaling("POST", scaling_fields(str(self.callee), given))

    update_autoscaler = update_scaling

    @asked
    def reset_scaling(self) -> Steps[ScalingView]:
        """Take back all that `update_scaling` said: it is as it was deployed."""
        return self._scaling("POST", {"reset": True})

    @asked
    def scaling(self) -> Steps[ScalingView]:
        """How many workers it has and should have, and why."""
        return self._scaling("GET")

    def _scaling(self, method: str, body: Json = None) -> Steps[ScalingView]:
        from relight.protocol.scaleviews import ScalingView  # 10 ms that who only calls need not pay

        said = yield from self._ask(method, "scaling", body)
        return from_plain(said, ScalingView)

    @asked
    def report_metrics(self, /, **values: float) -> Steps[None]:
        """Say how much there is of what it is scaled by (`target_metrics`); inside a worker, of that worker's.

        It counts for a minute, or until it is said again.
        """
        yield from self._ask("POST", "metrics", dict(values))

    def _ask(self, method: str, what: str, body: Json = None) -> Steps[Json]:
        session = self.session()
        path = f"/v1/apps/{quoted(session.app)}/functions/{quoted(self.callee.function)}/{what}"
        return session.connection.server.json(method, path + query({"environment": session.environment}), body)

    def queued(self, *, key: str = "", priority: int = 0) -> Self:
        """The same for calls that wait in another way, on the same workers.

        Calls of one `key` begin in the order they came, as many at once as `key_concurrency`; of all that wait the
        highest `priority` (-100 to 100) begins first.
        """
        made: Self = _rebound(self, replace(self.callee, key=key, priority=priority))
        return made

    @asked
    def get_web_url(self) -> Steps[str | None]:
        """Where it answers web requests; None where it answers none."""
        session = self.session()
        said = yield from session.connection.server.urls(session.app, session.environment)
        url = said.get(str(self.callee))
        return url if isinstance(url, str) else None

    def with_options(self, **given: Unpack[CallOptions]) -> Self:
        """The same with other options for its calls, which get workers of their own (but for `session`); all else is shared."""
        options, session = split_session(str(self.callee), given)
        binding = with_more_options(self.callee.binding, call_options(str(self.callee), options))
        made: Self = _rebound(self, session.on(replace(self.callee, binding=binding)))
        return made

    def fit(self, args: tuple[Any, ...], kwargs: Keywords[str, Any]) -> None:
        """Raises TypeError when these are not arguments of it."""
        if self._check is None:
            return
        try:
            self._check(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"cannot call {self.callee}: {error}; {self._check.advice(kwargs)}") from None

    def session(self) -> Session:
        """Where calls go now.  Raises InvalidRequest when there is no such place."""
        return self._sessions.session(str(self.callee))


class Remote(Place, Generic[P, R]):
    """Something that returns, and can be called elsewhere."""

    @property
    def remote(self) -> Run[P, R]:
        """Run it elsewhere and wait: what it returns, or raises."""
        return Run(self)

    @property
    def spawn(self) -> Spawn[P, R]:
        """Run it elsewhere; returns at once with the call, which is kept by then."""
        return Spawn(self)

    @property
    def map(self) -> Map[R]:
        """Run it for each item of an input, on as many workers as there is room for."""
        return Map(self)

    @property
    def starmap(self) -> Starmap[R]:
        """As `map`, each item being the positional arguments of one call."""
        return Starmap(self)

    @property
    def for_each(self) -> ForEach:
        """As `map`, for what the calls do rather than for what they return."""
        return ForEach(self)

    @property
    def spawn_map(self) -> SpawnMap[R]:
        """Submit a call for each item and return at once with all of them."""
        return SpawnMap(self)


class RemoteGenerator(Place, Generic[P, Y]):
    """Something that yields, and can be iterated over from elsewhere."""

    @property
    def remote(self) -> Iterate[P, Y]:
        """Run it elsewhere: what it yields, as it yields it."""
        return Iterate(self)

    remote_gen = remote

    def __getattr__(self, name: str) -> NoReturn:
        if name in ("spawn", "map", "starmap", "for_each", "spawn_map"):
            raise InvalidRequest(
                f"cannot {name} {self.callee}: it yields; iterate over {self.callee}.remote(…), or return a list"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class Deployed(Remote[..., Any]):
    """A function that is deployed, known by its name only."""

    @property
    def remote_gen(self) -> Iterate[..., Any]:
        """Run a generator elsewhere: what it yields, as it yields it."""
        return Iterate(self)


class _Decorated:
    """What the function of an app has of its own."""

    callee: Callee
    _sessions: HasSession
    is_by_value = False
    """Whether no import finds it, so that it must be taken along."""

    def _decorate(self, raw: Callable[..., Any]) -> None:
        functools.update_wrapper(self, raw)  # type: ignore[arg-type]  # an object with a __dict__, as any wrapper is
        setattr(self, RAW, raw)

    def __reduce__(self) -> str | tuple[object, ...]:
        """By name: whoever gets it imports it.  What has no name goes with its function, and calls go to its app's."""
        if self.is_by_value:
            return _remade, (type(self), getattr(self, RAW), self.callee, self._sessions)
        if "original" in vars(self):
            return _rebound, (vars(self)["original"], self.callee)
        return str(self.__qualname__)  # type: ignore[attr-defined]  # set by update_wrapper

    def __repr__(self) -> str:
        return f"<relight function {self.callee}>"


class Function(_Decorated, Remote[P, R]):
    """A function of an app."""

    def __init__(self, raw: Callable[P, R], callee: Callee, sessions: HasSession) -> None:
        super().__init__(callee, sessions, Fit(raw))
        self._decorate(raw)
        self.raw = raw

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here."""
        return self.raw(*args, **kwargs)

    local = __call__

    @staticmethod
    def from_name(
        app: str, name: str, environment: str = "", *, environment_name: str | None = None, **others: Unpack[FindWords]
    ) -> Deployed:
        """A function that is deployed, by its name (`square`, or `Reader.read`), on the server found from here.

        The environment is `main`; in a worker, the worker's own.  `environment_name` is another word for it.
        """
        pass_over(f"cannot find function {name!r}", others, FindWords, "app, name and environment")
        function, _, method = name.partition(".")
        sessions = DeployedApp(app, environment or environment_name or "")
        return Deployed(Callee(function=function, method=method), sessions)


class AsyncFunction(_Decorated, Remote[P, R]):
    """An `async def` of an app: called here it gives its coroutine, `.remote` waits."""

    def __init__(self, raw: Callable[P, Coroutine[Any, Any, R]], callee: Callee, sessions: HasSession) -> None:
        super().__init__(callee, sessions, Fit(raw))
        self._decorate(raw)
        self.raw = raw

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run it here."""
        return self.raw(*args, **kwargs)

    local = __call__


class GeneratorFunction(_Decorated, RemoteGenerator[P, Y]):
    """A generator of an app: called here it yields here, `.remote` gives what it yields there."""

    def __init__(self, raw: Callable[P, Iterator[Y]], callee: Callee, sessions: HasSession) -> None:
        super().__init__(callee, sessions, Fit(raw))
        self._decorate(raw)
        self.raw = raw

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[Y]:
        """Run it here."""
        return self.raw(*args, **kwargs)

    local = __call__


class AsyncGeneratorFunction(_Decorated, RemoteGenerator[P, Y]):
    """An async generator of an app: called here it yields here, `.remote` gives what it yields there."""

    def __init__(self, raw: Callable[P, AsyncIterator[Y]], callee: Callee, sessions: HasSession) -> None:
        super().__init__(callee, sessions, Fit(raw))
        self._decorate(raw)
        self.raw = raw

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Y]:
        """Run it here."""
        return self.raw(*args, **kwargs)

    local = __call__


def _remade(kind: Callable[..., Any], raw: Callable[..., Any], callee: Callee, sessions: HasSession) -> object:
    made = kind(raw, callee, sessions)
    made.is_by_value = True
    return made


def _rebound(of: Any, callee: Callee) -> Any:
    made = object.__new__(type(of))
    vars(made).update(vars(of), callee=callee, original=vars(of).get("original", of))
    return made


def kind_of(raw: Callable[..., Any]) -> type[Any]:
    """What a function becomes when it is decorated."""
    if inspect.isasyncgenfunction(raw):
        return AsyncGeneratorFunction
    if inspect.isgeneratorfunction(raw):
        return GeneratorFunction
    return AsyncFunction if inspect.iscoroutinefunction(raw) else Function


class Fit:
    """Whether arguments fit a signature, which is read when first needed: workers never need it.

    Positional arguments in the right number fit without a look at what they are called.
    """

    __slots__ = ("_bind", "_is_bound", "_least", "_most", "_raw", "_signature")

    def __init__(self, raw: Callable[..., Any], *, is_bound: bool = False) -> None:
        self._raw = raw
        self._is_bound = is_bound
        self._bind: Callable[..., object] | None = None
        self._signature = inspect.Signature()
        self._least = self._most = 0

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        bind = self._bind or self._read()
        if kwargs or not self._least <= len(args) <= self._most:
            bind(*args, **kwargs)

    def advice(self, kwargs: Keywords[str, Any]) -> str:
        """What to do where arguments did not fit."""
        from difflib import get_close_matches

        known = self._signature.parameters
        for name in kwargs:
            near = [] if name in known else get_close_matches(name, known, 1)
            if near:
                return f"did you mean {near[0]!r}?"
        taken = str(self._signature.replace(return_annotation=inspect.Signature.empty))
        return "it takes no arguments" if taken == "()" else f"it takes {taken}"

    def _read(self) -> Callable[..., object]:
        read = inspect.signature(self._raw)
        parameters = list(read.parameters.values())[1 if self._is_bound else 0 :]
        positional = [
            one
            for one in parameters
            if one.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        ]
        self._least = sum(one.default is inspect.Parameter.empty for one in positional)
        self._most = len(positional)
        if any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters):
            self._most = sys.maxsize
        if any(
            one.kind is inspect.Parameter.KEYWORD_ONLY and one.default is inspect.Parameter.empty for one in parameters
        ):
            self._least = sys.maxsize  # they must be named, so there is something to bind each time
        self._signature = read.replace(parameters=parameters)
        self._bind = self._with_demands(self._signature.bind)
        return self._bind

    def _with_demands(self, bind: Callable[..., inspect.BoundArguments]) -> Callable[..., object]:
        """Looks at the arguments too, where an Input demands something of one."""
        if "relight.sdk.inputs" not in sys.modules:
            return bind  # nobody has made an Input
        from relight.sdk.inputs import constraint_check

        look = constraint_check(self._raw, self._raw.__qualname__)
        if look is None:
            return bind
        self._least = sys.maxsize
        return lambda *args, **kwargs: look(bind(*args, **kwargs))


class DeployedApp:
    """Sessions of something deployed, on the server found when first needed."""

    def __init__(self, app: str, environment: str = "") -> None:
        self._app = app
        self._environment = environment
        self._session: Session | None = None

    def session(self, what: str) -> Session:
        """Where its calls go.  Raises Unavailable when there is no server."""
        if self._session is None:
            self._session = self._inside(what) if inside.is_worker else self._outside()
        return self._session

    def _outside(self) -> Session:
        from relight.sdk.connection import connect

        return Session(connect(), self._app, self._environment or "main")

    def _inside(self, what: str) -> Session:
        session = session_inside(what)
        session.app = self._app
        session.environment = self._environment or session.environment
        return session


def refuse_local(name: str, qualname: str) -> None:
    """Raises InvalidRequest when `qualname` is inside a function, where no worker finds it."""
    if qualname.endswith("<lambda>"):
        raise InvalidRequest(
            "cannot decorate a lambda: workers find functions by name, and it has none; "
            "write it with `def`, or say serialized=True to send it along"
        )
    if "<" in qualname:
        raise InvalidRequest(
            f"cannot decorate {name}: it is inside {qualname.split('.<')[0]}, where workers cannot find it; "
            "move it to the top of its module, or say serialized=True to send it along"
        )


def refuse_method(raw: FunctionType) -> None:
    """Raises InvalidRequest for a function in a class that takes its object: no worker would have one."""
    code = raw.__code__
    if code.co_argcount and code.co_varnames[0] == "self" and "." in raw.__qualname__.rpartition("<locals>.")[2]:
        raise InvalidRequest(
            f"cannot decorate {raw.__qualname__}: it is a method; decorate it with @relight.method(), "
            "and its class with @app.cls()"
        )


def not_running(what: str) -> NoReturn:
    """Raise the error of a call that has nowhere to go."""
    raise InvalidRequest(f"cannot call {what} elsewhere: its app is not running; open `with app.run():`, or deploy it")
