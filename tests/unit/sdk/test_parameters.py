"""Classes with parameters: what a constructor takes, what it refuses, and what travels with a call."""

from __future__ import annotations

import inspect
import json
import pickle
from typing import Any

import pytest

import relight
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import ClassParameter
from relight.sdk.app import App
from relight.sdk.options import CALL_NAMES, FunctionOptions

app = App("parameters")


@app.cls()
class Model:
    """All five types, one of them required."""

    size: str = relight.parameter()
    heat: float = relight.parameter(default=1)
    layers: int = relight.parameter(default=3)
    is_quick: bool = relight.parameter(default=False)
    salt: bytes = relight.parameter(default=b"\x00")
    loaded: list[str] = relight.parameter(init=False)
    seen: int = relight.parameter(default=0, init=False)

    @relight.enter()
    def load(self) -> None:
        self.loaded = [self.size]

    @relight.method()
    def generate(self, x: int) -> tuple[str, int]:
        return self.loaded[0], x

    @relight.method()
    async def later(self, x: int) -> str:
        return f"{self.size}{x}"

    @relight.method()
    def parts(self, n: int) -> Any:
        yield from [self.size] * n


@app.cls
class Large(Model):
    """Has all that the other has, and one more."""

    width: int = relight.parameter(default=1)


def binding_of(method: Any) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(method.callee.binding or "{}")
    return said


def test_an_object_has_its_values_and_the_defaults() -> None:
    model = Model(size="7b", heat=2, salt=b"s")

    assert (model.size, model.heat, model.layers, model.is_quick, model.salt) == ("7b", 2.0, 3, False, b"s")
    assert (type(model.heat), model.seen) == (float, 0)
    with pytest.raises(AttributeError, match=r"Model\.loaded has no value yet"):
        _ = model.loaded
    assert model.generate(1) == ("7b", 1)
    assert list(model.parts.local(2)) == ["7b", "7b"]


async def test_an_async_method_runs_here_on_the_callers_loop() -> None:
    assert await Model(size="7b").later(1) == "7b1"


def test_what_was_given_travels_with_a_call_and_nothing_else() -> None:
    model = Model(size="7b", salt=b"\xff")

    assert binding_of(model.generate) == {"parameters": {"size": "7b", "salt": "/w=="}}
    assert binding_of(model.parts) == binding_of(model.generate)
    assert binding_of(Large(size="x", width=2).generate) == {"parameters": {"size": "x", "width": 2}}


def test_the_manifest_says_which_parameters_there_are() -> None:
    model, large, _ = app.specs()

    assert model.parameters == (
        ClassParameter(name="size", type="str"),
        ClassParameter(name="heat", type="float", required=False, default=1.0),
        ClassParameter(name="layers", type="int", required=False, default=3),
        ClassParameter(name="is_quick", type="bool", required=False, default=False),
        ClassParameter(name="salt", type="bytes", required=False, default="AA=="),
    )
    assert large.parameters == (*model.parameters, ClassParameter(name="width", type="int", required=False, default=1))
    assert str(inspect.signature(Model)).startswith("(*, size: str, heat: float = 1.0, layers: int = 3")


def test_an_object_can_be_pickled() -> None:
    again = pickle.loads(pickle.dumps(Model(size="7b")))

    assert (again.size, binding_of(again.generate)) == ("7b", {"parameters": {"size": "7b"}})


