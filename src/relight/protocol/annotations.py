"""What a function's annotations mean, read without ever failing: a name that is not there means anything.

The SDK makes schemas of them, the runtime converts JSON by them; both must read them in the same way.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Union, get_args, get_origin

from relight.protocol.inside import BATCHED

ANYTHING: object = typing.Any
"""What an annotation means that says nothing, or that cannot be read here."""

FROM_JSON = "__relight_from_json__"
"""A type's class method that makes a value of what JSON says; it raises ValueError."""

TO_JSON = "__relight_to_json__"
"""A value's method that gives what JSON shall say of it."""

SCHEMA = "__relight_schema__"
"""A type's class method, or a remark's method, that gives the JSON Schema it stands for."""

REMARK = "__relight_remark__"
"""The method of a remark in `Annotated[…]` that gives the JSON Schema of what it demands."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """An annotation without its `Annotated`: the type, and the remarks on it."""

    kind: object
    remarks: tuple[object, ...] = ()


def hints_of(function: Callable[..., object]) -> dict[str, object]:
    """What each annotated parameter, and "return", is annotated with, as far as it can be read.

    Of a batched function it is what one call has to do with: `int` where it says `list[int]`.
    """
    raw = inspect.unwrap(function)
    raw = getattr(raw, "__func__", raw)
    try:
        hints: dict[str, object] = typing.get_type_hints(raw, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation is the user's code: to read it may raise anything
        hints = _one_by_one(raw)
    return {name: _of_one(hint) for name, hint in hints.items()} if hasattr(raw, BATCHED) else hints


def _of_one(hint: object) -> object:
    """What one call gives, or gets, of what a batched function takes and returns lists of."""
    kind = meaning_of(hint).kind
    of = get_args(kind)
    return of[0] if of and get_origin(kind) in _LISTS else ANYTHING


def meaning_of(annotation: object) -> Meaning:
    """The annotation without `Annotated`, `NewType`, `Required` and their like."""
    remarks: tuple[object, ...] = ()
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *more = get_args(annotation)
            remarks = (*remarks, *more)
        elif origin is not None and getattr(origin, "__name__", getattr(origin, "_name", "")) in _WRAPPERS:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = _value_of(annotation)
        elif isinstance(annotation, typing.TypeVar):
            annotation = annotation.__bound__ or ANYTHING
        elif isinstance(annotation, (str, typing.ForwardRef)) or annotation is inspect.Parameter.empty:
            return Meaning(ANYTHING, remarks)
        else:
            return Meaning(type(None) if annotation is None else annotation, remarks)


def is_union(kind: object) -> bool:
    """Whether it is `X | Y` or `Union[X, Y]`."""
    return get_origin(kind) in (Union, types.UnionType)


def fields_of(kind: type) -> dict[str, object]:
    """The annotations of a dataclass, a TypedDict or a NamedTuple, as far as they can be read."""
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001 - as above
        found: dict[str, object] = {}
        for base in reversed(kind.__mro__):
            found.update(dict.fromkeys(vars(base).get("__annotations__", {}), ANYTHING))
        return found


def is_typed_dict(kind: object) -> bool:
    """Whether it is a TypedDict, of `typing` or of `typing_extensions`."""
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


def is_named_tuple(kind: object) -> bool:
    """Whether it is a NamedTuple."""
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


_LISTS = (list, Sequence, Iterable)
_WRAPPERS = ("Required", "NotRequired", "ReadOnly", "Final", "ClassVar", "Unpack")


def _one_by_one(raw: Callable[..., object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, annotation in getattr(raw, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found |= typing.get_type_hints(alone, getattr(raw, "__globals__", {}), include_extras=True)
        except Exception:  # noqa: BLE001 - as above
            found[name] = ANYTHING
    return found


def _value_of(alias: object) -> object:
    try:
        value: object = getattr(alias, "__value__", ANYTHING)
    except Exception:  # noqa: BLE001 - `type X = …` is read when asked for, and may raise anything
        return ANYTHING
    return value
