"""What the check of values accepts and refuses, and that it agrees with a checker of renown."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.protocol.errors import InputFault
from relight.protocol.patterns import is_bounded
from relight.protocol.schema import MOST_DEPTH, MOST_FAULTS, check, describe, resolve

NODE: Any = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "below": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
    "required": ["name"],
    "additionalProperties": False,
}
TREE: Any = {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}}
SHAPE: Any = {"type": "object", "properties": {"prompt": {"type": "string"}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "value", "pointer", "detail"),
    [
        ({"type": "integer"}, "7", "", "'7' is not an integer"),
        ({"type": "integer"}, True, "", "true is not an integer"),
        ({"type": "integer"}, 1.5, "", "1.5 is not an integer"),
        ({"type": ["number", "string"]}, None, "", "null is not a number or a string"),
        ({"type": "string"}, {"a": 1}, "", "an object is not a string"),
        ({"minimum": 1}, 0, "", "0 is less than 1"),
        ({"maximum": 10}, 99, "", "99 is more than 10"),
        ({"exclusiveMinimum": 0}, 0, "", "0 is not above 0"),
        ({"exclusiveMaximum": 1}, 1.0, "", "1.0 is not below 1"),
        ({"multipleOf": 8}, 12, "", "12 is not a multiple of 8"),
        ({"multipleOf": 0.1}, 0.25, "", "0.25 is not a multiple of 0.1"),
        ({"enum": ["fast", "slow"]}, "fats", "", "'fats' is not one of 'fast', 'slow'; did you mean 'fast'?"),
        ({"enum": [1, None]}, True, "", "true is not one of 1, null"),
        ({"const": {"a": [1]}}, {"a": [2]}, "", "an object is not an object"),
        ({"minLength": 2}, "a", "", "it has 1 characters, and must have at least 2"),
        ({"maxItems": 1}, [1, 2], "", "it has 2 items, and must have at most 1"),
        ({"minProperties": 1}, {}, "", "it has 0 entries, and must have at least 1"),
        ({"uniqueItems": True}, [1, "a", 1], "", "1 is in it twice"),
        ({"pattern": "^[a-z]+$"}, "A", "", "'A' does not match ^[a-z]+$"),
        ({"format": "date-time"}, "noon", "", "'noon' is not a date-time as in 2026-01-31T12:00:00Z"),
        ({"format": "uuid"}, "1", "", "'1' is not a uuid as in 00000000-0000-0000-0000-000000000000"),
        ({"contentEncoding": "base64"}, "?", "", "it is not base64"),
        (SHAPE, {"promt": "x"}, "/promt", "there is no 'promt'; did you mean 'prompt'?"),
        (SHAPE, {"zzz": 1}, "/zzz", "there is no 'zzz'; there is 'prompt'"),
        (TREE, {"name": "a", "below": [{"name": "b"}, {"name": 3}]}, "/below/1/name", "3 is not a string"),
        (TREE, {}, "", "'name' is missing"),
        ({"prefixItems": [{"type": "string"}], "items": False}, ["a", 1], "", "2 items are more than 1"),
        ({"prefixItems": [{"type": "string"}]}, [1], "/0", "1 is not a string"),
        ({"additionalProperties": {"type": "integer"}}, {"a/b~c": "x"}, "/a~1b~0c", "'x' is not an integer"),
        ({"propertyNames": {"pattern": "^[0-9]+$"}}, {"a": 1}, "/a", "'a' does not match ^[0-9]+$"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "x", "", "'x' is not an integer or null"),
        ({"anyOf": [{"minimum": 5, "type": "integer"}, {"type": "null"}]}, 3, "", "3 is less than 5"),
        ({"anyOf": [NODE, {"type": "null"}]}, {"name": 1}, "/name", "1 is not a string"),
        ({"allOf": [{"minimum": 3}]}, 1, "", "1 is less than 3"),
        (False, 1, "", "nothing may be here"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place_and_its_value(
    schema: Any, value: Any, pointer: str, detail: str
) -> None:
    assert check(schema, value) == (InputFault(pointer=pointer, detail=detail),)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, object()),
        (True, {"a": 1}),
        ({"type": "integer"}, 2.0),
        ({"type": "number"}, 2),
        ({"enum": [1]}, 1.0),
        ({"multipleOf": 0.1}, 0.3),
        ({"minimum": 1}, "no number"),
        ({"maxLength": 1}, [1, 2]),
        ({"format": "date-time"}, "2026-01-31T12:00:00Z"),
        ({"format": "email"}, "any text"),
        ({"$ref": "#/$defs/Missing"}, 1),
        ({"pattern": "(?<unheard-of"}, "x"),
        ({"unheard": "of"}, 1),
        (TREE, {"name": "a", "below": [{"name": "b", "below": []}]}),
        ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, 3),
    ],
)
def test_what_fits_is_accepted(schema: Any, value: Any) -> None:
    assert check(schema, value) == ()


def test_a_value_with_many_faults_tells_of_some() -> None:
    assert len(check({"items": {"type": "string"}}, list(range(1000)))) == MOST_FAULTS


def test_references_in_a_circle_and_deep_values_end() -> None:
    circle = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}
    deep: Any = {"name": "a"}
    for _ in range(200):
        deep = {"name": "a", "below": [deep]}

    assert [fault.detail for fault in check(circle, 1)] == [f"it is nested deeper than {MOST_DEPTH}"]
    assert f"deeper than {MOST_DEPTH}" in check(TREE, deep)[0].detail
    assert resolve({"$ref": "#/$defs/A"}, circle) == {}


def test_a_schema_that_is_nested_without_end_is_no_fault_of_the_server() -> None:
    nested: Any = {"type": "string"}
    for _ in range(5000):
        nested = {"anyOf": [nested]}

    assert "nested" in check(nested, 1)[0].detail


@pytest.mark.slow
def test_branches_within_branches_cannot_take_for_ever() -> None:
    either = {"anyOf": [{"items": {"$ref": "#/$defs/E"}, "type": "array"}] * 2 + [{"type": "null"}]}
    value: Any = 1
    for _ in range(40):
        value = [value]

    began = time.thread_time()
    check({"$ref": "#/$defs/E", "$defs": {"E": either}}, value)

    assert time.thread_time() - began < 20


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*b", r"(x+x+)+y", r"(.)\1+", "a*a*a*a*b", "(?=a*)b", "a?" * 30, "[ab]{1,500}.{1,500}c"]
)
def test_a_pattern_that_could_take_long_is_left_to_whoever_it_hurts(pattern: str) -> None:
    text = "a" * 5000

    assert not is_bounded(pattern, len(text))
    assert check({"pattern": pattern}, text) == ()


def test_a_pattern_that_could_take_long_is_tried_where_that_is_right() -> None:
    said = check({"pattern": "^([a-z]+-?)+$"}, "A", tries_all_patterns=True)

    assert said[0].detail == "'A' does not match ^([a-z]+-?)+$"


@pytest.mark.parametrize(
    "pattern", ["^[a-z][a-z0-9-]*$", r"^\d{4}-\d{2}$", r"^\w+@\w+\.com$", "^(data:|https://)", "[(*+?{|]", r"^[])}]+$"]
)
def test_patterns_of_the_usual_kind_are_tried(pattern: str) -> None:
    assert is_bounded(pattern, 100)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "a value"),
        (True, "a value"),
        ({"title": "Size"}, "a Size"),
        ({"$ref": "#/$defs/Node"}, "a Node"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "a string or null"),
    ],
)
def test_a_schema_is_described_in_words(schema: Any, words: str) -> None:
    assert describe(schema) == words


# -- what another checker says


SCALARS = (
    st.none() | st.booleans() | st.integers(-20, 20) | st.sampled_from([0.5, 1.0, -2.5]) | st.text("ab1", max_size=4)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)
)


def schemas_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"]),
            "enum": st.lists(SCALARS, min_size=1, max_size=4),
            "minimum": st.integers(-5, 5),
            "exclusiveMaximum": st.integers(-5, 5),
            "multipleOf": st.integers(1, 4),
            "minLength": st.integers(0, 3),
            "maxItems": st.integers(0, 3),
            "maxProperties": st.integers(0, 3),
            "uniqueItems": st.booleans(),
            "pattern": st.sampled_from(["^a", "b$", "^[0-9]*$"]),
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "properties": st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
            "required": st.lists(st.text("ab", max_size=2), max_size=2, unique=True),
            "additionalProperties": st.booleans() | inner,
            "propertyNames": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=3),
            "allOf": st.lists(inner, min_size=1, max_size=2),
        },
    )


SCHEMAS = st.recursive(st.booleans() | schemas_of(st.just({})), schemas_of, max_leaves=6)


@given(SCHEMAS, VALUES)
def test_it_agrees_with_jsonschema(schema: Any, value: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")

    assert (check(schema, value) == ()) == jsonschema.Draft202012Validator(schema).is_valid(value)
