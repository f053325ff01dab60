"""From JSON to what annotations ask for, and back."""
# ruff: noqa: UP007, UP045 - users write unions in both ways

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, Union

import pytest

from relight.protocol.annotations import hints_of, meaning_of
from relight.protocol.conversion import Converters
from relight.protocol.errors import InputFault, InvalidInput
from relight.protocol.plain import to_plain
from relight.protocol.schema import refuse

UTC = datetime.timezone.utc
NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=UTC)
ID = uuid.UUID(int=7)
Age = NewType("Age", int)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Shape(enum.Enum):
    ROUND = object()


@dataclasses.dataclass
class Node:
    name: str
    below: list[Node] = dataclasses.field(default_factory=list)
    at: datetime.datetime | None = None


@dataclasses.dataclass
class Positive:
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError("n is below 0")


class Options(TypedDict, total=False):
    until: datetime.date


class Pair(NamedTuple):
    left: bytes
    right: int = 0


class OnlyPaths:
    """Files as paths, of whatever text."""

    def path(self, url: str, name: str) -> Path:
        return Path(f"{name or 'unnamed'}={url}")


def converted(annotation: Any, value: Any) -> Any:
    convert = Converters(OnlyPaths()).of(annotation)
    return value if convert is None else convert(value, "/x")


@pytest.mark.parametrize(
    ("annotation", "said", "value"),
    [
        (int, 7, 7),
        (int, 7.0, 7),
        (float, 7, 7.0),
        (bool, True, True),
        (type(None), None, None),
        (bytes, "aGk=", b"hi"),
        (bytearray, "aGk=", bytearray(b"hi")),
        (datetime.datetime, "2026-01-31T12:00:00Z", NOON),
        (datetime.date, "2026-01-31", NOON.date()),
        (datetime.time, "12:00:00", datetime.time(12)),
        (datetime.timedelta, 90, datetime.timedelta(minutes=1.5)),
        (uuid.UUID, str(ID), ID),
        (decimal.Decimal, "0.10", decimal.Decimal("0.10")),
        (decimal.Decimal, 1, decimal.Decimal(1)),
        (Age, 3.0, 3),
        (Annotated[int, "a remark"], 3.0, 3),
        (Colour, 2, Colour.BLUE),
        (Colour, "BLUE", Colour.BLUE),
        (Shape, "ROUND", Shape.ROUND),
        (Literal["a", 1], 1, 1),
        (Literal["a", 1], 1.0, 1),
        (Literal[Colour.RED], 1, Colour.RED),
        (Optional[int], None, None),
        (Union[int, str], "7", "7"),
        (Union[datetime.date, str], "soon", "soon"),
        (Union[datetime.date, str], "2026-01-31", "2026-01-31"),
        (Union[datetime.date, None], "2026-01-31", NOON.date()),
        (Union[float, int], 3, 3),
        (list[datetime.date], ["2026-01-31"], [NOON.date()]),
        (Sequence[float], [1], [1.0]),
        (set[int], [1, 2.0], {1, 2}),
        (frozenset[str], ["a"], frozenset("a")),
        (tuple[int, ...], [1, 2.0], (1, 2)),
        (tuple[bytes, int], ["aGk=", 1], (b"hi", 1)),
        (tuple, [1], (1,)),
        (collections.deque[int], [1], collections.deque([1])),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (Mapping[Colour, int], {"RED": 1}, {Colour.RED: 1}),
        (Node, {"name": "a", "below": [{"name": "b", "at": "2026-01-31T12:00:00Z"}]}, Node("a", [Node("b", at=NOON)])),
        (Options, {"until": "2026-01-31"}, {"until": NOON.date()}),
        (Pair, {"left": "aGk="}, Pair(b"hi")),
        (Path, "/data", Path("unnamed=/data")),
        (Path, {"url": "data:,x", "name": "a.txt"}, Path("a.txt=data:,x")),
        (Any, {"a": [1]}, {"a": [1]}),
        ("Missing", 3, 3),
        (collections.Counter, {"a": 1}, {"a": 1}),
    ],
)
def test_json_becomes_what_the_annotation_says(annotation: Any, said: Any, value: Any) -> None:
    found = converted(annotation, said)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("annotation", "said", "pointer", "detail"),
    [
        (int, "7", "/x", "'7' is not an integer"),
        (int, True, "/x", "True is not an integer"),
        (float, "a", "/x", "'a' is not a number"),
        (str, 1, "/x", "1 is not a string"),
        (type(None), 0, "/x", "0 is not null"),
        (bytes, "?", "/x", "base64"),
        (decimal.Decimal, "one", "/x", "'one' is not a number"),
        (decimal.Decimal, [], "/x", "list is not a number"),
        (datetime.datetime, "noon", "/x", "noon"),
        (Colour, 3, "/x", "3 is not one of 1, 2"),
        (Literal["a"], "b", "/x", "'b' is not one of 'a'"),
        (Literal["a", 1], True, "/x", "True is not one of 'a', 1"),
        (list[int], "ab", "/x", "'ab' is not an array"),
        (list[int], [1, "b"], "/x/1", "'b' is not an integer"),
        (tuple[int, int], [1], "/x", "it has 1 items, and must have 2"),
        (set[Any], [[1]], "/x", "unhashable"),
        (dict[str, int], [1], "/x", "list is not an object"),
        (dict[str, int], {"a": "b"}, "/x/a", "'b' is not an integer"),
        (dict[int, int], {"a": 1}, "/x/a", "the key 'a' is not a number"),
        (Node, [], "/x", "list is not an object"),
        (Node, {"name": "a", "below": [{"name": 1}]}, "/x/below/0/name", "1 is not a string"),
        (Node, {"nme": "a"}, "/x", "unexpected keyword argument 'nme'"),
        (Positive, {"n": -1}, "/x", "n is below 0"),
        (Union[int, Node], {"name": 1}, "/x/name", "1 is not a string"),
        (Union[int, bytes], [], "/x", "is not"),
        (Path, 3, "/x", "a file is a data: URL"),
    ],
)
def test_what_cannot_be_converted_is_told_with_its_place(annotation: Any, said: Any, pointer: str, detail: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        converted(annotation, said)

    assert caught.value.errors[0].pointer == pointer
    assert detail in caught.value.errors[0].detail


def test_what_needs_no_converting_has_no_converter() -> None:
    converters = Converters(OnlyPaths())

    assert converters.of(Any) is None
    assert converters.of(object()) is None
    assert converters.of(collections.Counter) is None


def test_an_error_names_the_first_three_faults_and_keeps_all() -> None:
    faults = [InputFault(pointer=f"/a/{n}", detail="is odd") for n in range(5)]

    error = refuse(faults, "shop/f", "look there")

    assert str(error) == "cannot call shop/f: a.0: is odd; a.1: is odd; a.2: is odd; and 2 more; look there"
    assert len(error.errors) == 5
    assert (error.code, error.status) == ("invalid_input", 422)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((1, {"a": 2.5}), [1, {"a": 2.5}]),
        ({3}, [3]),
        (b"hi", "aGk="),
        (NOON, "2026-01-31T12:00:00+00:00"),
        (NOON.date(), "2026-01-31"),
        (datetime.timedelta(seconds=1.5), 1.5),
        (ID, str(ID)),
        (decimal.Decimal("0.10"), "0.10"),
        (Path("/a/b"), "/a/b"),
        (Colour.BLUE, 2),
        (Shape.ROUND, "ROUND"),
        (Node("a", [Node("b")]), {"name": "a", "below": [{"name": "b", "below": [], "at": None}], "at": None}),
        (Pair(b"hi", 1), {"left": "aGk=", "right": 1}),
        ({Colour.RED: 1, 2: "x"}, {"1": 1, "2": "x"}),
        (collections.deque([1]), [1]),
    ],
)
def test_what_a_function_returns_becomes_json(value: Any, said: Any) -> None:
    plain = to_plain(value)

    assert plain == said
    json.dumps(plain, allow_nan=False)


