"""An app: the functions and classes of a file, under one name, as plain data and as something that runs."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from relight.clock import now_ms
from relight.protocol.api import Deploy, Deployed
from relight.protocol.errors import Conflict, InvalidRequest
from relight.protocol.ids import new_id
from relight.protocol.inside import LoadingStopped, inside
from relight.protocol.manifest import CodeBundle, FunctionSpec, Manifest
from relight.sdk import bundle, classes, function, options
from relight.sdk.connection import Connection, connect
from relight.sdk.function import AsyncFunction, AsyncGeneratorFunction, Function, GeneratorFunction
from relight.sdk.image import Image
from relight.sdk.options import FunctionOptions, Place
from relight.sdk.run import running
from relight.sdk.session import Callee, Session, session_inside

if TYPE_CHECKING:
    from typing import Unpack

P = ParamSpec("P")
R = TypeVar("R")
Y = TypeVar("Y")
C = TypeVar("C", bound=type)

AnyFunction = (
    Function[..., Any] | AsyncFunction[..., Any] | GeneratorFunction[..., Any] | AsyncGeneratorFunction[..., Any]
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class App:
    """The functions and classes of one file.

    `name` is the file's own when not given.  `include` are patterns of further files to send along (`"data/*.json"`),
    relative to the app's folder; its Python files go along as they are.
    """

    def __init__(self, name: str | None = None, *, include: Sequence[str] = ()) -> None:
        where = sys._getframe(1).f_globals
        self._source = bundle.source_of(str(where.get("__name__", "")), where.get("__file__"))
        self.name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", self._source.file.stem).strip("-._")
        if not _NAME.fullmatch(self.name):
            raise InvalidRequest(f"cannot name an app {self.name!r}: use up to 64 letters, digits, '.', '_' and '-'")
        self._include = tuple(include)
        self._places: dict[str, tuple[Callable[[], Place], FunctionOptions]] = {}
        self._functions: dict[str, AnyFunction] = {}
        self._classes: dict[str, type] = {}
        self._entrypoints: dict[str, Callable[..., Any]] = {}
        self._session: Session | None = None

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
    def local_entrypoint(self, /) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    def local_entrypoint(self, raw: Callable[..., Any] | None = None, /) -> Any:
        """Make a function what `relight run FILE` calls here, its parameters becoming options."""

        def decorate(raw: Callable[..., Any]) -> Callable[..., Any]:
            self._entrypoints[raw.__name__] = raw
            return raw

        return decorate if raw is None else decorate(raw)

    def add_function(self, raw: Callable[..., Any], given: FunctionOptions) -> AnyFunction:
        """Make `raw` one of this app's functions.  Raises InvalidRequest when it cannot be."""
        if not inspect.isfunction(raw):
            raise InvalidRequest(
                f"cannot decorate {raw!r}: it is not a plain function; put @app.function() above `def`"
            )
        function.refuse_local(raw.__name__, raw.__qualname__)
        name = self._take_name(raw.__name__, given, (raw.__module__, raw.__qualname__))

        def place() -> Place:
            return Place(
                name=name,
                module=_module_of(raw),
                qualname=raw.__qualname__,
                is_class=False,
                methods=(options.method_of(raw),),
            )

        self._places[name] = (place, given)
        made: AnyFunction = function.kind_of(raw)(raw, Callee(function=name), self)
        self._functions[name] = made
        return made

    def _add_class(self, kind: C, given: FunctionOptions) -> C:
        if not inspect.isclass(kind):
            raise InvalidRequest(f"cannot decorate {kind!r}: it is not a class; use @app.function() for functions")
        function.refuse_local(kind.__name__, kind.__qualname__)
        name = self._take_name(kind.__name__, given, (kind.__module__, kind.__qualname__))
        methods = classes.methods_of(kind)

        def place() -> Place:
            return Place(name=name, module=_module_of(kind), qualname=kind.__qualname__, is_class=True, methods=methods)

        self._places[name] = (place, given)
        self._classes[name] = kind
        setattr(kind, classes.CLASS, classes.ClassRecord(name, self))
        return kind

    def _take_name(self, own: str, given: FunctionOptions, where: tuple[str, str]) -> str:
        options.check_options(own, given)
        name = given.get("name") or own
        if not _NAME.fullmatch(name) or "." in name:
            raise InvalidRequest(f"cannot name a function {name!r}: use up to 64 letters, digits, '_' and '-'")
        if name in self._places:
            there = self._places[name][0]()
            if (there.module, there.qualname) != (bundle_name(where[0]), where[1]):
                raise Conflict(
                    f"cannot decorate {where[1]}: {self.name} has {there.module}.{there.qualname} by the name {name!r}; "
                    "give one of them name="
                )
        return name

    # -- as data, and running

    def specs(self) -> tuple[FunctionSpec, ...]:
        """Its functions and classes as plain data."""
        image = Image.host()
        return tuple(options.spec_of(place(), given, image) for place, given in self._places.values())

    def manifest(self) -> Manifest:
        """The whole app as plain data: what a deploy says."""
        return self._pack()[0]

    def deploy(self, environment: str = "main") -> Deployed:
        """Make this the version that `environment` leads to, on the server found from here."""
        self._refuse_in_worker()
        connection = connect()
        deployed = connection.deploy(Deploy(manifest=self._send(connection), environment=environment))
        self._session = Session(connection, self.name, environment)
        return deployed

    @contextmanager
    def run(self) -> Iterator[App]:
        """Deploy it for as long as this block: `.remote` and its like work inside.

        Without a server it starts one of its own, which ends with the block.  Leaving it waits for calls that were
        spawned; an exception or Ctrl-C cancels them.
        """
        self._refuse_in_worker()
        if self._session is not None and self._session.environment.startswith("run-"):
            raise InvalidRequest(
                f"cannot run {self.name}: it is running already; leave the outer `with app.run()` first"
            )
        before = self._session
        connection = connect(embed=True)
        try:
            environment = new_id("run", now_ms())
            connection.deploy(Deploy(manifest=self._send(connection), environment=environment))
            self._session = Session(connection, self.name, environment)
            with running(self._session):
                yield self
        finally:
            self._session = before
            connection.close()

    def session(self, what: str) -> Session:
        """Where calls go now.  Raises InvalidRequest when the app neither runs nor was deployed here."""
        if self._session is None and inside.is_worker:
            self._session = session_inside(what)
        return self._session or function.not_running(what)

    def _send(self, connection: Connection) -> Manifest:
        manifest, code = self._pack()
        connection.upload(code)
        return manifest

    def _pack(self) -> tuple[Manifest, bytes]:
        if not self._places:
            raise InvalidRequest(f"cannot deploy {self.name}: it has no function; decorate one with @app.function()")
        from hashlib import sha256

        code = bundle.pack(bundle.collect(self._source, self._include))
        described = CodeBundle(digest=sha256(code).hexdigest(), size=len(code), folder=str(self._source.folder))
        return Manifest(app=self.name, code=described, functions=self.specs()), code

    def _refuse_in_worker(self) -> None:
        if inside.is_loading:
            raise LoadingStopped
        if inside.is_worker:
            raise InvalidRequest(f"cannot run or deploy {self.name} from inside a worker: do it from your own machine")

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


def _module_of(thing: Callable[..., Any] | type) -> str:
    return bundle_name(thing.__module__)


def bundle_name(module: str) -> str:
    """The name under which workers import a module of this process."""
    return bundle.module_name(module, getattr(sys.modules.get(module), "__file__", None))
