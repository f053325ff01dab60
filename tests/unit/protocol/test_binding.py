"""Bindings as text: equal ones have equal texts, and what is not one is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.protocol.binding import (
    MAX_BINDING_BYTES,
    TYPES,
    Value,
    from_json,
    parse_binding,
    text_of,
    to_json,
    values_of,
)
from relight.protocol.manifest import Binding, ClassParameter

VALUES = st.one_of(
    st.text(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.binary()
)


@given(st.dictionaries(st.text(min_size=1, max_size=5), VALUES, max_size=4))
def test_what_a_binding_says_comes_back_whatever_the_order(values: dict[str, Value]) -> None:
    types = {name: type(value).__name__ for name, value in values.items()}
    pairs = [(name, to_json(types[name], value)) for name, value in values.items()]

    texts = {text_of(Binding(parameters=tuple(order))) for order in (pairs, reversed(pairs))}

    assert len(texts) == 1
    text = texts.pop()
    assert (text == "") == (not values)
    if len(text) <= MAX_BINDING_BYTES:
        parameters = [ClassParameter(name=name, type=kind) for name, kind in types.items()]
        assert values_of(parameters, parse_binding(text).parameters) == values


def test_a_whole_number_will_do_where_a_float_is_asked_for() -> None:
    assert (to_json("float", 2), from_json("float", 2)) == (2.0, 2.0)
    assert {type(to_json("float", 2)), type(from_json("float", 2))} == {float}


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("int", True, "True is a bool, not an int"),
        ("int", 1.5, "1.5 is a float, not an int"),
        ("str", b"x", "b'x' is a bytes, not a str"),
        ("bool", 1, "1 is an int, not a bool"),
        ("float", "1", "'1' is a str, not a float"),
        ("float", float("nan"), "nan is no number that can be compared"),
        ("float", float("inf"), "inf is no number"),
        ("str", None, "None is a NoneType"),
    ],
)
def test_a_value_of_another_type_is_refused(kind: str, value: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        to_json(kind, value)


@pytest.mark.parametrize(
    ("kind", "said"), [("int", True), ("int", 1.0), ("str", 1), ("bytes", "@"), ("bytes", 1), ("bool", None)]
)
def test_json_that_says_another_type_is_refused(kind: str, said: object) -> None:
    with pytest.raises((TypeError, ValueError), match="is not"):
        from_json(kind, said)  # type: ignore[arg-type]  # what a stranger may send


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x" * (MAX_BINDING_BYTES + 1), "8,193 characters, and 8,192 are allowed"),
        ("{", "Expecting property name"),
        ("[]", 'it is not {"parameters"'),
        ('{"other": {}}', 'it is not {"parameters"'),
        ('{"parameters": []}', "must be objects"),
        ('{"parameters": {"a": NaN}}', "NaN is no JSON"),
        ('{"parameters": {"a": ' + "[" * 4000 + "]" * 4000 + "}}", "it is nested too deeply"),
    ],
)
def test_a_text_that_is_no_binding_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_binding(text)


def test_every_type_of_a_parameter_has_a_name() -> None:
    assert {name: kind.__name__ for name, kind in TYPES.items()} == {name: name for name in TYPES}