@pytest.mark.parametrize(
    ("args", "values", "message"),
    [
        (
            (),
            {},
            r"cannot make a Model: its parameter 'size' has no value and no default; give it one: Model\(size=…\)",
        ),
        ((), {"sise": "7b"}, "it has no parameter 'sise'; did you mean 'size'?"),
        ((), {"q": 1}, "it has no parameter 'q'; it has 'size', 'heat'"),
        (("7b",), {}, "cannot make a Model: '7b' has no name; give its parameters by name: size=…"),
        ((), {"size": 7}, "its parameter 'size' is of type str: 7 is an int, not a str"),
        ((), {"size": "7b", "layers": True}, "True is a bool, not an int"),
        ((), {"size": "7b", "heat": float("nan")}, "nan is no number"),
        ((), {"size": "7b", "heat": 10**400}, "its parameter 'heat' is of type float"),
        ((), {"size": "7b", "seen": 1}, "it has no parameter 'seen'"),
    ],
)
def test_values_that_cannot_be_are_refused_where_they_stand(
    args: tuple[Any, ...], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        Model(*args, **values)


class HasInit:
    size: str = relight.parameter(default="7b")

    def __init__(self) -> None:
        self.lamp = 1

    @relight.method()
    def read(self) -> None: ...


class Untyped:
    size = relight.parameter(default="7b")

    @relight.method()
    def read(self) -> None: ...


class Strange:
    size: list[int] = relight.parameter()

    @relight.method()
    def read(self) -> None: ...


class Unknown:
    size: Nowhere = relight.parameter()  # noqa: F821 - what a user may write

    @relight.method()
    def read(self) -> None: ...


class Wrong:
    size: int = relight.parameter(default="7b")

    @relight.method()
    def read(self) -> None: ...


class Asks:
    def __init__(self, lamp: int) -> None:
        self.lamp = lamp

    @relight.method()
    def read(self) -> None: ...


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (HasInit, "it has parameters and an __init__ of its own"),
        (Untyped, "its parameter 'size' has no type; write size: str = relight.parameter()"),
        (Strange, "its parameter 'size' is of type list, and only str, int, float, bool, bytes can be"),
        (Unknown, "its parameter 'size' is of type Nowhere"),
        (Wrong, "the default of its parameter 'size' does not fit: '7b' is a str, not an int"),
        (Asks, "its __init__ has parameters, which workers cannot give it; declare each in the class"),
    ],
)
def test_a_class_that_cannot_be_made_by_workers_is_refused(kind: type, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        App("other").cls(kind)


# -- options of some calls


@app.function(timeout=60, env={"A": "1"})
def add(x: int, y: int = 1) -> int:
    return x + y


def test_a_function_with_other_options_is_the_same_function() -> None:
    other = add.with_options(gpu=["A100:2"], timeout=5, retries=3, env={"B": "2"}, queue_timeout=None)

    assert binding_of(other) == {
        "options": {
            "gpu": [{"kind": "A100", "count": 2}],
            "timeout_seconds": 5.0,
            "retries": {"count": 3},
            "env": [["B", "2"]],
            "queue_timeout_seconds": None,
        }
    }
    assert (other(1), other.local(1, 2), other.__name__) == (2, 3, "add")
    assert binding_of(add) == {}
    with pytest.raises(TypeError, match=r"cannot call add: missing a required argument: 'x'"):
        other.remote()


def test_later_options_win_and_variables_and_tags_add_up() -> None:
    other = add.with_options(timeout=5, env={"A": "1"}).with_options(timeout=6, cpu=2, env={"B": "2"})
    tagged = add.with_options(tags={"team": "ads"}).with_options(tags={"customer": "acme"})

    assert binding_of(other)["options"] == {"cpu": 2.0, "timeout_seconds": 6.0, "env": [["A", "1"], ["B", "2"]]}
    assert binding_of(tagged)["options"] == {"tags": [["team", "ads"], ["customer", "acme"]]}


def test_every_option_of_a_call_is_understood() -> None:
    other = add.with_options(
        cpu=1,
        memory=64,
        ephemeral_disk=64,
        gpu="A100",
        timeout=1,
        startup_timeout=1,
        queue_timeout=1,
        grace=1,
        retries=relight.Retries(count=1),
        min_workers=1,
        max_workers=2,
        scaledown_window=1,
        buffer_workers=1,
        network="host",
        env={},
        tags={},
        session="mine",
        affinity="strict",
    )

    assert len(binding_of(other)["options"]) + len(("session", "affinity")) == len(CALL_NAMES)
    assert (other.callee.session, other.callee.is_strict) == ("mine", True)


def test_a_session_makes_no_workers_of_its_own() -> None:
    assert add.with_options(session="mine").callee.binding == add.callee.binding
    assert Model.with_options(session="mine")(size="13b").generate.callee.session == "mine"  # type: ignore[attr-defined]
    named = relight.Cls.from_name("a", "Model").with_options(session="mine", affinity="strict").with_options(cpu=2)
    assert (named().generate.callee.session, named().generate.callee.is_strict) == ("mine", True)


@pytest.mark.parametrize("given", [{"session": ""}, {"session": "x" * 256}, {"affinity": "sticky"}])
def test_a_session_has_a_name_and_is_soft_or_strict(given: dict[str, str]) -> None:
    with pytest.raises(relight.InvalidRequest, match="cannot change the options of add"):
        add.with_options(**given)  # type: ignore[misc]  # some are refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"timeot": 1}, "cannot change the options of add: 'timeot' is not an option; did you mean 'timeout'?"),
        ({"image": None}, "cannot change the options of add: 'image' is not an option"),
        ({"cpu": 0}, "cannot change the options of add: cpu=0 is out of range"),
        ({"timeout": float("inf")}, "timeout=inf is out of range"),
        ({"retries": -1}, "cannot change the options of add: retries=-1"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_the_call(given: FunctionOptions, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        add.with_options(**given)


def test_a_function_with_options_is_pickled_with_them() -> None:
    again = pickle.loads(pickle.dumps(add.with_options(timeout=5).with_options(cpu=1)))

    assert binding_of(again) == {"options": {"timeout_seconds": 5.0, "cpu": 1.0}}
    assert again(1) == 2


def test_a_class_with_options_makes_objects_of_it() -> None:
    fast = relight.with_options(Model, timeout=5).with_options(cpu=2)
    model = fast(size="x")

    assert isinstance(model, Model)
    expected = {"parameters": {"size": "x"}, "options": {"timeout_seconds": 5.0, "cpu": 2.0}}
    assert binding_of(model.generate) == expected
    assert model.generate(1) == ("x", 1)
    assert binding_of(Model(size="x").generate.with_options(timeout=5, cpu=2)) == expected
    with pytest.raises(InvalidRequest, match=r"it has no @app\.cls\(\)"):
        relight.with_options(HasInit, timeout=5)


# -- by name


def test_a_class_is_known_by_its_name_alone() -> None:
    named = relight.Cls.from_name("app", "Model").with_options(timeout=5)
    method = named(size="7b", salt=b"\xff").generate

    assert (method.callee.function, method.callee.method) == ("Model", "generate")
    assert binding_of(method) == {"parameters": {"size": "7b", "salt": "/w=="}, "options": {"timeout_seconds": 5.0}}
    with pytest.raises(TypeError, match="its parameter 'size' is a list, and only str"):
        named(size=[])
    with pytest.raises(TypeError, match="its parameter 'heat' cannot be sent: inf is no number"):
        named(heat=float("inf"))
    assert not hasattr(named(), "_repr_html_")
