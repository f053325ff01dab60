"""An app: the functions and classes of a file, under one name, as plain data and as something that runs."""

from __future__ import annotations

import atexit
import inspect
import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from relight.clock import now_ms
from relight.protocol.api import Deploy, Deployed
from relight.protocol.errors import Conflict, InvalidRequest, ValueNotPortable
from relight.protocol.ids import new_id
from relight.protocol.inside import LoadingStopped, inside
from relight.protocol.manifest import CodeBundle, FunctionSpec, Manifest
from relight.protocol.values import dump_function
from relight.protocol.versions import Strategy
from relight.sdk import bundle, classes, function, options
from relight.sdk.concurrency import concurrency_of
from relight.sdk.connection import Connection, connect
from relight.sdk.elsewhere import AppWords, DeployWords, RunWords, pass_over
from relight.sdk.function import AsyncFunction, AsyncGeneratorFunction, DeployedApp, Function, GeneratorFunction
from relight.sdk.image import Image
from relight.sdk.options import FunctionOptions, Place
from relight.sdk.parameters import parameter, prepare
from relight.sdk.session import Callee, Session, session_inside

if TYPE_CHECKING:
    from typing import Unpack, dataclass_transform

    from relight.protocol.views import LogRecord
else:  # what type checkers alone read, and Python 3.10 has not

    def dataclass_transform(**_: object) -> Callable[[T], T]:
        return lambda decorator: decorator


P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
Y = TypeVar("Y")
C = TypeVar("C", bound=type)

