"""From names to something that can be called: imports the user's module, makes the object, runs its `@enter` methods.

A module that says `with app.run():` without a guard stops there (`LoadingStopped`): what stands above that line is all
a worker needs, so the half-executed module is kept.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

from relight.protocol.channel import Load
from relight.protocol.errors import Failure, NotFound
from relight.protocol.inside import ENTER, ENTER_SNAP, EXIT, HOOK, LOADED, PARAMETERS, RAW, WEB, LoadingStopped, inside
from relight.protocol.values import load_function
from relight.runtime.tracebacks import describe, summarize

if TYPE_CHECKING:
    from relight.runtime.inputs import Inputs
    from relight.runtime.web.handlers import Web

RunAwaitable = Callable[[Any], Any]

_NOBODY = object()

MOST_PACKAGES = 400
"""So many names are told: a base that has imported these has imported most of the others, too."""

_INSTALLED = re.compile(r"/(site|dist)-packages/")


class Loaded:
    """The user's function, or the one object of the user's class."""

    def __init__(self, target: Any, run_awaitable: RunAwaitable) -> None:
        self.target = target
        self._instance: object | None = None
        self._run_awaitable = run_awaitable
        self.import_seconds = 0.0
        self.snap_seconds = 0.0
        self.enter_seconds = 0.0
        self._web: dict[str, Web] = {}
        self.inputs: Inputs | None = None
        """What calls in JSON need, where a template has prepared it."""

    def make(self, parameters: dict[str, Any]) -> None:
        """Make the class's object, and run what is to be done before workers are forked."""
        self._instance = self.target(**parameters)
        self.snap()

    def find(self, method: str) -> Callable[..., Any]:
        """What a call of `method` ("" for a plain function) calls.  Raises NotFound when there is none."""
        if self._instance is None:
            if method:
                raise NotFound(
                    f"cannot call {method!r}: {self.target.__qualname__} is a function; leave the method out"
                )
            function: Callable[..., Any] = self.target
            return function
        marked = _lookup(type(self._instance), method)
        raw: Any = getattr(marked, RAW, marked if hasattr(marked, WEB) else None)
        if raw is None:
            name = type(self._instance).__qualname__
            raise NotFound(f"cannot call {name}.{method}: it has no such @relight.method(); deploy it again")
        bound: Callable[..., Any] = raw.__get__(self._instance)
        return bound

    def web(self, method: str) -> Web:
        """What answers web requests by a function, or by a method: the same for as long as the worker lives."""
        from relight.runtime.web.handlers import Web  # who serves no web need not pay for it

        if method not in self._web:
            self._web[method] = Web(self.find(method))
        return self._web[method]

    def functions(self) -> Iterator[Callable[..., Any]]:
        """All that calls may call, methods bound to an object that is none: to be looked at alone."""
        if not isinstance(self.target, type):
            yield self.target
            return
        for name in {name: None for base in self.target.__mro__ for name in vars(base)}:
            raw = getattr(_lookup(self.target, name), "__dict__", {}).get(RAW)
            if raw is not None:
                yield raw.__get__(_NOBODY)

    @property
    def has_instance(self) -> bool:
        """Whether the object is made: that of a class with `@enter(snap=True)` is, before any worker is forked."""
        return self._instance is not None

    def snap(self) -> None:
        """Run the `@enter(snap=True)` methods, base classes' first."""
        self._run_hooks(ENTER_SNAP, self._run_awaitable)

    def enter(self, run_awaitable: RunAwaitable) -> None:
        """Run the other `@enter` methods, base classes' first; what they leave to await at the end is awaited so, too."""
        self._run_awaitable = run_awaitable
        began = time.perf_counter()
        self._run_hooks(ENTER, run_awaitable)
        self.enter_seconds = time.perf_counter() - began

    def exit(self) -> None:
        """Let apps shut down; then run the `@exit` methods, base classes' first."""
        for web in self._web.values():
            self._run_awaitable(web.stop())
        self._run_hooks(EXIT, self._run_awaitable)

    def _run_hooks(self, hook: str, run_awaitable: RunAwaitable) -> None:
        for function in _hooks(type(self._instance), hook) if self._instance is not None else ():
            run_awaitable(function.__get__(self._instance)())


def load(order: Load, run_awaitable: RunAwaitable) -> Loaded:
    """Load what `order` names, and enter it.  Whatever the user's code raises comes out as it is."""
    loaded = _import_target(order, run_awaitable)
    _make_instance(loaded, order)
    loaded.enter(run_awaitable)
    return loaded


