"""What a function becomes, and whether arguments fit it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.protocol.errors import InvalidRequest
from relight.protocol.inside import inside
from relight.sdk.app import App
from relight.sdk.function import DeployedApp, Fit, Function, kind_of

app = App("functions")


@app.function
def add(x: int, y: int = 2) -> int:
    return x + y


@app.function
async def later(x: int) -> int:
    return x + 1


@app.function
def count(n: int) -> Iterator[int]:
    yield from range(n)


@app.function
async def count_later(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


def plain(a: int, b: int = 2) -> None: ...
def none() -> None: ...
def only_positions(a: int, /, b: int) -> None: ...
def must_be_named(a: int, *, b: int) -> None: ...
def may_be_named(a: int, *, b: int = 2) -> None: ...
def any_number(a: int, *rest: int) -> None: ...
def anything(*args: int, **kwargs: int) -> None: ...


@given(
    raw=st.sampled_from([plain, none, only_positions, must_be_named, may_be_named, any_number, anything]),
    args=st.lists(st.integers(), max_size=4),
    kwargs=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers()),
)
def test_arguments_fit_exactly_when_the_function_would_take_them(
    raw: Callable[..., None], args: list[int], kwargs: dict[str, int]
) -> None:
    def outcome(check: Callable[..., object]) -> str:
        try:
            check(*args, **kwargs)
        except TypeError as error:
            return str(error)
        return ""

    assert outcome(Fit(raw)) == outcome(inspect.signature(raw).bind)


def test_a_method_is_not_passed_its_object() -> None:
    fit = Fit(plain, is_bound=True)

    fit(1)
    with pytest.raises(TypeError, match="too many positional arguments"):
        fit(1, 2)


def yields() -> Iterator[int]:
    yield 1


async def waits() -> None: ...


async def waits_and_yields() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (plain, "Function"),
        (waits, "AsyncFunction"),
        (yields, "GeneratorFunction"),
        (waits_and_yields, "AsyncGeneratorFunction"),
    ],
)
def test_a_function_becomes_what_it_is(raw: Callable[..., Any], name: str) -> None:
    assert kind_of(raw).__name__ == name


async def test_called_here_it_runs_here() -> None:
    assert (add(1), add.local(1, 3)) == (3, 4)
    assert (await later(1), await later.local(1)) == (2, 2)
    assert (list(count(3)), list(count.local(2))) == ([0, 1, 2], [0, 1])
    assert [x async for x in count_later(3)] == [0, 1, 2]
    assert repr(count) == "<relight function count>"
    assert repr(add.remote) == "<run of <relight function add>>"


def test_inside_a_worker_calls_go_to_its_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "is_worker": True,
        "platform": "/p/s",
        "app": "a",
        "environment": "run-1",
        "call": "call-1",
    }.items():
        monkeypatch.setattr(inside, name, value)

    app = App("workers")
    own = app.session("add")
    other = DeployedApp("other").session("f")
    staging = DeployedApp("other", "staging").session("f")

    assert app.session("add") is own
    assert [str(one.connection.address) for one in (own, other, staging)] == ["/p/s"] * 3
    assert [(one.app, one.environment) for one in (own, other, staging)] == [
        ("a", "run-1"),
        ("other", "run-1"),
        ("other", "staging"),
    ]
    assert own.request(add.callee, (1,), {}).parent == "call-1"


def test_a_worker_without_a_way_out_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "is_worker", True)

    with pytest.raises(InvalidRequest, match="cannot call f elsewhere from inside a worker"):
        Function.from_name("other", "f").remote()
