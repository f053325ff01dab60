"""Decorators: what they make, what they refuse, and a run from its beginning to its end."""

from __future__ import annotations

import asyncio
import importlib.util
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import relight
from relight.protocol.errors import Conflict, InvalidRequest
from relight.protocol.inside import LoadingStopped, inside
from relight.protocol.manifest import GpuRequest, Manifest
from relight.sdk import app as app_module
from relight.sdk.app import App


@pytest.fixture
def sample() -> Iterator[ModuleType]:
    """A fresh import of the sample app."""
    spec = importlib.util.spec_from_file_location("sample", Path(__file__).parent / "sample.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sample"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["sample"]


@pytest.fixture
def served(platform: Any, sample: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The sample on a platform that runs its functions."""
    platform.functions |= {"add": sample.add.raw, "Reader.read": lambda page, times=1: page * times}
    monkeypatch.setattr(app_module, "connect", lambda **_: platform.connection())
    return platform


def test_a_manifest_says_all_that_was_said(sample: ModuleType) -> None:
    manifest: Manifest = sample.app.manifest()

    add, later, reader = manifest.functions
    assert (add.name, add.module, add.qualname, add.is_class) == ("add", "sample", "add", False)
    assert add.resources.gpu == (GpuRequest(kind="H100"), GpuRequest(kind="A100", count=2))
    assert (add.resources.memory_mib, add.retries.count, add.timeout_seconds) == (512, 3, 5.0)
    assert add.env == (("A", "1"), ("B", "2"))
    parameters = [(p.name, p.annotation, p.required, p.default, p.is_keyword_only) for p in add.methods[0].parameters]
    assert parameters == [
        ("x", "int", True, None, False),
        ("y", "int", False, 2, False),
        ("*rest", "int", False, None, False),
        ("flag", "bool", False, False, True),
    ]
    assert later.methods[0].is_async
    assert (reader.is_class, [method.name for method in reader.methods]) == (True, ["read"])
    assert not reader.has_snap
    assert reader.methods[0].parameters[0].name == "page"


def test_a_decorated_function_runs_here_when_it_is_called(sample: ModuleType) -> None:
    assert (sample.add(1), sample.add.local(1, 1)) == (3, 2)
    assert asyncio.run(sample.later(1)) == 2
    assert sample.add.__name__ == "add"
    assert sample.add.__doc__ == "Adds."


def test_a_decorated_function_is_pickled_by_its_name(sample: ModuleType) -> None:
    assert pickle.loads(pickle.dumps(sample.add)) is sample.add


def test_an_object_is_entered_once_when_it_is_used_here(sample: ModuleType) -> None:
    reader = sample.Reader()

    assert [reader.read("a", 2), reader.read.local("b")] == ["aa", "b"]
    assert sample.seen == ["load"]


@pytest.mark.parametrize(
    ("args", "message"),
    [((), r"cannot call add: missing a required argument: 'x'"), (("a",), None)],
)
def test_arguments_are_checked_before_anything_is_sent(
    sample: ModuleType, served: Any, args: tuple[Any, ...], message: str | None
) -> None:
    expected = pytest.raises(TypeError, match=message or "can only concatenate str")

    with sample.app.run(), expected:
        sample.add.remote(*args)

    assert len(served.calls) == (0 if message else 1)


def test_a_call_without_a_run_says_what_to_do(sample: ModuleType) -> None:
    with pytest.raises(
        InvalidRequest, match=r"cannot call add elsewhere: its app is not running; open `with app\.run\(\):`"
    ):
        sample.add.remote(1)


def test_a_run_deploys_calls_shows_output_and_ends(
    sample: ModuleType, served: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with sample.app.run():
        run = served.deploys[0].environment
        served.log(run, id=1, source="stdout", text="from the worker")
        served.log(run, id=2, source="stderr", text="to stderr")
        served.log(run, id=2, source="stderr", text="told twice")
        assert sample.add.remote(1, 4) == 5
        assert list(sample.add.map([1, 2], [10, 20])) == [11, 22]
        assert list(sample.add.starmap([(1,), (5, 5)])) == [3, 10]
        assert sample.Reader().read.remote("p", times=2) == "pp"

    assert run.startswith("run-")
    assert served.stops[-1] == (run, True)
    out, err = capsys.readouterr()
    assert (out, err) == ("from the worker\n", "to stderr\n")
    with pytest.raises(InvalidRequest, match="its app is not running"):
        sample.add.remote(1)


def test_the_code_is_sent_once(sample: ModuleType, served: Any) -> None:
    for _ in range(2):
        with sample.app.run():
            pass

    assert [request.method for request in served.requests if "blobs" in request.path] == ["HEAD", "PUT", "HEAD"]
    assert served.deploys[0].manifest.code.digest in served.blobs


def test_a_run_that_ends_waits_for_spawned_calls_and_says_so(
    sample: ModuleType, served: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with sample.app.run():
        call = sample.add.spawn(1)

    assert served.calls[call.id].state is relight.CallState.SUCCEEDED
    assert "relight: waiting for 1 spawned call to end" in capsys.readouterr().err


def test_a_run_that_raises_cancels_what_is_left(
    sample: ModuleType, served: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def fail() -> None:
        with sample.app.run():
            calls.append(sample.add.spawn(1))
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert served.calls[calls[0].id].state is relight.CallState.CANCELLED
    assert "relight: cancelled 1 unfinished call" in capsys.readouterr().err


def test_a_deployed_app_is_called_where_it_is(sample: ModuleType, served: Any) -> None:
    deployed = sample.app.deploy("staging")

    assert (deployed.app, deployed.environment) == ("sample", "staging")
    assert sample.add.remote(2) == 4
    assert {call.environment for call in served.calls.values()} == {"staging"}


def test_an_app_does_not_run_within_itself(sample: ModuleType, served: Any) -> None:
    with sample.app.run(), pytest.raises(InvalidRequest, match="it is running already"), sample.app.run():
        pass


def test_a_run_stops_the_loading_of_a_worker(sample: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "is_loading", True)

    with pytest.raises(LoadingStopped), sample.app.run():
        pass


def test_a_worker_without_a_way_to_the_server_says_so(sample: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "is_worker", True)

    assert relight.is_remote()
    with pytest.raises(InvalidRequest, match="from inside a worker"):
        sample.add.remote(1)


def test_an_app_is_named_after_its_file_and_knows_its_parts(sample: ModuleType) -> None:
    assert App().name == "test_app"
    assert list(sample.app.functions) == ["add", "later"]
    assert sample.app.classes == {"Reader": sample.Reader}
    assert sample.app.entrypoints["main"]() == 3


def one(x: int = 1) -> int:
    return x


def two() -> None: ...


class NoMethod:
    pass


class Asks:
    def __init__(self, lamp: int) -> None:
        self.lamp = lamp

    @relight.method()
    def read(self) -> None: ...


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memroy": 1}, "'memroy' is not an option; did you mean 'memory'"),
        ({"cpu": 0}, "cpu=0 is out of range; make it above 0"),
        ({"template": "no"}, "template='no' is neither True nor False"),
        ({"memory": 1.5}, "memory=1.5 is not a whole number"),
        ({"gpu": "A100:x"}, "cannot read gpu='A100:x'"),
        ({"timeout": "soon"}, "timeout='soon' is not a number"),
        ({"retries": -1}, "retries=-1 is no number of retries"),
        ({"min_workers": 3, "max_workers": 2}, "max_workers=2 is below min_workers=3"),
        ({"network": "moon"}, "network='moon': 'moon' is none of 'egress', 'none', 'host'"),
        ({"env": {"A": 1}}, "is not a mapping of texts to texts"),
        ({"name": "a b"}, "cannot name a function 'a b'"),
    ],
)
def test_an_option_that_cannot_be_is_refused_where_it_stands(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        App("x").function(**options)(one)


def test_what_no_worker_could_run_is_refused() -> None:
    app: Any = App("x")

    for thing, message in (
        (lambda: 1, "workers find functions by name"),
        (print, "not a plain function"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            app.function(thing)
    for kind, message in (
        (NoMethod, "no method has @relight.method"),
        (Asks, "its __init__ has parameters"),
        (one, "not a class"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            app.cls(kind)


def test_two_functions_cannot_have_one_name() -> None:
    app: Any = App("x")
    app.function(one)

    with pytest.raises(Conflict, match="give one of them name="):
        app.function(name="one")(two)
    app.function(one)


def test_an_app_without_functions_is_not_deployed() -> None:
    with pytest.raises(InvalidRequest, match="it has no function"):
        App("x").manifest()


def test_a_method_of_a_class_that_is_not_decorated_says_so(sample: ModuleType) -> None:
    with pytest.raises(InvalidRequest, match=r"the class has no @app\.cls"):
        sample.Plain().read()


def test_a_function_has_its_apps_tags_and_over_them_its_own() -> None:
    app = App("tagged", tags={"team": "search", "tier": "gold"})

    @app.function(serialized=True, tags={"tier": "free"})
    def free() -> None: ...

    @app.function(serialized=True, tags=None)
    def other() -> None: ...

    assert [spec.tags for spec in app.specs()] == [
        (("team", "search"), ("tier", "free")),
        (("team", "search"), ("tier", "gold")),
    ]
    for wrong in ("team=search", {"team": 1}, ["team"]):
        with pytest.raises(InvalidRequest, match=r"cannot make an app: tags=.* is not a mapping of texts to texts"):
            App("tagged", tags=wrong)  # type: ignore[arg-type]  # what it refuses
