"""From what JSON says to what a function's annotations ask for: an object becomes the dataclass, a text the date.

A converter is made once for an annotation; it raises InvalidInput, which names the part by a JSON pointer.  What needs no
converting has no converter (None), so that a long list of numbers costs nothing.

The types of the standard library that are known here go by their names: whoever asks for one has imported its module, and
nobody else pays for that.
"""

from __future__ import annotations

import base64
import collections
import collections.abc
import dataclasses
import enum
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, get_origin

from relight.protocol.annotations import (
    FROM_JSON,
    REMARK,
    fields_of,
    is_named_tuple,
    is_typed_dict,
    is_union,
    meaning_of,
)
from relight.protocol.errors import InputFault, InvalidInput
from relight.protocol.schema import day, moment, refuse, time_of_day, unique_id

if TYPE_CHECKING:
    import datetime
    import decimal

Converter = Callable[[Any, str], Any]
"""Takes what JSON says and where it stands."""

SEQUENCES: Mapping[object, type] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
}
"""What is an array in JSON, and what is made of one."""

MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping, collections.OrderedDict)
"""What is an object in JSON with keys of the caller's choice."""


class Files(Protocol):
    """Where the bytes that a call brings are written."""

    def path(self, url: str, name: str) -> object:
        """The path of a file that holds what the URL says; any other text as the path that it is.  Raises ValueError."""


