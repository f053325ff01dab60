"""From what a function returns to what JSON can say of it, where its annotation says that a reader knows what it is."""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import enum
import math
from collections.abc import Callable, Mapping
from typing import Any

from relight.protocol.annotations import TO_JSON
from relight.protocol.conversion import is_model, is_path
from relight.protocol.manifest import Json


def to_plain(value: Any) -> Json:
    """What JSON says of a value.  Raises TypeError when it can say nothing of it."""
    if value is None or type(value) in (bool, int, str):
        plain: Json = value
        return plain
    if type(value) is float:
        if not math.isfinite(value):
            raise TypeError(f"JSON has no {value}")
        return value
    kind = type(value)
    if hasattr(kind, TO_JSON):
        said: Json = getattr(value, TO_JSON)()
        return said
    if isinstance(value, enum.Enum):
        return _member(value)
    if is_model(kind):
        dumped: Json = value.model_dump(mode="json")
        return dumped
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return _plain_builtin(value)


def _plain_builtin(value: Any) -> Json:
    for kind, say in _SAY.items():
        if isinstance(value, kind):
            return say(value)
    for base in type(value).__mro__:
        named = _SAY_BY_NAME.get((base.__module__, base.__qualname__))
        if named is not None:
            return named(value)
    if is_path(type(value)):
        return str(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: to_plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, collections.abc.Mapping):
        return {_key(key): to_plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        return [to_plain(one) for one in value]
    raise TypeError(f"JSON has no form for a {type(value).__qualname__}")


def _key(key: object) -> str:
    plain = to_plain(key)
    if isinstance(plain, str):
        return plain
    if isinstance(plain, (int, float)) and not isinstance(plain, bool):
        return str(plain)
    raise TypeError(f"a key of JSON cannot be a {type(key).__qualname__}")


def _member(value: enum.Enum) -> Json:
    try:
        return to_plain(value.value)
    except TypeError:
        return value.name


_SAY: Mapping[type, Callable[[Any], Json]] = {
    bytes: lambda value: base64.b64encode(value).decode(),
    bytearray: lambda value: base64.b64encode(value).decode(),
    bool: bool,
    int: int,
    str: str,
    float: float,
}
_SAY_BY_NAME: Mapping[tuple[str, str], Callable[[Any], Json]] = {
    ("datetime", "date"): lambda value: str(value.isoformat()),  # a datetime is one
    ("datetime", "time"): lambda value: str(value.isoformat()),
    ("datetime", "timedelta"): lambda value: float(value.total_seconds()),
    ("uuid", "UUID"): str,
    ("decimal", "Decimal"): str,
}
"""Of modules that whoever has such a value has imported."""
