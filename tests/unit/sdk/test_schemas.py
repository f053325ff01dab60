"""What a signature becomes: schemas, and that they agree with the conversions that follow them."""
# ruff: noqa: UP007, UP045, RUF013, B008 - as users write it

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.protocol.conversion import Converters
from relight.protocol.errors import InvalidInput, InvalidRequest
from relight.protocol.inside import inside
from relight.protocol.plain import to_plain
from relight.protocol.schema import check
from relight.sdk.docstrings import arguments_in, summary_of
from relight.sdk.file import File
from relight.sdk.inputs import Input
from relight.sdk.options import method_of


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Node:
    """A node."""

    name: str
    below: list[Node] = dataclasses.field(default_factory=list)
    weight: Annotated[float, Input(ge=0)] = 1.0
    cache: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Bare:
    x: int


class Options(TypedDict, total=False):
    until: datetime.date


class Pair(NamedTuple):
    left: str
    right: int = 0


Steps = Annotated[int, Input("How many", ge=1, le=100, unit="rounds")]


def schema_of(annotation: Any) -> Any:
    """The schema of one parameter."""

    def function(x: Any) -> None: ...

    function.__annotations__["x"] = annotation
    whole: Any = method_of(function).input_schema
    return {**whole["properties"]["x"], **({"$defs": whole["$defs"]} if "$defs" in whole else {})}


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (int, {"type": "integer"}),
        (bytes, {"type": "string", "contentEncoding": "base64"}),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (decimal.Decimal, {"type": ["number", "string"]}),
        (datetime.timedelta, {"type": "number", "x-unit": "seconds"}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Colour, {"title": "Colour", "enum": [1, 2], "x-enum-names": ["RED", "BLUE"]}),
        (list, {"type": "array"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (set[str], {"type": "array", "uniqueItems": True, "items": {"type": "string"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (
            tuple[int, str],
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "items": False,
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        (dict, {"type": "object"}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (dict[Literal["a"], Any], {"type": "object", "propertyNames": {"enum": ["a"]}}),
        (Any, {}),
        (object, {}),
        ("Missing", {}),
        (frozenset[Any], {"type": "array", "uniqueItems": True}),
        (Steps, {"type": "integer", "minimum": 1, "maximum": 100, "description": "How many", "x-unit": "rounds"}),
        (Annotated[str, Input(min_length=1, pattern="^a")], {"type": "string", "minLength": 1, "pattern": "^a"}),
        (Annotated[list[str], Input(max_length=2, choices=["a"])], {"type": "array", "maxItems": 2, "items": {"type": "string", "enum": ["a"]}}),
        (Annotated[list, Input(choices=["a"])], {"type": "array", "items": {"enum": ["a"]}}),
        (
            Annotated[Optional[str], Input(choices=["a"])],
            {"anyOf": [{"type": "string"}, {"type": "null"}], "enum": ["a", None]},
        ),
        (Annotated[dict[str, int], Input(min_length=1)], {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1}),
        (Annotated[int, Input(examples=[3], multiple_of=3)], {"type": "integer", "multipleOf": 3, "examples": [3]}),
        (
            Pair,
            {
                "$ref": "#/$defs/Pair",
                "$defs": {
                    "Pair": {
                        "title": "Pair",
                        "type": "object",
                        "properties": {"left": {"type": "string"}, "right": {"type": "integer", "default": 0}},
                        "required": ["left"],
                        "additionalProperties": False,
                    }
                },
            },
        ),
    ],
)  # fmt: skip
def test_an_annotation_becomes_a_schema(annotation: Any, schema: Any) -> None:
    found = schema_of(annotation)
    if annotation is Pair:
        found["$defs"]["Pair"].pop("description", None)

    assert found == schema


def test_a_class_that_holds_itself_is_described_once() -> None:
    node = schema_of(Optional[Node])["$defs"]["Node"]

    assert node["description"] == "A node."
    assert node["required"] == ["name"]
    assert "cache" not in node["properties"]
    assert node["properties"]["below"] == {"type": "array", "items": {"$ref": "#/$defs/Node"}}
    assert node["properties"]["weight"] == {"type": "number", "minimum": 0, "default": 1.0}
    assert "description" not in schema_of(Bare)["$defs"]["Bare"]


def test_two_classes_of_one_name_stay_apart() -> None:
    other = dataclasses.make_dataclass("Bare", [("y", str)])

    definitions = schema_of(Union[Bare, other])["$defs"]

    assert [[*one["properties"]] for one in (definitions["Bare"], definitions["Bare2"])] == [["x"], ["y"]]


def test_a_function_becomes_the_schema_of_one_object() -> None:
    def function(
        prompt: str,
        steps: Steps = 20,
        colour: Colour = Colour.RED,
        until: int = None,  # type: ignore[assignment]  # as users write it
        unsaid=object(),  # type: ignore[no-untyped-def]
        *rest: int,
        loud: bool = False,
        **more: float,
    ) -> list[Node]:
        """Draws.

        Args:
            prompt: what to
                draw
            steps (int): said elsewhere
            loud: whether it shouts

        Returns:
            prompt: nothing of the kind
        """
        return []

    method = method_of(function)
    takes: Any = method.input_schema
    gives: Any = method.output_schema

    assert takes["required"] == ["prompt"]
    assert takes["additionalProperties"] == {"type": "number"}
    assert takes["properties"] == {
        "prompt": {"type": "string", "description": "what to draw"},
        "steps": {**schema_of(Steps), "default": 20},
        "colour": {**schema_of(Colour), "default": 1},
        "until": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        "unsaid": {},
        "loud": {"type": "boolean", "default": False, "description": "whether it shouts"},
    }
    assert gives["items"] == {"$ref": "#/$defs/Node"}
    json.dumps([takes, gives])


def test_a_generator_gives_the_schema_of_an_item() -> None:
    def plain() -> Iterator[int]:
        yield 1

    def long() -> Generator[str, None, None]:
        yield ""

    async def late() -> AsyncIterator[Colour]:
        yield Colour.RED

    def unsaid():  # type: ignore[no-untyped-def]
        yield 1

    assert [method_of(one).output_schema for one in (plain, long, late, unsaid)] == [
        {"type": "integer"},
        {"type": "string"},
        schema_of(Colour),
        {},
    ]


def test_paths_and_files_are_marked_for_commands() -> None:
    def function(image: File, path: pathlib.Path) -> File: ...

    method = method_of(function)
    takes: Any = method.input_schema
    gives: Any = method.output_schema

    assert takes["properties"]["image"]["x-relight-kind"] == gives["x-relight-kind"] == "file"
    assert takes["properties"]["path"]["x-relight-kind"] == "path"
    assert check(takes, {"image": "data:,x", "path": "/data"}) == ()
    assert check(takes, {"image": {"url": "data:,x", "name": "a"}, "path": {"url": "data:,x"}}) == ()
    assert [fault.pointer for fault in check(takes, {"image": "file:///etc/passwd", "path": 3})] == ["/image", "/path"]


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        (Annotated[str, Input(ge=1)], "x: ge=1 says nothing of string"),
        (Annotated[int, Input(max_length=3)], "x: max_length=3 says nothing of integer"),
    ],
)
def test_an_input_that_fits_nothing_is_refused_when_the_app_is_described(annotation: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        schema_of(annotation)


def test_an_input_as_the_default_is_refused_and_said_how_to_write() -> None:
    def function(x: int = Input(ge=1)) -> None: ...  # type: ignore[assignment]

    with pytest.raises(InvalidRequest, match=r"write x: Annotated\[…, relight.Input"):
        method_of(function)


def test_a_worker_makes_no_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "is_worker", True)

    method = method_of(lambda x: x)

    assert (method.input_schema, method.output_schema) == (None, None)


def test_a_model_of_pydantic_says_its_own_schema() -> None:
    pydantic = pytest.importorskip("pydantic")
    item = pydantic.create_model("Item", price=(float, pydantic.Field(gt=0)))
    order = pydantic.create_model("Order", items=(list[item], ...), item=(Optional[item], None))  # type: ignore[valid-type]

    schema = schema_of(Union[order, item])

    assert set(schema["$defs"]) == {"Order", "Order.Item", "Item"}
    assert check(schema, {"items": [{"price": 1}]}) == ()
    assert check(schema, {"items": [{"price": 0}]})[0].pointer == "/items/0/price"


def test_the_fields_of_pydantic_say_what_they_demand() -> None:
    pydantic = pytest.importorskip("pydantic")

    schema = schema_of(Annotated[int, pydantic.Field(ge=3, lt=9, description="some")])

    assert schema == {"type": "integer", "minimum": 3, "exclusiveMaximum": 9, "description": "some"}


@pytest.mark.parametrize(
    ("doc", "found"),
    [
        ("", {}),
        ("Says.\n\nArgs:\n    a: one\n    *b (int): two\n      more\n    c:\n\nReturns:\n    d: three", {"a": "one", "b": "two more", "c": ""}),
        ("Arguments:\n  a_b: x: y", {"a_b": "x: y"}),
    ],
)  # fmt: skip
def test_a_docstring_says_what_parameters_are(doc: str, found: dict[str, str]) -> None:
    assert arguments_in(doc) == found
    assert "Args" not in summary_of(doc)


# -- what the schema accepts, the converter can convert; and what a value becomes in JSON, its schema accepts


class NoFiles:
    def path(self, url: str, name: str) -> pathlib.Path:
        return pathlib.Path(url)


LEAVES: list[Any] = [
    bool, int, float, str, bytes, type(None), uuid.UUID, datetime.date, datetime.datetime, datetime.time, datetime.timedelta,
    decimal.Decimal, Colour, Literal["a", 2], Node, Bare, Options, Pair, Any, Steps, Annotated[str, Input(max_length=2)],
]  # fmt: skip


def wider(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    one = inner.map(lambda kind: list[kind])
    return (
        one
        | inner.map(lambda kind: Optional[kind])
        | inner.map(lambda kind: dict[str, kind])
        | inner.map(lambda kind: dict[int, kind])
        | inner.map(lambda kind: tuple[kind, ...])
        | st.tuples(inner, inner).map(lambda kinds: tuple[kinds[0], kinds[1]])
        | st.tuples(inner, inner).map(lambda kinds: Union[kinds[0], kinds[1]])
    )


ANNOTATIONS = st.recursive(st.sampled_from(LEAVES), wider, max_leaves=4)
TEXTS = st.sampled_from(["", "a", "1", "aGk=", "2026-01-31", "12:00", "2026-01-31T12:00:00Z", str(uuid.UUID(int=1))])
SAID = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 120) | st.sampled_from([0.5, 2.0]) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "1", "x", "name", "below", "left", "right", "until"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(ANNOTATIONS, SAID)
def test_what_the_schema_accepts_the_worker_converts_and_refuses_what_it_refuses(annotation: Any, said: Any) -> None:
    fits = check(schema_of(annotation), said) == ()
    convert = Converters(NoFiles()).of(annotation)
    try:
        value = said if convert is None else convert(said, "/x")
    except InvalidInput:
        # How a Decimal is written, the schema leaves to the type.
        assert not fits or "Decimal" in str(annotation)
        return
    if fits and annotation in (Node, Bare, Pair, Colour, uuid.UUID, datetime.date):
        assert check(schema_of(annotation), to_plain(value)) == ()


@given(st.from_type(Node) | st.from_type(Pair) | st.from_type(Colour) | st.uuids() | st.dates() | st.binary())
def test_what_a_function_returns_its_schema_accepts(value: Any) -> None:
    def function() -> Any: ...

    function.__annotations__["return"] = type(value)
    try:
        said = json.loads(json.dumps(to_plain(value), allow_nan=False))
    except TypeError:
        return  # a number that JSON does not have

    faults = check(method_of(function).output_schema, said)

    assert all("less than 0" in fault.detail for fault in faults)  # what an Input demands, nobody asks of a result