AnyFunction = (
    Function[..., Any] | AsyncFunction[..., Any] | GeneratorFunction[..., Any] | AsyncGeneratorFunction[..., Any]
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class App:
    """The functions and classes of one file, or of one notebook.

    `name` is the file's own when not given, `image` what its functions see when they name none.  `include` are patterns
    of further files to send along (`"data/*.json"`), relative to the app's folder; its Python files go along as they are.
    `tags` are those of all its functions, beside their own.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        include: Sequence[str] = (),
        image: Image | None = None,
        tags: Mapping[str, str] | None = None,
        **others: Unpack[AppWords],
    ) -> None:
        pass_over("cannot make an app", others, AppWords, "name, include, image and tags")
        options.check_tags("cannot make an app", tags)
        where = sys._getframe(1).f_globals
        self._source = bundle.source_of(str(where.get("__name__", "")), where.get("__file__"))
        self.name = _app_name(
            name or re.sub(r"[^A-Za-z0-9._-]+", "-", bundle.title_of(self._source, where)).strip("-._")
        )
        self._include = tuple(include)
        self.image = image or Image.host()
        self._tags = dict(tags or {})
        self._places: dict[str, tuple[Callable[[], Place], FunctionOptions]] = {}
        self._functions: dict[str, AnyFunction] = {}
        self._classes: dict[str, type] = {}
        self._entrypoints: dict[str, Callable[..., Any]] = {}
        self._session: Session | None = None
        self._by_value: dict[str, Callable[..., Any] | type] = {}
        self._is_stale = False
        self._sent: dict[str, str] = {}
        self._cell: int | None = None
        self._started: AbstractContextManager[App] | None = None

    # -- what it has

    @property
    def functions(self) -> Mapping[str, AnyFunction]:
        """Its functions, by name."""
        return MappingProxyType(self._functions)

    @property
    def classes(self) -> Mapping[str, type]:
        """Its classes, by name."""
        return MappingProxyType(self._classes)

    @property
    def entrypoints(self) -> Mapping[str, Callable[..., Any]]:
        """Its local entrypoints, by name."""
        return MappingProxyType(self._entrypoints)

    # -- decorators

    @overload
    def function(self, raw: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncFunction[P, R]: ...  # type: ignore[overload-overlap]  # a coroutine function is a function too; the first that fits is meant
    @overload
    def function(self, raw: Callable[P, AsyncIterator[Y]], /) -> AsyncGeneratorFunction[P, Y]: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def function(self, raw: Callable[P, Iterator[Y]], /) -> GeneratorFunction[P, Y]: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def function(self, raw: Callable[P, R], /) -> Function[P, R]: ...
    @overload
    def function(self, /, **given: Unpack[FunctionOptions]) -> _FunctionDecorator: ...
    def function(self, raw: Callable[..., Any] | None = None, /, **given: Unpack[FunctionOptions]) -> Any:
        """Make a function one of this app's.  The options are those of `FunctionOptions`."""
        decorator = _FunctionDecorator(self, given)
        return decorator if raw is None else decorator(raw)

    @dataclass_transform(kw_only_default=True, field_specifiers=(parameter,))
    @overload
    def cls(self, kind: C, /) -> C: ...
    @overload
    def cls(self, /, **given: Unpack[FunctionOptions]) -> Callable[[C], C]: ...
    def cls(self, kind: Any = None, /, **given: Unpack[FunctionOptions]) -> Any:
        """Make a class one of this app's: each worker makes one object of it.  The options are those of a function."""
        if kind is None:
            return lambda kind: self._add_class(kind, given)
        return self._add_class(kind, given)

    @overload
    def local_entrypoint(self, raw: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def local_entrypoint(self, /, *, name: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    def local_entrypoint(self, raw: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
        """Make a function what `relight run FILE` calls here, its parameters becoming options.

        `name` is what it is called as in `relight run FILE::NAME`, its own when not given.
        """

        def decorate(raw: Callable[..., Any]) -> Callable[..., Any]:
            self._entrypoints[name or raw.__name__] = raw
            return raw

        return decorate if raw is None else decorate(raw)

    def add_function(self, raw: Callable[..., Any], given: FunctionOptions) -> AnyFunction:
        """Make `raw` one of this app's functions.  Raises InvalidRequest when it cannot be."""
        if not inspect.isfunction(raw):
            raise InvalidRequest(
                f"cannot decorate {_named(raw)}: it is not a plain function; put @app.function() above `def`, "
                "and @app.cls() above `class`"
            )
        function.refuse_method(raw)
        name = self._take_name(raw, given)

        def place() -> Place:
            return Place(
                name=name,
                module=_module_of(raw),
                qualname=raw.__qualname__,
                is_class=False,
                methods=(options.method_of(raw),),
                serialized=self._file_of(name),
                concurrency=concurrency_of(raw),
            )

        self._places[name] = (place, given)
        made: AnyFunction = function.kind_of(raw)(raw, Callee(function=name), self)
        made.is_by_value = name in self._by_value
        self._functions[name] = made
        return made

    def _add_class(self, kind: C, given: FunctionOptions) -> C:
        if not inspect.isclass(kind):
            raise InvalidRequest(
                f"cannot decorate {_named(kind)}: it is not a class; use @app.function() for functions"
            )
        classes.methods_of(kind)
        parameters = prepare(kind)
        name = self._take_name(kind, given)

        def place() -> Place:
            return Place(
                name=name,
                module=_module_of(kind),
                qualname=kind.__qualname__,
                is_class=True,
                methods=classes.methods_of(kind),  # once more: by now every name that it mentions is there
                parameters=parameters,
                serialized=self._file_of(name),
                has_snap=classes.has_snap(kind),
                concurrency=concurrency_of(kind),
            )

        self._places[name] = (place, given)
        self._classes[name] = kind
        classes.register(kind, classes.ClassRecord(name, self))
        return kind

    def _take_name(self, thing: Callable[..., Any] | type, given: FunctionOptions) -> str:
        options.check_options(thing.__name__, given)
        is_by_value = given.get("serialized", False) or not _module_of(thing)
        if not is_by_value:
            function.refuse_local(thing.__name__, thing.__qualname__)
        name = given.get("name") or thing.__name__
        if not _NAME.fullmatch(name) or "." in name:
            raise InvalidRequest(
                f"cannot name a function {name!r}: it is part of URLs; use up to 64 letters, digits, '_' and '-'"
            )
        if name in self._places and _module_of(thing):  # a cell that runs again says anew what it says
            there = self._places[name][0]()
            if (there.module, there.qualname) != (_module_of(thing), thing.__qualname__):
                raise Conflict(
                    f"cannot decorate {thing.__qualname__}: {self.name} has {there.module}.{there.qualname} by the name "
                    f"{name!r}; give one of them name="
                )
        self._by_value.pop(name, None)
        if is_by_value:
            self._by_value[name] = thing
        self._is_stale = True
        return name

    def _file_of(self, name: str) -> str:
        """Where in the bundle something lies that goes by value, "" for what workers import."""
        return f"{bundle.BY_VALUE}/{name}.pickle" if name in self._by_value else ""

    # -- as data, and running

    def specs(self) -> tuple[FunctionSpec, ...]:
        """Its functions and classes as plain data."""
        return tuple(self._spec(place(), given) for place, given in self._places.values())

    def _spec(self, place: Place, given: FunctionOptions) -> FunctionSpec:
        spec = options.spec_of(place, given, (given.get("image") or self.image).spec)
        return replace(spec, tags=tuple(sorted({**self._tags, **dict(spec.tags)}.items()))) if self._tags else spec

    def manifest(self) -> Manifest:
        """The whole app as plain data: what a deploy says."""
        return self._pack()[0]

    def deploy(
        self,
        environment: str = "",
        *,
        environment_name: str | None = None,
        canary: float = 100.0,
        strategy: str = "rolling",
        share: float = 100.0,
        tags: Mapping[str, str] | None = None,
        commit: str = "",
        wait: bool = True,
        **others: Unpack[DeployWords],
    ) -> Deployed:
        """Make this the version that `environment` leads to, `main` when not given, on the server found from here.

        Its modules are loaded first; DeployFailed says that they cannot be, and what was deployed before serves on.  Without
        `wait` calls lead to it at once, loaded or not.
        `canary` is how many percent of the calls lead to it, the rest to the version before.  `strategy` says what becomes of
        that one: with `recreate` its workers are gone before any of this starts, and calls wait; with `shadow` calls stay with
        it, and this gets copies of `share` percent of them, whose answers are thrown away.  `tags` and `commit` are shown by
        `relight versions`; costs are told by tags, too.  `environment_name` is another word for `environment`; `name` names the
        app anew.
        """
        pass_over(f"cannot deploy {self.name}", others, DeployWords, "environment, environment_name and name")
        self._refuse_in_worker()
        self.name = _app_name(others.get("name") or self.name)
        kind = _strategy(self.name, strategy, canary)
        environment = environment or environment_name or "main"
        connection = connect()
        message = Deploy(
            manifest=self._send(connection),
            environment=environment,
            id=new_id("version", now_ms()),
            is_tried=wait,
            canary_percent=share if kind is Strategy.SHADOW else canary,
            strategy=kind,
            tags=tuple((tags or {}).items()),
            commit=commit,
        )
        deployed = connection.deploy(message)
        self._session = Session(connection, self.name, environment)
        return deployed

    @contextmanager
    def run(self, **others: Unpack[RunWords]) -> Iterator[App]:
        """Deploy it for as long as this block: `.remote` and its like work inside.

        Without a server it starts one of its own, which ends with the block.  Leaving it waits for calls that were
        spawned; an exception or Ctrl-C cancels them.  `name` names the app anew.
        """
        pass_over(f"cannot run {self.name}", others, RunWords, "name")
        self._refuse_in_worker()
        self.name = _app_name(others.get("name") or self.name)
        if self._session is not None and self._session.environment.startswith("run-"):
            raise InvalidRequest(
                f"cannot run {self.name}: it is running already; leave the outer `with app.run()` first"
            )
        from relight.sdk import local  # who only calls, and a worker, need not pay for it

        if local.is_chosen():
            with self.local():
                yield self
            return
        connection = connect(embed=True)
        try:
            with self.run_on(connection):
                yield self
        finally:
            connection.close()

    @contextmanager
    def run_on(self, connection: Connection, show: Callable[[LogRecord], None] | None = None) -> Iterator[App]:
        """`run` on this server.  `show` is given what workers write, instead of it being written here."""
        self._refuse_in_worker()
        environment = new_id("run", now_ms())
        self.deploy_at_once(connection, environment)
        from relight.sdk.run import running  # who only calls, and a worker, need not pay for it

        session = Session(connection, self.name, environment)
        with self.using(session), running(session, show):
            yield self

    @contextmanager
    def local(self) -> Iterator[App]:
        """The time in which its calls run in this very process, without a server: a `breakpoint()` in a function stops
        here, and what it raises is raised as it is.

        Arguments and results go through the same bytes as on their way to a worker.  There is no sandbox, and no limit,
        time-out or retry.
        """
        self._refuse_in_worker()
        from relight.sdk.local import running_here  # who only calls, and a worker, need not pay for it

        with running_here(self):
            yield self

    @contextmanager
    def using(self, session: Session) -> Iterator[None]:
        """The time in which its calls go where this session leads."""
        before, self._session = self._session, session
        try:
            yield
        finally:
            self._session = before

    def start(self) -> App:
        """Run it until `stop`, or until Python ends: `run` for notebooks, whose cells no `with` block can span."""
        if self._started is None:
            started = self.run()
            started.__enter__()
            self._started = started
            atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """End what `start` began, as leaving a `with app.run()` block does; nothing when it does not run."""
        started, self._started = self._started, None
        if started is not None:
            atexit.unregister(self.stop)
            started.__exit__(None, None, None)

    def session(self, what: str) -> Session:
        """Where calls go now.  Raises InvalidRequest when the app neither runs nor was deployed here.

        What was decorated since the run began is sent before the next call, and so is in a notebook, once for each cell
        that runs, whatever it has changed of what functions take along.
        """
        if self._session is None and inside.is_worker:
            self._session = session_inside(what)
        session = self._session or function.not_running(what)
        if session.environment.startswith("run-") and not inside.is_worker and self._has_news():
            self.deploy_at_once(session.connection, session.environment)
        return session

    def deploy_at_once(self, connection: Connection, environment: str) -> Deployed:
        """Make it what an environment, or a run, leads to on this server, whether it loads there or not."""
        return connection.deploy(Deploy(manifest=self._send(connection), environment=environment))

    def _has_news(self) -> bool:
        cell = _cell() if self._by_value else None
        if self._is_stale or cell == self._cell:
            return self._is_stale
        self._cell = cell
        return self._sent != self._digests()

    def _digests(self) -> dict[str, str]:
        """What goes by value, as it is now."""
        from hashlib import sha256

        return {name: sha256(self._dump(name)).hexdigest() for name in self._by_value}

    def _send(self, connection: Connection) -> Manifest:
        self._is_stale, self._cell = False, _cell()
        self._sent = self._digests()
        manifest, code = self._pack()
        connection.upload(code)
        return manifest

    def _pack(self) -> tuple[Manifest, bytes]:
        if not self._places:
            raise InvalidRequest(f"cannot deploy {self.name}: it has no function; decorate one with @app.function()")
        from hashlib import sha256

        files = bundle.collect(self._source, self._include)
        code = bundle.pack({**files, **{self._file_of(name): self._dump(name) for name in sorted(self._by_value)}})
        described = CodeBundle(digest=sha256(code).hexdigest(), size=len(code), folder=str(self._source.folder))
        return Manifest(app=self.name, code=described, functions=self.specs()), code

    def _dump(self, name: str) -> bytes:
        try:
            data = dump_function(self._by_value[name])
        except ValueNotPortable as error:
            raise ValueNotPortable(
                f"cannot send {name} by value: {error}; make what it uses inside it, or pass it as an argument"
            ) from error.__cause__
        bundle.check_by_value(name, data)
        return data

    def __reduce__(self) -> tuple[object, ...]:
        """By its name: whoever gets it can call its functions, where it runs."""
        return DeployedApp, (self.name,)

    def _refuse_in_worker(self) -> None:
        if inside.is_loading:
            raise LoadingStopped
        if inside.is_worker:
            raise InvalidRequest(f"cannot run or deploy {self.name}: this is a worker; do it from your own machine")

    def __repr__(self) -> str:
        return f"<relight app {self.name}: {', '.join(self._places) or 'empty'}>"


class _FunctionDecorator:
    """`@app.function(…)` with its options, waiting for the function."""

    def __init__(self, app: App, given: FunctionOptions) -> None:
        self._app = app
        self._given = given

    @overload
    def __call__(self, raw: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncFunction[P, R]: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def __call__(self, raw: Callable[P, AsyncIterator[Y]], /) -> AsyncGeneratorFunction[P, Y]: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def __call__(self, raw: Callable[P, Iterator[Y]], /) -> GeneratorFunction[P, Y]: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def __call__(self, raw: Callable[P, R], /) -> Function[P, R]: ...
    def __call__(self, raw: Callable[..., Any], /) -> Any:
        """Make it one of the app's."""
        return self._app.add_function(raw, self._given)


def _app_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"cannot name an app {name!r}: it is part of URLs; use up to 64 letters, digits, '.', '_' and '-'"
        )
    return name


def _strategy(name: str, strategy: str, canary: float) -> Strategy:
    try:
        kind = Strategy(strategy)
    except ValueError:
        known = ", ".join(one.value for one in Strategy)
        raise InvalidRequest(f"cannot deploy {name}: there is no strategy {strategy!r}; use one of {known}") from None
    if kind is not Strategy.ROLLING and canary < 100:
        raise InvalidRequest(
            f"cannot deploy {name}: {canary:g} % of the calls cannot lead to a canary with the strategy {strategy}; "
            "leave one of them out (a shadow gets copies of share= percent)"
        )
    return kind


def _named(thing: object) -> str:
    return str(getattr(thing, "__qualname__", None) or repr(thing))


def _module_of(thing: Callable[..., Any] | type) -> str:
    return bundle_name(thing.__module__ or "")


def bundle_name(module: str) -> str:
    """The name under which workers import a module of this process; "" when they cannot."""
    return bundle.module_name(module, getattr(sys.modules.get(module), "__file__", None))


def _cell() -> int | None:
    """The number of the cell that runs, None outside of notebooks and IPython."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    number = getattr(shell, "execution_count", None)
    return number if isinstance(number, int) else None


@contextmanager
def enable_output() -> Iterator[None]:
    """Nothing: what workers write is shown by every run.  It is here for those who write it."""
    yield
