"""From a function's annotations to JSON Schema 2020-12: what it takes, and what it gives.

What an annotation does not say, or says in a way that JSON cannot, is taken as anything: a schema never refuses what the
function might take.  Classes that have fields stand once under `$defs`, so that they may hold themselves.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import inspect
import json
import pathlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from relight.protocol import dataurl
from relight.protocol.annotations import (
    ANYTHING,
    SCHEMA,
    fields_of,
    hints_of,
    is_named_tuple,
    is_typed_dict,
    is_union,
    meaning_of,
)
from relight.protocol.conversion import MAPPINGS, SEQUENCES, is_model
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Json
from relight.protocol.plain import to_plain
from relight.protocol.schema import check, resolve
from relight.sdk.docstrings import arguments_in
from relight.sdk.inputs import Input

Schema = dict[str, Json]

_STREAMS = ("Iterator", "Iterable", "Generator", "AsyncIterator", "AsyncIterable", "AsyncGenerator")
_SCALARS: Mapping[object, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    type(None): {"type": "null"},
    bytes: {"type": "string", "contentEncoding": "base64"},
    bytearray: {"type": "string", "contentEncoding": "base64"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.time: {"type": "string", "format": "time"},
    datetime.timedelta: {"type": "number", "x-unit": "seconds"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    decimal.Decimal: {"type": ["number", "string"]},
}
_APPLIES = {
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), ("integer", "number")
    ),
    **dict.fromkeys(("minLength", "maxLength", "pattern"), ("string",)),
    **dict.fromkeys(("minItems", "maxItems"), ("array",)),
    **dict.fromkeys(("minProperties", "maxProperties"), ("object",)),
}
"""To what kinds of values a keyword says anything."""


def input_schema(function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> Schema:
    """What a function takes, as the schema of one object with a property for each parameter.

    Raises InvalidRequest when an Input demands what its parameter cannot have.
    """
    hints, says = hints_of(function), arguments_in(inspect.getdoc(function) or "")
    schemas = _Schemas(is_input=True)
    properties: Schema = {}
    required: list[Json] = []
    rest: Json = False
    for one in parameters:
        if one.kind is one.VAR_POSITIONAL:
            continue
        _refuse_input_as_default(function, one)
        try:
            said = schemas.of(hints.get(one.name, ANYTHING))
        except InvalidRequest as error:
            raise InvalidRequest(f"cannot describe {function.__qualname__}: {one.name}: {error}") from error
        if one.kind is one.VAR_KEYWORD:
            rest = said or True
            continue
        if one.name in says:
            said.setdefault("description", says[one.name])
        if one.default is one.empty:
            required.append(one.name)
        else:
            said = schemas.with_default(said, one.default)
        properties[one.name] = said
    whole: Schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": rest}
    return schemas.finish(whole)


def output_schema(function: Callable[..., Any], *, is_generator: bool) -> Schema:
    """What a function returns, or what each item is that it yields."""
    annotation = hints_of(function).get("return", ANYTHING)
    kind = meaning_of(annotation).kind
    if is_generator:
        arguments = get_args(kind)
        is_stream = getattr(get_origin(kind), "__name__", "") in _STREAMS
        annotation = arguments[0] if is_stream and arguments else ANYTHING
    schemas = _Schemas(is_input=False)
    return schemas.finish(schemas.of(annotation))


class _Schemas:
    """Makes the schemas of one function; `definitions` are those of the classes that it met."""

    def __init__(self, *, is_input: bool) -> None:
        self._is_input = is_input
        self._definitions: Schema = {}
        self._names: dict[object, str] = {}

    def finish(self, schema: Schema) -> Schema:
        """The whole, with what it refers to."""
        return {**schema, "$defs": self._definitions} if self._definitions else schema

    def of(self, annotation: object) -> Schema:
        """The schema of an annotation; it is the caller's own to change."""
        meaning = meaning_of(annotation)
        said = self._of_kind(meaning.kind)
        for remark in meaning.remarks:
            for one in (remark,) if isinstance(remark, Input) else _foreign(remark):
                said = self._with_input(said, one)
        return said

    def with_default(self, said: Schema, default: object) -> Schema:
        """The schema with a default, which also says that null may be given where None is the default."""
        if default is None and check({**said, "$defs": self._definitions}, None):
            said = {"anyOf": [said, {"type": "null"}]}
        return {**said, **_default(default)}

    def _of_kind(self, kind: Any) -> Schema:
        if kind is ANYTHING or kind is object:
            return {}
        if isinstance(kind, type) and kind in _SCALARS:
            return dict(_SCALARS[kind])
        origin = get_origin(kind) or kind
        if is_union(kind):
            return {"anyOf": [self.of(one) for one in get_args(kind)]}
        if origin is Literal:
            return {"enum": [to_plain(one) for one in get_args(kind)]}
        if origin in SEQUENCES:
            return self._sequence(SEQUENCES[origin], get_args(kind))
        if origin in MAPPINGS:
            return self._mapping(get_args(kind))
        return self._named(kind) if isinstance(kind, type) else {}

    def _sequence(self, make: type, arguments: Sequence[object]) -> Schema:
        said: Schema = {"type": "array"}
        if make in (set, frozenset):
            said["uniqueItems"] = True
        if make is tuple and arguments and Ellipsis not in arguments:
            items: list[Json] = [self.of(one) for one in arguments]
            return {**said, "prefixItems": items, "items": False, "minItems": len(items), "maxItems": len(items)}
        if arguments and (inner := self.of(arguments[0])):
            said["items"] = inner
        return said

    def _mapping(self, arguments: Sequence[object]) -> Schema:
        said: Schema = {"type": "object"}
        if len(arguments) != 2:
            return said
        if inner := self.of(arguments[1]):
            said["additionalProperties"] = inner
        key = self.of(arguments[0])
        numbers = {"integer": r"^-?[0-9]+$", "number": r"^-?[0-9.eE+-]+$"}
        if (kind := key.get("type")) in numbers:
            said["propertyNames"] = {"pattern": numbers[str(kind)]}
        elif key and key != _SCALARS[str]:
            said["propertyNames"] = key
        return said

    def _named(self, kind: type) -> Schema:
        if hasattr(kind, SCHEMA):
            found: Schema = dict(getattr(kind, SCHEMA)())
            return found
        if issubclass(kind, pathlib.PurePath):
            return dict(_object(dataurl.path_schema())) if self._is_input else {"type": "string"}
        if issubclass(kind, enum.Enum):
            names: list[Json] = [*kind.__members__]
            return {"title": kind.__name__, "enum": [to_plain(one) for one in kind], "x-enum-names": names}
        if is_model(kind):
            return self._model(kind)
        if dataclasses.is_dataclass(kind) or is_typed_dict(kind) or is_named_tuple(kind):
            return self._reference(kind)
        return {}

    def _reference(self, kind: type) -> Schema:
        """A class with fields: described once, and referred to."""
        if kind not in self._names:
            name = self._take_name(kind)
            self._definitions[name] = self._fields(kind)
        return {"$ref": f"#/$defs/{self._names[kind]}"}

    def _take_name(self, kind: type) -> str:
        name, number = kind.__name__, 1
        while name in self._definitions:
            number += 1
            name = f"{kind.__name__}{number}"
        self._names[kind] = name
        self._definitions[name] = {}
        return name

    def _fields(self, kind: Any) -> Schema:
        properties: Schema = {}
        required: list[Json] = []
        defaults = _defaults_of(kind, is_input=self._is_input)
        for name, annotation in fields_of(kind).items():
            if name not in defaults:
                continue
            said = self.of(annotation)
            if defaults[name] is _REQUIRED:
                required.append(name)
            elif defaults[name] is not _UNSAID:
                said = self.with_default(said, defaults[name])
            properties[name] = said
        doc = inspect.cleandoc(kind.__doc__ or "")
        described: Schema = {"description": doc} if doc and not doc.startswith(f"{kind.__name__}(") else {}
        described = {"title": kind.__name__, **described, "type": "object", "properties": properties}
        return {**described, "required": required, "additionalProperties": False}

    def _model(self, kind: Any) -> Schema:
        """A model of pydantic, in its own words; the models within it by names of their own."""
        if kind not in self._names:
            name = self._take_name(kind)
            mode = "validation" if self._is_input else "serialization"
            try:
                said: Schema = kind.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}", mode=mode)
            except Exception:  # noqa: BLE001 - a model may hold what has no schema, and says so in many ways
                said = {}
            inner = said.pop("$defs", {})
            self._definitions.update({f"{name}.{one}": told for one, told in _object(inner).items()})
            self._definitions[name] = said
        return {"$ref": f"#/$defs/{self._names[kind]}"}

    def _with_input(self, said: Schema, remark: Input) -> Schema:
        demands = remark.constraints()
        kinds = self._kinds(said)
        for keyword, applies in _APPLIES.items():
            if keyword in demands and kinds and not kinds & {*applies}:
                del demands[keyword]
        if remark.constraints() and not demands:
            what = ", ".join(f"{name}={getattr(remark, name)!r}" for name in _given(remark))
            raise InvalidRequest(f"{what} says nothing of {' or '.join(sorted(kinds))}; use what fits")
        choices = demands.pop("enum", None)
        if isinstance(choices, list):
            items = said.get("items")
            if kinds == {"array"} and isinstance(items, dict):
                said["items"] = {**items, "enum": choices}
            elif kinds == {"array"}:
                said["items"] = {"enum": choices}
            else:
                said["enum"] = [*choices, None] if "null" in kinds and None not in choices else choices
        return {**said, **demands, **remark.remarks()}

    def _kinds(self, said: Schema) -> set[str]:
        """What kinds of values it takes, as far as it says; empty when it says nothing."""
        said = dict(resolve(said, {"$defs": self._definitions}))
        kind = said.get("type")
        if isinstance(kind, str):
            return {kind}
        if isinstance(kind, list):
            return {str(one) for one in kind}
        branches = said.get("anyOf")
        found = [self._kinds(_object(one)) for one in branches] if isinstance(branches, list) else [set[str]()]
        return set().union(*found) if all(found) else set()


