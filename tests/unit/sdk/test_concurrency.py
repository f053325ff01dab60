"""`@relight.concurrent` and `@relight.batched` as they are written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import relight
from relight.protocol.manifest import Batching, Concurrency, FunctionSpec

app = relight.App("written")


@app.function()
@relight.concurrent(max_inputs=8, target_inputs=4)
def wide(x: int) -> int:
    return x


@app.function()
@relight.concurrent(max_inputs=2)
@relight.batched(max_batch_size=16, wait_ms=20)
def gathered(texts: list[str], n: list[int]) -> list[float]:
    return [float(len(text) * times) for text, times in zip(texts, n, strict=True)]


@app.cls()
@relight.concurrent(max_inputs=3)
class Model:
    @relight.method()
    @relight.batched(max_batch_size=4, wait_ms=0)
    def infer(self, xs: list[int]) -> list[int]:
        return xs

    @relight.method()
    def one(self, x: int) -> int:
        return x


def spec(name: str) -> FunctionSpec:
    return next(one for one in app.specs() if one.name == name)


def test_what_was_written_stands_in_the_manifest() -> None:
    assert spec("wide").concurrency == Concurrency(max_inputs=8, target_inputs=4)
    assert spec("gathered").methods[0].batching == Batching(max_batch_size=16, wait_seconds=0.02)
    assert [one.batching for one in spec("Model").methods] == [Batching(max_batch_size=4, wait_seconds=0.0), None]


def test_a_worker_has_as_many_calls_as_its_inputs_hold() -> None:
    assert [(spec(name).width, spec(name).target_width) for name in ("wide", "gathered", "Model")] == [
        (8, 4),
        (32, 32),
        (12, 12),
    ]


def test_the_schema_of_a_batched_function_is_of_one_call() -> None:
    method = spec("gathered").methods[0]

    assert isinstance(method.input_schema, dict)
    assert method.input_schema["properties"] == {"texts": {"type": "string"}, "n": {"type": "integer"}}
    assert method.output_schema == {"type": "number"}


def test_called_here_it_is_the_plain_function() -> None:
    assert gathered(["ab", "c"], [1, 2]) == [2.0, 2.0]


def test_an_app_that_runs_here_makes_batches_of_one() -> None:
    with app.local():
        assert gathered.remote("ab", n=3) == 6.0
        assert Model().infer.remote(7) == 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_inputs": 0}, r"max_inputs=0 is not a whole number from 1 to 1000"),
        ({"max_inputs": 2000}, "max_inputs=2000"),
        ({"max_inputs": 2, "target_inputs": 3}, r"target_inputs=3 is not a whole number from 1 to 2"),
        ({"max_inputs": True}, "max_inputs=True"),
    ],
)
def test_how_many_must_be_a_number_of_calls(options: dict[str, int], said: str) -> None:
    with pytest.raises(relight.InvalidRequest, match=said):
        relight.concurrent(**options)


@pytest.mark.parametrize("options", [{"max_batch_size": 0, "wait_ms": 1}, {"max_batch_size": 2, "wait_ms": -1}])
def test_a_batch_must_have_a_size_and_a_wait(options: dict[str, int]) -> None:
    with pytest.raises(relight.InvalidRequest, match="cannot decorate"):
        relight.batched(**options)


def test_they_stand_below_what_makes_the_function_remote() -> None:
    with pytest.raises(relight.InvalidRequest, match=r"@relight.concurrent\(\) stands above .*; put it below"):
        relight.concurrent(max_inputs=2)(wide)


def test_what_cannot_be_gathered_is_refused() -> None:
    def yields(xs: list[int]) -> Iterator[int]:
        yield from xs

    def takes_any(*xs: list[int]) -> list[int]:
        return list(xs[0])

    batch = relight.batched(max_batch_size=2, wait_ms=1)
    with pytest.raises(relight.InvalidRequest, match="it yields; return a list"):
        batch(yields)  # type: ignore[arg-type]  # it is refused
    with pytest.raises(relight.InvalidRequest, match="name each of its parameters"):
        batch(takes_any)
