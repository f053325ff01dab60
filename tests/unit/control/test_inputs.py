"""Arguments in JSON, looked at before a call is kept."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import pytest

from relight.control.inputs import check_arguments
from relight.protocol.errors import InvalidInput
from relight.protocol.manifest import FunctionSpec, HostImage, MethodSpec, ParameterSpec
from relight.sdk.file import File
from relight.sdk.inputs import Input
from relight.sdk.options import method_of

IMAGE = HostImage(python="/usr/bin/python3", prefix="/usr", base_prefix="/usr", version="3.11.7")


def draw(
    prompt: str,
    steps: Annotated[int, Input(ge=1)] = 20,
    *,
    image: File | None = None,
    where: pathlib.Path = pathlib.Path(),
) -> None: ...


def total(*numbers: int) -> int: ...


def refused(said: Any, function: Any = draw, network: str = "none") -> list[tuple[str, str]]:
    """Where, and why, arguments are refused."""
    spec = FunctionSpec(name=function.__name__, module="m", qualname="q", image=IMAGE, network=network)
    try:
        check_arguments("shop", spec, method_of(function), said)
    except InvalidInput as error:
        return [(fault.pointer, fault.detail) for fault in error.errors]
    return []


@pytest.mark.parametrize(
    "said", [{"prompt": "x"}, ["x"], ["x", 3], {"prompt": "x", "image": "data:,x", "where": "https://a"}]
)
def test_what_fits_is_let_through(said: Any) -> None:
    assert refused(said) == []


@pytest.mark.parametrize(
    ("said", "pointer", "detail"),
    [
        ({}, "", "'prompt' is missing"),
        (None, "", "'prompt' is missing"),
        ([], "", "'prompt' is missing"),
        ({"promt": "x", "prompt": "x"}, "/promt", "there is no 'promt'; did you mean 'prompt'?"),
        ({"prompt": "x", "steps": 0}, "/steps", "0 is less than 1"),
        (["x", 0], "/1", "steps: 0 is less than 1"),
        (["x", 1, "data:,x"], "", "it has 3 arguments, and takes 2 by position"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place_in_the_body(said: Any, pointer: str, detail: str) -> None:
    assert refused(said) == [(pointer, detail)]


def test_the_error_names_the_function_and_where_to_look() -> None:
    spec = FunctionSpec(name="draw", module="m", qualname="q", image=IMAGE)

    with pytest.raises(InvalidInput) as caught:
        check_arguments("shop", spec, method_of(draw), {"prompt": 1})

    assert str(caught.value) == (
        "cannot call shop/draw: prompt: 1 is not a string; `relight schema shop/draw` shows what it takes"
    )


@pytest.mark.parametrize("image", ["https://example.com/a.png", {"url": "https://example.com/a.png"}])
def test_a_file_that_would_have_to_be_fetched_needs_a_network(image: Any) -> None:
    ((pointer, detail),) = refused({"prompt": "x", "image": image})

    assert pointer == "/image"
    assert "the function has network='none'" in detail
    assert refused({"prompt": "x", "image": image}, network="host") == []


def test_a_function_that_takes_any_number_takes_them() -> None:
    assert refused([1, 2, 3], total) == []


def test_what_was_deployed_without_a_schema_takes_anything() -> None:
    old = MethodSpec(parameters=(ParameterSpec(name="x", annotation="int"),))

    check_arguments("shop", FunctionSpec(name="f", module="m", qualname="q", image=IMAGE), old, {"y": "?"})
