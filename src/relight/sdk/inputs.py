"""`relight.Input`: what more there is to say of a parameter than its type.

    def draw(prompt: str, steps: Annotated[int, relight.Input("How many", ge=1, le=100)] = 20) -> relight.File: ...

It stands in `Annotated`, never as the default: the function called as a plain function gets its plain default.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from relight.protocol.errors import InputFault, InvalidRequest
from relight.protocol.manifest import Json
from relight.protocol.values import is_json

NUMBER_KEYWORDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_LENGTH_KEYWORDS = {
    "min_length": ("minLength", "minItems", "minProperties"),
    "max_length": ("maxLength", "maxItems", "maxProperties"),
}


@dataclass(frozen=True, slots=True)
class Input:
    """What a parameter, a field or an item takes.

    Numbers: `ge`, `gt`, `le`, `lt` and `multiple_of`.  Texts, lists and dicts: `min_length` and `max_length`; texts:
    `pattern`, a regular expression to be found in it.  `choices` are the values it may have (of a list: its items).
    `description`, `examples` and `unit` are for people.
    """

    description: str = ""
    _: KW_ONLY
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    multiple_of: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    choices: Sequence[Any] = ()
    examples: Sequence[Any] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.description, str):
            raise InvalidRequest(
                f"cannot use Input({self.description!r}): its first argument is a description; write the default where "
                "it belongs: `x: Annotated[int, relight.Input(ge=1)] = 3`"
            )
        for name in (*NUMBER_KEYWORDS, "multiple_of"):
            self._refuse_unless(name, (int, float), "a number")
        for name in _LENGTH_KEYWORDS:
            self._refuse_unless(name, (int,), "a whole number")
            if (getattr(self, name) or 0) < 0:
                raise InvalidRequest(f"cannot use Input({name}={getattr(self, name)}): it is below 0; make it larger")
        if self.multiple_of is not None and self.multiple_of <= 0:
            raise InvalidRequest(f"cannot use Input(multiple_of={self.multiple_of}): it is not above 0; make it larger")
        self._refuse_unless("pattern", (str,), "a text")
        if isinstance(self.choices, str) or not is_json([*self.choices, *self.examples]):
            raise InvalidRequest("cannot use Input(): choices and examples are lists of what JSON can say; write such")
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise InvalidRequest(
                f"cannot use Input(pattern={self.pattern!r}): it is no regular expression: {error}; correct it"
            ) from error

    def constraints(self) -> dict[str, Json]:
        """What it demands, in the keywords of JSON Schema, for whatever kind of value."""
        said: dict[str, Json] = {}
        for name, keyword in NUMBER_KEYWORDS.items():
            if (bound := getattr(self, name)) is not None:
                said[keyword] = bound
        if self.multiple_of is not None:
            said["multipleOf"] = self.multiple_of
        for name, keywords in _LENGTH_KEYWORDS.items():
            if (size := getattr(self, name)) is not None:
                said.update(dict.fromkeys(keywords, size))
        if self.pattern is not None:
            said["pattern"] = self.pattern
        if self.choices:
            said["enum"] = list(self.choices)
        return said

    def remarks(self) -> dict[str, Json]:
        """What it says to people, in the keywords of JSON Schema."""
        said: dict[str, Json] = {}
        if self.description:
            said["description"] = self.description
        if self.examples:
            said["examples"] = list(self.examples)
        if self.unit:
            said["x-unit"] = self.unit
        return said

    def __relight_remark__(self, value: object, at: str = "") -> tuple[InputFault, ...]:
        """What is wrong with a value; nothing is with None, which the type alone allows."""
        from relight.protocol.schema import check  # 5 ms that a worker need not pay to import its module

        if value is None:
            return ()
        said = self.constraints()
        if isinstance(value, (list, tuple)) and "enum" in said:
            said["items"] = {"enum": said.pop("enum")}
        faults = check(said, value, tries_all_patterns=True)
        return tuple(InputFault(pointer=at + fault.pointer, detail=fault.detail) for fault in faults)

    def _refuse_unless(self, name: str, kinds: tuple[type, ...], what: str) -> None:
        value = getattr(self, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise InvalidRequest(f"cannot use Input({name}={value!r}): it is not {what}; write one")


def constraint_check(function: Callable[..., Any], what: str) -> Callable[[inspect.BoundArguments], None] | None:
    """What looks at bound arguments before they are sent, and raises InvalidInput; None when nothing is demanded."""
    from relight.protocol.schema import refuse  # as above

    found = constraints_of(function)
    if not found:
        return None

    def look(bound: inspect.BoundArguments) -> None:
        faults = [
            fault
            for name, value in bound.arguments.items()
            for demand in found.get(name, ())
            for fault in demand.__relight_remark__(value, f"/{name}")
        ]
        if faults:
            raise refuse(faults, what)

    return look


def constraints_of(function: Callable[..., Any]) -> Mapping[str, tuple[Input, ...]]:
    """The parameters of which something is demanded, and what."""
    from relight.protocol.annotations import hints_of, meaning_of  # as above

    found: dict[str, tuple[Input, ...]] = {}
    for name, annotation in hints_of(function).items():
        demands = tuple(one for one in meaning_of(annotation).remarks if isinstance(one, Input) and one.constraints())
        if demands and name != "return":
            found[name] = demands
    return found