@pytest.mark.parametrize("value", [object(), float("nan"), {("a", "b"): 1}, {True: 1}, [object()], lambda: 0])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        to_plain(value)


@pytest.mark.parametrize(
    "value", [Node("a", [Node("b", at=NOON)]), Pair(b"x", 2), NOON, Colour.RED, ID, {"a": (1, b"x")}]
)
def test_what_was_said_in_json_can_be_read_again(value: Any) -> None:
    annotation = dict[str, tuple[int, bytes]] if isinstance(value, dict) else type(value)

    assert converted(annotation, json.loads(json.dumps(to_plain(value)))) == value


def test_an_annotation_that_cannot_be_read_leaves_the_others_be() -> None:
    def function(a: Missing, b: int, c: list[Nowhere]) -> str:  # type: ignore[name-defined]  # noqa: F821
        return ""

    hints = hints_of(function)

    assert (hints["b"], hints["return"]) == (int, str)
    assert hints["a"] is hints["c"] is Any


def test_wrappers_of_an_annotation_are_taken_off() -> None:
    nested = Annotated[Annotated[Age, 1], 2]

    assert meaning_of(nested).kind is int
    assert meaning_of(nested).remarks == (1, 2)
    assert meaning_of(None).kind is type(None)


def test_a_model_of_pydantic_is_made_by_its_own_rules() -> None:
    pydantic = pytest.importorskip("pydantic")
    order = pydantic.create_model("Order", count=(int, pydantic.Field(ge=1)), at=(Optional[datetime.datetime], None))

    made = converted(order, {"count": 2, "at": "2026-01-31T12:00:00Z"})
    with pytest.raises(InvalidInput) as caught:
        converted(list[order], [{"count": 0}])

    assert (made.count, made.at) == (2, NOON)
    assert to_plain(made) == {"count": 2, "at": "2026-01-31T12:00:00Z"}
    assert caught.value.errors[0].pointer == "/x/0/count"
    assert "greater than or equal to 1" in str(caught.value)