_REQUIRED: object = object()
_UNSAID: object = object()


def _defaults_of(kind: Any, *, is_input: bool) -> dict[str, object]:
    """The fields, each with its default, `_REQUIRED`, or `_UNSAID` where the default is no constant.

    As input those that may be given; as output all of them.
    """
    if is_typed_dict(kind):
        said = {name: get_origin(annotation) for name, annotation in fields_of(kind).items()}
        needed = {name: getattr(mark, "_name", "") for name, mark in said.items()}
        is_needed = {name: mark == "Required" or name in kind.__required_keys__ for name, mark in needed.items()}
        return {
            name: _REQUIRED if is_needed[name] and mark != "NotRequired" else _UNSAID for name, mark in needed.items()
        }
    if is_named_tuple(kind):
        return {name: kind._field_defaults.get(name, _REQUIRED) for name in kind._fields}
    found: dict[str, object] = {}
    for one in dataclasses.fields(kind):
        if one.init or not is_input:
            is_open = one.default_factory is not dataclasses.MISSING or not one.init
            has_none = one.default is dataclasses.MISSING
            found[one.name] = (_UNSAID if is_open else _REQUIRED) if has_none else one.default
    return found


def _default(value: object) -> Schema:
    """The default, when JSON can say it."""
    try:
        said = to_plain(value)
        json.dumps(said, allow_nan=False)
    except (TypeError, ValueError, RecursionError, AttributeError):
        return {}
    return {"default": said}