def preload(order: Load, run_awaitable: RunAwaitable) -> Loaded:
    """What of `load` can be done once for many workers: the imports, and where a class says `snap=True` its object."""
    loaded = _import_target(order, run_awaitable)
    if order.is_class and _hooks(loaded.target, ENTER_SNAP):
        _make_instance(loaded, order)
    if order.web:
        from relight.runtime.web.handlers import prepare  # and with it asyncio, so that no fork has to

        prepare(order.web)
        if order.web in ("asgi", "wsgi") and not order.is_class:
            from relight.runtime.web.rehearsal import play

            play(loaded.web("").make_app())
    return loaded


def _make_instance(loaded: Loaded, order: Load) -> None:
    if order.is_class:
        began = time.perf_counter()
        loaded.make(_parameters(loaded.target, order))
        loaded.snap_seconds = time.perf_counter() - began


def _import_target(order: Load, run_awaitable: RunAwaitable) -> Loaded:
    began = time.perf_counter()
    sys.path[0:0] = [path for path in order.paths if path not in sys.path]
    inside.is_loading = True
    try:
        target = _target(order)
    finally:
        inside.is_loading = False
    loaded = Loaded(target, run_awaitable)
    loaded.import_seconds = time.perf_counter() - began
    return loaded


def packages() -> Iterator[str]:
    """The image's packages that are imported, and what is right below them, in the order in which they were."""
    found = 0
    for name, module in tuple(sys.modules.items()):
        file = getattr(module, "__file__", None)
        is_public = name.count(".") < 2 and "._" not in f".{name}"
        if is_public and isinstance(file, str) and _INSTALLED.search(file):
            found += 1
            if found > MOST_PACKAGES:
                return
            yield name


def load_failure(order: Load, error: BaseException) -> Failure:
    """Why it could not be loaded, for the user to read."""
    return Failure(
        code="start_failed",
        message=f"cannot load {f'{order.module}.' * bool(order.module)}{order.qualname}: {summarize(error)}; {_advice(error)}",
        type_name=type(error).__qualname__,
        traceback=describe(error),
    )


def _advice(error: BaseException) -> str:
    if isinstance(error, AttributeError) and isinstance(error.__cause__, AttributeError):
        return "move it there"  # of _find
    if isinstance(error, ModuleNotFoundError):
        return f"install {error.name} for {sys.executable}, or import it where it is not needed here"
    return "correct what its traceback shows"


def _target(order: Load) -> Any:
    """What stands in the user's module by that name; or what came by value, for which that module is imported too."""
    module = _import(order.module, order.paths) if order.module else None
    if order.serialized or module is None:
        found = load_function(_read(order), {"__main__": order.module} if order.module else {})
    else:
        found = _find(module, order.qualname)
    return getattr(found, RAW, found)


def _read(order: Load) -> bytes:
    paths = [os.path.join(path, order.serialized) for path in order.paths]
    path = next((path for path in paths if os.path.isfile(path)), None)
    if path is None:
        raise FileNotFoundError(f"{order.serialized or 'its file'} is not in the app's code; deploy it again")
    with open(path, "rb") as file:
        return file.read()


def _parameters(target: Any, order: Load) -> dict[str, Any]:
    """The values of the class's parameters that are not its defaults."""
    if not order.parameters:
        return {}
    from relight.protocol.binding import values_of  # a millisecond that few workers need

    return dict(values_of(getattr(target, PARAMETERS, ()), order.parameters))


def _import(name: str, paths: tuple[str, ...]) -> ModuleType:
    if getattr(sys.modules.get(name), LOADED, False):
        return sys.modules[name]  # by the template that this process was forked from
    package, _, last = name.rpartition(".")
    parent = importlib.import_module(package) if package else None
    if parent is not None and name in sys.modules:
        return sys.modules[name]  # the package imports it itself
    spec = importlib.machinery.PathFinder.find_spec(name, list(parent.__path__ if parent is not None else paths))
    if spec is None:
        spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # By hand, since the import statement throws away a module that raised.
        with suppress(LoadingStopped):
            spec.loader.exec_module(module)
        setattr(module, LOADED, True)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    if parent is not None:
        setattr(parent, last, module)
    return module


def _find(module: ModuleType, qualname: str) -> Any:
    found: Any = module
    try:
        for name in qualname.split("."):
            found = getattr(found, name)
    except AttributeError as error:
        raise AttributeError(
            f"{module.__name__} has no {qualname!r}: it must stand at the module's top, above `with app.run()`"
        ) from error
    return found


def _lookup(kind: type, name: str) -> object:
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def _hooks(kind: type, hook: str) -> list[Any]:
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        for name, value in vars(base).items():
            if getattr(value, HOOK, None) == hook:
                found[name] = value
            elif name in found:
                del found[name]  # a subclass has put something else there
    return list(found.values())
