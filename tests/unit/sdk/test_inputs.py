"""What an Input demands, and when it is looked at."""

from __future__ import annotations

import inspect
import json
import sys
from typing import Annotated, Any

import pytest

from relight.protocol.errors import InputFault, InvalidInput, InvalidRequest
from relight.sdk.function import Fit
from relight.sdk.inputs import Input, constraint_check, constraints_of
from relight.sdk.requests import Reply, error_from


def draw(
    prompt: Annotated[str, Input(min_length=1, pattern="^([a-z]+ ?)+$")],
    steps: Annotated[int | None, Input("How many", ge=1, le=50)] = 20,
    tags: Annotated[list[str], Input(choices=["a", "b"])] = [],  # noqa: B006 - it is read, not changed
    seed: Annotated[int, Input("For people alone", unit="none")] = 0,
) -> None: ...


def plain(x: int) -> None: ...


@pytest.mark.parametrize(
    ("arguments", "pointer", "says"),
    [
        ({"prompt": "a cat", "steps": 99}, "/steps", "steps: 99 is more than 50"),
        ({"prompt": ""}, "/prompt", "it has 0 characters"),
        ({"prompt": "A"}, "/prompt", "'A' does not match"),
        ({"prompt": "a", "tags": ["a", "c"]}, "/tags/1", "'c' is not one of 'a', 'b'"),
    ],
)
def test_what_does_not_meet_it_is_refused_before_it_is_sent(arguments: dict[str, Any], pointer: str, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Fit(draw)(**arguments)

    assert caught.value.errors[0].pointer == pointer
    assert says in str(caught.value)
    assert str(caught.value).startswith("cannot call draw: ")


def test_what_meets_it_fits_and_none_is_not_looked_at() -> None:
    Fit(draw)("a cat", 50, ["a"], 10**9)
    Fit(draw)("a cat", None)


def test_arguments_by_position_are_looked_at_too() -> None:
    with pytest.raises(InvalidInput, match="0 is less than 1"):
        Fit(draw)("a cat", 0)


def test_a_wrong_name_is_still_a_type_error() -> None:
    with pytest.raises(TypeError, match="promt"):
        Fit(draw)("a cat", promt="a")


def test_functions_without_demands_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert constraint_check(plain, "plain") is None
    assert set(constraints_of(draw)) == {"prompt", "steps", "tags"}

    monkeypatch.delitem(sys.modules, "relight.sdk.inputs")
    Fit(draw)("a cat", 99)  # nobody has made an Input in such a process, so nobody looks


def test_a_method_is_looked_at_without_its_object() -> None:
    class Painter:
        def draw(self, steps: Annotated[int, Input(ge=1)]) -> None: ...

    with pytest.raises(InvalidInput, match="0 is less than 1"):
        Fit(Painter.draw, is_bound=True)(0)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"description": 3}, "write the default where it belongs"),
        ({"ge": "1"}, "ge='1'.*it is not a number"),
        ({"le": True}, "le=True.*it is not a number"),
        ({"min_length": 1.5}, "min_length=1.5.*it is not a whole number"),
        ({"max_length": -1}, "max_length=-1.*below 0"),
        ({"multiple_of": 0}, "multiple_of=0.*not above 0"),
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": 3}, "pattern=3.*not a text"),
        ({"choices": "abc"}, "lists of what JSON can say"),
        ({"examples": [object()]}, "lists of what JSON can say"),
    ],
)
def test_an_input_that_means_nothing_is_refused_where_it_is_written(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        Input(**given)


def test_the_default_of_an_annotated_parameter_is_the_functions_own() -> None:
    assert inspect.signature(draw).parameters["steps"].default == 20


def test_a_refusal_of_the_server_keeps_the_place_of_each_fault() -> None:
    body = {"code": "invalid_input", "detail": "cannot call f", "errors": [{"pointer": "/x", "detail": "is odd"}]}

    error = error_from(Reply(status=422, body=json.dumps(body).encode()))

    assert isinstance(error, InvalidInput)
    assert (str(error), error.errors) == ("cannot call f", (InputFault(pointer="/x", detail="is odd"),))
