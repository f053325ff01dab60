"""Whether a value is what a JSON Schema asks for, and where not.

It knows the part of JSON Schema 2020-12 that functions' schemas use, and takes every other keyword as a remark.  A schema
comes from whoever deploys and a value from whoever calls, and both may mean harm: the work is bounded, references that
lead nowhere or in circles end, and no pattern is tried that could take long.  What was left out for that reason is
found where the value is used.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relight.protocol.errors import InputFault, InvalidInput
from relight.protocol.manifest import Json
from relight.protocol.patterns import is_bounded

if TYPE_CHECKING:
    import datetime

MOST_FAULTS = 20
"""No more are told of one value."""

MOST_STEPS = 200_000
"""So many parts of a value are looked at; the rest is taken as it is."""

MOST_DEPTH = 100
"""A value, or a chain of references, deeper than this is refused."""

_NAMES = {
    "null": "null",
    "boolean": "a boolean",
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
    "array": "an array",
    "object": "an object",
}

Schema = Mapping[str, Json]


def check(schema: Json | Schema, value: object, *, tries_all_patterns: bool = False) -> tuple[InputFault, ...]:
    """What is wrong with `value`; nothing when it fits.

    `tries_all_patterns`: also those that may take long, as is right where they block nobody else.
    """
    definitions = schema.get("$defs") if isinstance(schema, dict) else None
    look = _Look(definitions=definitions if isinstance(definitions, dict) else {}, tries_all=tries_all_patterns)
    try:
        look.at(schema, value, "", 0)
    except RecursionError:
        look.blame("", f"it, or the schema, is nested far deeper than {MOST_DEPTH}")
    return tuple(look.faults[:MOST_FAULTS])


def resolve(schema: Json, whole: Json | Schema) -> Schema:
    """The schema that a reference leads to within `whole`; the schema itself where it is none."""
    definitions = whole.get("$defs") if isinstance(whole, dict) else None
    for _ in range(MOST_DEPTH):
        if not isinstance(schema, dict):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not isinstance(definitions, dict):
            return schema
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        target = definitions.get(reference.removeprefix("#/$defs/"))
        schema = {**target, **rest} if isinstance(target, dict) else rest
    return {}


def describe(schema: Json) -> str:
    """What a schema asks for, in a few words."""
    if not isinstance(schema, dict):
        return "a value"
    if "enum" in schema and isinstance(schema["enum"], list):
        return "one of " + ", ".join(_shown(one) for one in schema["enum"][:10])
    kinds = schema.get("type")
    if isinstance(kinds, str):
        return _NAMES.get(kinds, kinds)
    if isinstance(kinds, list):
        return " or ".join(_NAMES.get(str(kind), str(kind)) for kind in kinds)
    branches = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(branches, list):
        return " or ".join(dict.fromkeys(describe(branch) for branch in branches))
    if isinstance(schema.get("title"), str):
        return f"a {schema['title']}"
    reference = schema.get("$ref")
    return f"a {reference.rpartition('/')[2]}" if isinstance(reference, str) else "a value"


def refuse(
    faults: Sequence[InputFault], what: str = "the function", see: str = "its annotations say what it takes"
) -> InvalidInput:
    """The error that tells what is wrong with the arguments of a call of `what`; `see` says what to do."""
    said = "; ".join(f"{_place(fault.pointer)}{fault.detail}" for fault in faults[:3])
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return InvalidInput(f"cannot call {what}: {said}{more}; {see}", tuple(faults))


@dataclass(slots=True)
class _Look:
    """One look at one value; `strange` are the parts of it that are of another kind than was asked."""

    definitions: Mapping[str, Json]
    tries_all: bool = False
    faults: list[InputFault] = field(default_factory=list)
    strange: set[str] = field(default_factory=set)
    steps: int = 0

    def at(self, schema: Json | Schema, value: object, pointer: str, depth: int) -> None:
        """Look at the part of the value that `pointer` names."""
        self.steps += 1
        if self.steps > MOST_STEPS or len(self.faults) > MOST_FAULTS:
            return
        if schema is False:
            self.blame(pointer, "nothing may be here")
        if not isinstance(schema, dict):
            return
        if depth > MOST_DEPTH:
            self.blame(pointer, f"it is nested deeper than {MOST_DEPTH}")
            return
        kinds = schema.get("type")
        if kinds is not None and not _is_any_of(kinds, value):
            self.blame(pointer, f"{_shown(value)} is not {describe({'type': kinds})}")
            self.strange.add(pointer)
            return
        for keyword, argument in schema.items():
            test = _TESTS.get(keyword)
            if test is not None and (says := test(argument, value)):
                self.blame(pointer, says)
        self._parts(schema, value, pointer, depth)

    def blame(self, pointer: str, detail: str) -> None:
        """Note what is wrong."""
        self.faults.append(InputFault(pointer=pointer, detail=detail))

    def _parts(self, schema: Schema, value: object, pointer: str, depth: int) -> None:
        reference = schema.get("$ref")
        if isinstance(reference, str):
            self.at(self.definitions.get(reference.removeprefix("#/$defs/")), value, pointer, depth + 1)
        pattern = schema.get("pattern")
        if isinstance(pattern, str) and isinstance(value, str):
            self._pattern(pattern, value, pointer)
        for one in _list(schema.get("allOf")):
            self.at(one, value, pointer, depth + 1)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                self._branches(_list(schema[keyword]), value, pointer, depth)
        if isinstance(value, dict):
            self._object(schema, value, pointer, depth)
        elif isinstance(value, (list, tuple)):
            self._array(schema, value, pointer, depth)

    def _branches(self, branches: Sequence[Json], value: object, pointer: str, depth: int) -> None:
        """One of the branches must fit; `oneOf` is read so too, since whoever writes it has a tag that tells them apart."""
        near: list[list[InputFault]] = []
        for branch in branches:
            look = _Look(definitions=self.definitions, tries_all=self.tries_all, steps=self.steps)
            look.at(branch, value, pointer, depth + 1)
            self.steps = look.steps
            if not look.faults:
                return
            if pointer not in look.strange:
                near.append(look.faults)
        deeper = [faults for faults in near if all(fault.pointer != pointer for fault in faults)]
        if len(near) == 1 or len(deeper) == 1:
            self.faults += (deeper or near)[0]
            return
        self.strange.add(pointer)
        wanted = describe({"anyOf": list(branches)})
        self.blame(pointer, f"{_shown(value)} is not {wanted}")

    def _object(self, schema: Schema, value: Mapping[object, object], pointer: str, depth: int) -> None:
        properties = schema.get("properties")
        known: Schema = properties if isinstance(properties, dict) else {}
        for needed in _list(schema.get("required")):
            if needed not in value:
                self.blame(pointer, f"{_shown(needed)} is missing")
        rest = schema.get("additionalProperties", True)
        keys = schema.get("propertyNames", True)
        for name, part in value.items():
            inner = f"{pointer}/{_escaped(str(name))}"
            if keys is not True:
                self.at(keys, name, inner, depth + 1)
            if isinstance(name, str) and name in known:
                self.at(known[name], part, inner, depth + 1)
            elif rest is False:
                self.blame(inner, _unknown(str(name), tuple(known)))
            else:
                self.at(rest, part, inner, depth + 1)

    def _array(self, schema: Schema, value: Sequence[object], pointer: str, depth: int) -> None:
        first = _list(schema.get("prefixItems"))
        rest: Json = schema.get("items", True)
        for number, part in enumerate(value):
            if number < len(first):
                self.at(first[number], part, f"{pointer}/{number}", depth + 1)
            elif rest is True:
                return
            elif rest is False:
                self.blame(pointer, f"{len(value)} items are more than {len(first)}")
                return
            else:
                self.at(rest, part, f"{pointer}/{number}", depth + 1)
            if self.steps > MOST_STEPS:
                return

    def _pattern(self, pattern: str, value: str, pointer: str) -> None:
        if not (self.tries_all or is_bounded(pattern, len(value))):
            return
        try:
            fits = re.search(pattern, value)
        except (re.error, RecursionError, OverflowError):
            return  # it is of another kind of regular expressions
        if not fits:
            self.blame(pointer, f"{_shown(value)} does not match {pattern}")


# -- one test for each keyword that looks at one value alone: what it says against it, "" when nothing


def _enum(argument: Json, value: object) -> str:
    choices = _list(argument)
    if any(_equal(value, one) for one in choices):
        return ""
    words = [one for one in choices if isinstance(one, str)]
    near = _near(value, words) if isinstance(value, str) and len(value) <= 100 else []
    hint = f"; did you mean {_shown(near[0])}?" if near else ""
    return f"{_shown(value)} is not {describe({'enum': list(choices)})}{hint}"


def _const(argument: Json, value: object) -> str:
    return "" if _equal(value, argument) else f"{_shown(value)} is not {_shown(argument)}"


def _compared(says: str, fits: Callable[[float, float], bool]) -> Callable[[Json, object], str]:
    def test(argument: Json, value: object) -> str:
        if not _is_number(value) or not _is_number(argument):
            return ""
        return "" if fits(value, argument) else f"{_shown(value)} is {says} {_shown(argument)}"  # type: ignore[arg-type]  # both are numbers

    return test


def _multiple(argument: Json, value: object) -> str:
    if isinstance(value, bool) or isinstance(argument, bool) or not argument:
        return ""
    if not isinstance(value, (int, float)) or not isinstance(argument, (int, float)):
        return ""
    if isinstance(value, int) and isinstance(argument, int):
        fits = value % argument == 0
    else:
        times = value / argument
        fits = abs(times) < 2**53 and abs(times - round(times)) < 1e-9
    return "" if fits else f"{_shown(value)} is not a multiple of {_shown(argument)}"


def _sized(kind: tuple[type, ...], unit: str, *, is_least: bool) -> Callable[[Json, object], str]:
    def test(argument: Json, value: object) -> str:
        if not isinstance(value, kind) or not isinstance(argument, int):
            return ""
        size = len(value)  # type: ignore[arg-type]  # texts, arrays and objects have one
        if (size >= argument) if is_least else (size <= argument):
            return ""
        bound = "least" if is_least else "most"
        return f"it has {size} {unit}, and must have at {bound} {argument}"

    return test


def _unique(argument: Json, value: object) -> str:
    if argument is not True or not isinstance(value, (list, tuple)):
        return ""
    seen: set[str] = set()
    for one in value:
        text = json.dumps(one, sort_keys=True, default=str)
        if text in seen:
            return f"{_shown(one)} is in it twice"
        seen.add(text)
    return ""


def _format(argument: Json, value: object) -> str:
    parse = _FORMATS.get(argument) if isinstance(argument, str) else None
    if parse is None or not isinstance(value, str):
        return ""
    try:
        parse(value)
    except ValueError:
        return f"{_shown(value)} is not a {argument} as in {_EXAMPLES[str(argument)]}"
    return ""


def _encoding(argument: Json, value: object) -> str:
    if argument != "base64" or not isinstance(value, str):
        return ""
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return "it is not base64"
    return ""


def moment(text: str) -> datetime.datetime:
    """A date and time of RFC 3339, or a date alone.  Raises ValueError."""
    import datetime

    return datetime.datetime.fromisoformat(_zone(text))


def time_of_day(text: str) -> datetime.time:
    """A time.  Raises ValueError."""
    import datetime

    return datetime.time.fromisoformat(_zone(text))


def day(text: str) -> datetime.date:
    """A date.  Raises ValueError."""
    import datetime

    return datetime.date.fromisoformat(text)


def unique_id(text: str) -> object:
    """A UUID.  Raises ValueError."""
    import uuid

    return uuid.UUID(text)


def _zone(text: str) -> str:
    return text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text  # before 3.11 no Python reads the Z


_TYPES: Mapping[str, tuple[type, ...]] = {
    "null": (type(None),),
    "string": (str,),
    "array": (list, tuple),
    "object": (dict,),
}
_FORMATS: Mapping[str, Callable[[str], object]] = {
    "date-time": moment,
    "date": day,
    "time": time_of_day,
    "uuid": unique_id,
}
_EXAMPLES = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00",
    "uuid": "00000000-0000-0000-0000-000000000000",
}
_TESTS: Mapping[str, Callable[[Json, object], str]] = {
    "enum": _enum,
    "const": _const,
    "minimum": _compared("less than", lambda value, bound: value >= bound),
    "maximum": _compared("more than", lambda value, bound: value <= bound),
    "exclusiveMinimum": _compared("not above", lambda value, bound: value > bound),
    "exclusiveMaximum": _compared("not below", lambda value, bound: value < bound),
    "multipleOf": _multiple,
    "minLength": _sized((str,), "characters", is_least=True),
    "maxLength": _sized((str,), "characters", is_least=False),
    "minItems": _sized((list, tuple), "items", is_least=True),
    "maxItems": _sized((list, tuple), "items", is_least=False),
    "minProperties": _sized((dict,), "entries", is_least=True),
    "maxProperties": _sized((dict,), "entries", is_least=False),
    "uniqueItems": _unique,
    "format": _format,
    "contentEncoding": _encoding,
}


def _is_any_of(kinds: Json, value: object) -> bool:
    return any(_is(kind, value) for kind in (kinds if isinstance(kinds, list) else [kinds]))


def _is(kind: Json, value: object) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int):
        return kind in ("integer", "number")
    if isinstance(value, float):
        return kind == "number" or (kind == "integer" and value.is_integer())
    return isinstance(value, _TYPES.get(str(kind), ()))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _equal(one: object, other: object) -> bool:
    """As JSON has it: true is not 1, and 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return one == other


def _list(value: Json) -> Sequence[Json]:
    return value if isinstance(value, list) else ()


def _unknown(name: str, known: Sequence[str]) -> str:
    near = _near(name[:100], known)
    if near:
        return f"there is no {_shown(name)}; did you mean {_shown(near[0])}?"
    return f"there is no {_shown(name)}; there is {', '.join(map(_shown, known)) or 'nothing'}"


def _near(word: str, words: Sequence[str]) -> list[str]:
    import difflib

    return difflib.get_close_matches(word, words, 1)


def _place(pointer: str) -> str:
    return f"{pointer[1:].replace('/', '.')}: " if pointer else ""


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _shown(value: object) -> str:
    if isinstance(value, str):
        return repr(value) if len(value) <= 60 else repr(value[:60]) + "…"
    if isinstance(value, (bool, int, float)) or value is None:
        return json.dumps(value) if abs(value or 0) < 10**60 else "a number of more than 60 digits"
    if isinstance(value, (list, tuple)):
        return "an array"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"
