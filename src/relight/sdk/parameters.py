"""Parameters of classes: what sets objects of one class apart, and with them the workers that hold them.

    @app.cls()
    class Model:
        size: str = relight.parameter(default="7b")

    Model(size="13b").generate.remote("…")

The class gets a constructor that takes them by name.  Here it only remembers what was said; the worker makes its own
object with the same constructor.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar, overload

from relight.protocol.binding import TYPES, from_json, to_json
from relight.protocol.errors import InvalidRequest
from relight.protocol.inside import PARAMETERS
from relight.protocol.manifest import ClassParameter, Json

T = TypeVar("T")

_GIVEN = "__relight_given__"


class Parameter:
    """One parameter, on its class: an object that was given no value has the default.  Ellipsis stands for no default."""

    def __init__(self, default: object, *, init: bool) -> None:
        self.default = default
        self.init = init
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object | None, owner: type) -> object:
        if instance is None:
            return self
        if self.default is ...:
            raise AttributeError(
                f"{owner.__qualname__}.{self.name} has no value yet: set it in a method with @relight.enter()"
            )
        return self.default


@overload
def parameter(*, default: T, init: bool = True) -> T: ...
@overload
def parameter(*, init: bool = True) -> Any: ...
def parameter(*, default: object = ..., init: bool = True) -> Any:
    """A parameter of an `@app.cls`, a str, int, float, bool or bytes: `size: str = relight.parameter(default="7b")`.

    With `init=False` it is none: the constructor does not take it, and it may be of any type.
    """
    return Parameter(default, init=init)


def prepare(kind: type) -> tuple[ClassParameter, ...]:
    """Give a class the constructor of its parameters, which are returned.  Raises InvalidRequest when it cannot be."""
    found = {name: value for base in reversed(kind.__mro__) for name, value in vars(base).items()}
    mine = [(name, value) for name, value in found.items() if isinstance(value, Parameter) and value.init]
    own = next(vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base))
    if not mine:
        _refuse_arguments(kind)
        return ()
    if own not in (object.__init__, construct):
        raise InvalidRequest(
            f"cannot decorate {kind.__qualname__}: it has parameters and an __init__ of its own, and only one can make "
            "its objects; do what __init__ does in a method with @relight.enter()"
        )
    described = tuple(_describe(kind, name, value) for name, value in mine)
    setattr(kind, PARAMETERS, described)
    setattr(kind, "__init__", construct)  # noqa: B010 - mypy takes an assignment for an override
    setattr(kind, "__signature__", _signature(described))  # noqa: B010 - as above
    return described


def construct(self: object, /, *args: object, **values: object) -> None:
    """The constructor of a class with parameters.  Raises TypeError for a value that is missing, unknown or of another type."""
    kind = type(self)
    known: Mapping[str, ClassParameter] = {one.name: one for one in getattr(kind, PARAMETERS)}
    if args:
        first = next(iter(known))
        raise TypeError(
            f"cannot make a {kind.__qualname__}: {args[0]!r} has no name; give its parameters by name: {first}=…"
        )
    for name in values:
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, known))}"
            raise TypeError(f"cannot make a {kind.__qualname__}: it has no parameter {name!r}; {hint}")
    given = {name: _said(kind, known[name], value) for name, value in values.items()}
    for name, described in known.items():
        if described.required and name not in given:
            raise TypeError(
                f"cannot make a {kind.__qualname__}: its parameter {name!r} has no value and no default; "
                f"give it one: {kind.__qualname__}({name}=…)"
            )
        vars(self)[name] = from_json(described.type, given.get(name, described.default))
    vars(self)[_GIVEN] = tuple(sorted(given.items()))


def given_of(instance: object) -> tuple[tuple[str, Json], ...]:
    """What an object was made with, as JSON."""
    given: tuple[tuple[str, Json], ...] = getattr(instance, _GIVEN, ())
    return given


def _describe(kind: type, name: str, value: Parameter) -> ClassParameter:
    type_name = _type_name(kind, name)
    bare = ClassParameter(name=name, type=type_name)
    if value.default is ...:
        return bare
    try:
        default = to_json(type_name, value.default)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(
            f"cannot decorate {kind.__qualname__}: the default of its parameter {name!r} does not fit: {error}"
        ) from None
    return ClassParameter(name=name, type=type_name, required=False, default=default)


def _type_name(kind: type, name: str) -> str:
    """The name of a parameter's type.  Raises InvalidRequest when there is none, or not one of those there may be."""
    annotation = next(
        (hints[name] for base in kind.__mro__ if name in (hints := vars(base).get("__annotations__", {}))), None
    )
    if annotation is None:
        raise InvalidRequest(
            f"cannot decorate {kind.__qualname__}: its parameter {name!r} has no type; "
            f"write {name}: str = relight.parameter()"
        )
    if isinstance(annotation, str) and annotation.strip("\"'") not in TYPES:
        with suppress(NameError, TypeError, AttributeError):  # then it is said below as it was written
            annotation = typing.get_type_hints(kind).get(name, annotation)
    said = annotation.strip("\"'") if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    if said not in TYPES or (isinstance(annotation, type) and annotation is not TYPES[said]):
        raise InvalidRequest(
            f"cannot decorate {kind.__qualname__}: its parameter {name!r} is of type {said}, and only "
            f"{', '.join(TYPES)} can be; pass other things to a method, or make them in one with @relight.enter()"
        )
    return str(said)


def _said(kind: type, described: ClassParameter, value: object) -> Json:
    try:
        return to_json(described.type, value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(
            f"cannot make a {kind.__qualname__}: its parameter {described.name!r} is of type {described.type}: {error}; pass one"
        ) from None


def _signature(parameters: tuple[ClassParameter, ...]) -> inspect.Signature:
    """What an editor, and `help`, show of the constructor."""
    empty = inspect.Parameter.empty
    return inspect.Signature(
        [
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=empty if one.required else from_json(one.type, one.default),
                annotation=TYPES[one.type],
            )
            for one in parameters
        ]
    )


def _refuse_arguments(kind: type) -> None:
    if inspect.signature(kind).parameters:
        raise InvalidRequest(
            f"cannot decorate {kind.__qualname__}: its __init__ has parameters, which workers cannot give it; declare "
            "each in the class, as in `size: str = relight.parameter()`, and do the rest in a method with @relight.enter()"
        )