class Converters:
    """Makes converters."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._of_kinds: dict[object, Converter] = {}

    def of(self, annotation: object) -> Converter | None:
        """What turns JSON into what `annotation` asks for; None when nothing need be done."""
        meaning = meaning_of(annotation)
        inner = self._of_kind(meaning.kind)
        tests = [getattr(remark, REMARK) for remark in meaning.remarks if hasattr(remark, REMARK)]
        return _tested(tests, inner) if tests else inner

    def _of_kind(self, kind: Any) -> Converter | None:
        if isinstance(kind, type) and (scalar := _scalar(kind)) is not None:
            return _guarded(scalar)
        origin = get_origin(kind) or kind
        if is_union(kind):
            return self._union(get_args(kind))
        if origin is Literal:
            return _guarded(lambda value: _chosen(value, get_args(kind)))
        if origin in SEQUENCES:
            return self._sequence(SEQUENCES[origin], get_args(kind))
        if origin in MAPPINGS:
            return self._mapping(get_args(kind))
        return self._named(kind) if isinstance(kind, type) else None

    def _named(self, kind: type) -> Converter | None:
        """What a class asks for; made once, and found again where the class holds itself."""
        if hasattr(kind, FROM_JSON):
            return _guarded(getattr(kind, FROM_JSON))
        if is_path(kind):
            return self._path
        if issubclass(kind, enum.Enum):
            return _guarded(lambda value: _member(kind, value))
        if is_model(kind):
            return lambda value, at: _validated(kind, value, at)
        if not (dataclasses.is_dataclass(kind) or is_typed_dict(kind) or is_named_tuple(kind)):
            return None
        if kind not in self._of_kinds:
            self._of_kinds[kind] = lambda value, at: self._of_kinds[kind](value, at)
            self._of_kinds[kind] = self._fields(kind)
        return self._of_kinds[kind]

    def _fields(self, kind: type) -> Converter:
        parts = {name: self.of(annotation) for name, annotation in fields_of(kind).items()}

        def convert(value: Any, at: str) -> Any:
            if not isinstance(value, dict):
                raise _refusal(at, f"{_said(value)} is not an object")
            found = {key: part(one, f"{at}/{key}") if (part := parts.get(key)) else one for key, one in value.items()}
            if is_typed_dict(kind):
                return found
            try:
                return kind(**found)
            except (TypeError, ValueError) as error:
                raise _refusal(at, str(error)) from error

        return convert

    def _union(self, kinds: Sequence[object]) -> Converter:
        exact = {kind for kind in kinds if isinstance(kind, type) and kind in (*_PLAIN, type(None))}
        branches = [self.of(kind) for kind in kinds]

        def convert(value: Any, at: str) -> Any:
            if type(value) in exact:
                return value
            last: InvalidInput | None = None
            for branch in branches:
                if branch is None:
                    return value
                try:
                    return branch(value, at)
                except InvalidInput as error:
                    last = error if last is None or len(error.errors[0].pointer) > len(last.errors[0].pointer) else last
            raise last or _refusal(at, f"{_said(value)} is none of the kinds it may be")

        return convert

    def _sequence(self, make: type, arguments: Sequence[object]) -> Converter | None:
        is_fixed = make is tuple and Ellipsis not in arguments and bool(arguments)
        parts = [None if one == () else self.of(one) for one in arguments if one is not Ellipsis]

        def convert(value: Any, at: str) -> Any:
            if not isinstance(value, list):
                raise _refusal(at, f"{_said(value)} is not an array")
            if is_fixed and len(value) != len(parts):
                raise _refusal(at, f"it has {len(value)} items, and must have {len(parts)}")
            each = parts if is_fixed else parts[:1] * len(value)
            if any(each[: len(parts)]):
                value = [
                    part(one, f"{at}/{n}") if part else one
                    for n, (part, one) in enumerate(zip(each, value, strict=True))
                ]
            try:
                return value if make is list else make(value)
            except TypeError as error:
                raise _refusal(at, str(error)) from error

        return convert

    def _mapping(self, arguments: Sequence[object]) -> Converter:
        keys, values = [self.of(one) for one in arguments] if len(arguments) == 2 else (None, None)
        is_number = bool(arguments) and meaning_of(arguments[0]).kind in (int, float)

        def convert(value: Any, at: str) -> Any:
            if not isinstance(value, dict):
                raise _refusal(at, f"{_said(value)} is not an object")
            found = {}
            for key, one in value.items():
                inner = f"{at}/{key}"
                name = keys(_number(key, inner) if is_number else key, inner) if keys else key
                found[name] = values(one, inner) if values else one
            return found

        return convert

    def _path(self, value: Any, at: str) -> object:
        from relight.protocol.dataurl import url_of

        try:
            return self._files.path(*url_of(value))
        except ValueError as error:
            raise _refusal(at, str(error)) from error


def is_model(kind: object) -> bool:
    """Whether it is a model of pydantic, which is asked only where the user has imported it."""
    base = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    return (
        isinstance(base, type) and isinstance(kind, type) and issubclass(kind, base) and hasattr(kind, "model_fields")
    )


def is_path(kind: type) -> bool:
    """Whether it is a path of pathlib."""
    path = getattr(sys.modules.get("pathlib"), "PurePath", None)
    return isinstance(path, type) and issubclass(kind, path)


# -- one for each kind of scalar: raises ValueError


def _int(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    whole: int = _only(value, int)
    return whole


def _float(value: Any) -> float:
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    number: float = _only(value, float)
    return number


def _only(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{_said(value)} is not {_PLAIN.get(kind, kind.__name__)}")
    return value


def _none(value: Any) -> None:
    if value is not None:
        raise ValueError(f"{_said(value)} is not null")


def _bytes(value: Any) -> bytes:
    return base64.b64decode(_only(value, str), validate=True)


def _duration(value: Any) -> datetime.timedelta:
    import datetime

    return datetime.timedelta(seconds=_float(value))


def _decimal(value: Any) -> decimal.Decimal:
    import decimal

    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{_said(value)} is not a number")
    try:
        return decimal.Decimal(str(value))
    except decimal.InvalidOperation as error:
        raise ValueError(f"{_said(value)} is not a number") from error


_PLAIN: Mapping[type, str] = {bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
_SCALARS: Mapping[type, Callable[[Any], Any]] = {
    bool: lambda value: _only(value, bool),
    int: _int,
    float: _float,
    str: lambda value: _only(value, str),
    type(None): _none,
    bytes: _bytes,
    bytearray: lambda value: bytearray(_bytes(value)),
}
_BY_NAME: Mapping[tuple[str, str], Callable[[Any], Any]] = {
    ("datetime", "datetime"): lambda value: moment(_only(value, str)),
    ("datetime", "date"): lambda value: day(_only(value, str)),
    ("datetime", "time"): lambda value: time_of_day(_only(value, str)),
    ("datetime", "timedelta"): _duration,
    ("uuid", "UUID"): lambda value: unique_id(_only(value, str)),
    ("decimal", "Decimal"): _decimal,
}


def _scalar(kind: type) -> Callable[[Any], Any] | None:
    return _SCALARS.get(kind) or _BY_NAME.get((kind.__module__, kind.__qualname__))


def _number(key: str, at: str) -> Any:
    try:
        return json.loads(key)
    except ValueError as error:
        raise _refusal(at, f"the key {key[:40]!r} is not a number") from error


def _member(kind: type[enum.Enum], value: Any) -> enum.Enum:
    try:
        return kind(value)
    except ValueError:
        if isinstance(value, str) and value in kind.__members__:
            return kind[value]
        raise ValueError(f"{_said(value)} is not one of {', '.join(repr(one.value) for one in kind)}") from None


def _chosen(value: Any, choices: Sequence[Any]) -> Any:
    for one in choices:
        plain = one.value if isinstance(one, enum.Enum) else one
        # As JSON Schema compares: 2.0 is the number 2, and true is no number.
        if plain == value and isinstance(plain, bool) is isinstance(value, bool):
            return one
    raise ValueError(f"{_said(value)} is not one of {', '.join(map(repr, choices))}")


def _validated(kind: Any, value: Any, at: str) -> Any:
    try:
        return kind.model_validate_json(json.dumps(value))
    except ValueError as error:
        told: list[Any] = getattr(error, "errors", list)()
        faults = [
            InputFault(pointer=at + "".join(f"/{part}" for part in one["loc"]), detail=str(one["msg"])) for one in told
        ]
        raise refuse(faults or [InputFault(pointer=at, detail=str(error))]) from error


def _guarded(make: Callable[[Any], Any]) -> Converter:
    def convert(value: Any, at: str) -> Any:
        try:
            return make(value)
        except (ValueError, OverflowError) as error:
            raise _refusal(at, str(error)) from error

    return convert


def _tested(tests: Sequence[Callable[[Any, str], Sequence[InputFault]]], inner: Converter | None) -> Converter:
    def convert(value: Any, at: str) -> Any:
        faults = [fault for test in tests for fault in test(value, at)]
        if faults:
            raise refuse(faults)
        return inner(value, at) if inner else value

    return convert


def _refusal(at: str, detail: str) -> InvalidInput:
    return refuse([InputFault(pointer=at, detail=detail)])


def _said(value: object) -> str:
    text = repr(value) if isinstance(value, (str, int, float)) or value is None else type(value).__name__
    return text if len(text) <= 60 else text[:60] + "…"
