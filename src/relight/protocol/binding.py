"""Bindings as they travel: values of a class's parameters, and options given per call, as one canonical text.

A parameter is a str, int, float, bool or bytes; JSON has all but the last, which goes as base64.  Equal bindings have
equal texts, for the text is part of the name of a queue.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from typing import NoReturn

from relight.protocol.manifest import Binding, ClassParameter, Json

MAX_BRACKETS = 500
MAX_BINDING_BYTES = 8 * 1024
"""No text of a binding is longer: it is kept with each call, and a large value belongs into an argument."""

Value = str | int | float | bool | bytes
"""What a parameter of a class may be."""

TYPES: Mapping[str, type[Value]] = {"str": str, "int": int, "float": float, "bool": bool, "bytes": bytes}
"""The types of parameters, by the names a manifest uses."""


def text_of(binding: Binding) -> str:
    """The canonical text, "" for neither values nor options.  Raises ValueError for a number that JSON has not."""
    said = {name: dict(pairs) for name, pairs in _parts(binding) if pairs}
    return json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False) if said else ""


def parse_binding(text: str) -> Binding:
    """The binding of a text.  Raises ValueError saying what is wrong with it."""
    if len(text) > MAX_BINDING_BYTES:
        raise ValueError(f"it has {len(text):,} characters, and {MAX_BINDING_BYTES:,} are allowed")
    if not text:
        return Binding()
    if text.count("[") + text.count("{") > MAX_BRACKETS:  # how deep a reader of JSON goes differs between Pythons
        raise ValueError("it is nested too deeply")
    said = json.loads(text, parse_constant=_refuse_constant)
    if not isinstance(said, dict) or not said.keys() <= {"parameters", "options"}:
        raise ValueError('it is not {"parameters": {...}, "options": {...}}')
    if not all(isinstance(part, dict) for part in said.values()):
        raise ValueError("its parameters and options must be objects")
    return Binding(
        parameters=tuple(sorted(said.get("parameters", {}).items())),
        options=tuple(sorted(said.get("options", {}).items())),
    )


def to_json(type_name: str, value: object) -> Json:
    """A parameter's value as JSON.  Raises TypeError when it is not of its type, ValueError when JSON cannot say it."""
    kind = TYPES[type_name]
    if kind is float and type(value) is int:
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{_shown(value)} is {_article(type(value).__qualname__)}, not {_article(type_name)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number that can be compared")
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def from_json(type_name: str, said: Json) -> Value:
    """The value that `to_json` said.  Raises TypeError or ValueError when it says none of that type."""
    kind = TYPES[type_name]
    if kind is float and type(said) is int:
        return float(said)
    if kind is bytes and isinstance(said, str):
        try:
            return base64.b64decode(said, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"{_shown(said)} is not base64, as bytes must be") from None
    if type(said) is not kind:
        raise TypeError(f"{_shown(said)} is not {_article(type_name)}")
    return said


def values_of(parameters: Sequence[ClassParameter], said: Sequence[tuple[str, Json]]) -> dict[str, Value]:
    """What a worker makes its object with."""
    types = {parameter.name: parameter.type for parameter in parameters}
    return {name: from_json(types[name], value) for name, value in said}


def _parts(binding: Binding) -> tuple[tuple[str, tuple[tuple[str, Json], ...]], ...]:
    return (("parameters", binding.parameters), ("options", binding.options))


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