def _foreign(remark: object) -> tuple[Input, ...]:
    """What a remark of `annotated_types`, or a `Field` of pydantic, says: they have our words as attributes."""
    inner = getattr(remark, "metadata", ())
    found = []
    for one in (remark, *(inner if isinstance(inner, (list, tuple)) else ())):
        description = getattr(one, "description", None)
        said = Input(
            description if isinstance(description, str) else "",
            ge=_number(one, "ge"),
            gt=_number(one, "gt"),
            le=_number(one, "le"),
            lt=_number(one, "lt"),
            multiple_of=_number(one, "multiple_of"),
            min_length=_size(one, "min_length"),
            max_length=_size(one, "max_length"),
        )
        if said != Input():
            found.append(said)
    return tuple(found)


def _number(remark: object, name: str) -> float | None:
    value = getattr(remark, name, None)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _size(remark: object, name: str) -> int | None:
    value = getattr(remark, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _given(remark: Input) -> list[str]:
    names = [one.name for one in dataclasses.fields(remark)]
    return [name for name in names if name not in ("description", "examples", "unit") and getattr(remark, name)]


def _refuse_input_as_default(function: Callable[..., Any], parameter: inspect.Parameter) -> None:
    if isinstance(parameter.default, Input):
        raise InvalidRequest(
            f"cannot describe {function.__qualname__}: the default of {parameter.name!r} is an Input, which the function "
            f"would get when it is called here; write {parameter.name}: Annotated[…, relight.Input(…)] = the default"
        )


def _object(said: Json) -> Schema:
    return said if isinstance(said, dict) else {}
