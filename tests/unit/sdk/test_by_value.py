"""Functions and classes that no module has: what is sent of them, and what is said anew."""

from __future__ import annotations

import importlib
import io
import pickle
import sys
import tarfile
import textwrap
import threading
from types import SimpleNamespace
from typing import Any

import pytest

import relight
from relight.protocol.errors import InvalidRequest, TooLarge, ValueNotPortable
from relight.protocol.inside import inside
from relight.protocol.values import dump_input, load_function, load_input
from relight.sdk import app as app_module
from relight.sdk import bundle
from relight.sdk.app import App
from relight.sdk.function import DeployedApp

CELLS = """
    import relight
    app = relight.App()
    scale = 10

    def plain(x):
        return x * scale

    @app.function(timeout=5)
    def f(x):
        return plain(x)

    @app.function
    def outer(x):
        return f.remote(x)

    @app.cls()
    class Model:
        size: str = relight.parameter(default="7b")

        @relight.method()
        def generate(self, x):
            return (self.size, x)
"""


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> dict[str, Any]:
    """What a notebook has after its first cells: globals that are no module's."""
    monkeypatch.chdir(tmp_path)
    globals_: dict[str, Any] = {"__name__": "cells_of_test"}
    run_cell(globals_, CELLS)
    return globals_


def run_cell(globals_: dict[str, Any], code: str) -> None:
    exec(textwrap.dedent(code), globals_)


def sent_by(app: App) -> dict[str, bytes]:
    """What goes by value in the bundle that the app sends, by its name there."""
    _, code = app._pack()
    with tarfile.open(fileobj=io.BytesIO(code)) as archive:
        files = {entry.name: archive.extractfile(entry) for entry in archive}
    return {name: file.read() for name, file in files.items() if file is not None}


def test_what_no_module_has_is_sent_by_value(cells: dict[str, Any]) -> None:
    app = cells["app"]

    f, outer, model = app.manifest().functions
    files = sent_by(app)

    assert (f.module, f.qualname, f.serialized, f.timeout_seconds) == ("", "f", ".relight/f.pickle", 5.0)
    assert (outer.serialized, model.serialized, model.is_class) == (
        ".relight/outer.pickle",
        ".relight/Model.pickle",
        True,
    )
    assert load_function(files[f.serialized])(4) == 40
    made = load_function(files[model.serialized])(size="13b")
    assert (made.size, made.generate.local(1)) == ("13b", ("13b", 1))


def test_a_function_that_calls_another_takes_along_the_way_to_it(
    cells: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = load_function(sent_by(cells["app"])[".relight/outer.pickle"])
    there = raw.__globals__["f"]

    assert (there.callee.function, there.local(2)) == ("f", 20)
    assert isinstance(there._sessions, DeployedApp)
    monkeypatch.setattr(inside, "is_worker", True)
    with pytest.raises(InvalidRequest, match="cannot call f elsewhere from inside a worker"):
        raw(1)


def test_a_function_of_a_notebook_can_be_an_argument(cells: dict[str, Any]) -> None:
    with_options = cells["f"].with_options(timeout=5)

    for one in (cells["f"], with_options):
        again = load_input(dump_input((one,), {}))[0][0]
        assert (again(3), again.callee) == (30, one.callee)


def test_a_cell_that_runs_again_says_anew_what_it_says(cells: dict[str, Any]) -> None:
    run_cell(cells, "@app.function()\ndef f(x):\n    return -x")
    run_cell(cells, "@app.function(name='outer')\ndef other(x):\n    return x")

    files = sent_by(cells["app"])

    assert load_function(files[".relight/f.pickle"])(4) == -4
    assert load_function(files[".relight/outer.pickle"])(4) == 4
    assert [spec.name for spec in cells["app"].specs()] == ["f", "outer", "Model"]


def test_what_is_decorated_while_the_app_runs_is_sent_before_the_next_call(
    cells: dict[str, Any], platform: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = cells["app"]
    monkeypatch.setattr(app_module, "connect", lambda **_: platform.connection())
    platform.functions["f"] = lambda x: x

    assert app.start() is app.start()
    cells["f"].remote(1)
    run_cell(cells, "@app.function()\ndef g(x):\n    return -x")
    cells["f"].remote(1)
    cells["f"].remote(1)
    app.stop()
    app.stop()

    run = platform.deploys[0].environment
    assert [(one.environment, len(one.manifest.functions)) for one in platform.deploys] == [(run, 3), (run, 4)]
    assert platform.stops[-1] == (run, True)
    with pytest.raises(InvalidRequest, match="its app is not running"):
        cells["f"].remote(1)


def test_what_a_cell_of_a_notebook_changes_is_sent_before_the_next_call(
    cells: dict[str, Any], platform: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = SimpleNamespace(execution_count=1)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(app_module, "connect", lambda **_: platform.connection())
    platform.functions["f"] = lambda x: x

    with cells["app"].run():
        for number, scale in enumerate((10, 10, 20, 20), 2):
            shell.execution_count = number
            cells["scale"] = scale
            cells["f"].remote(1)
            cells["f"].remote(1)

    sent = [one.manifest.code.digest for one in platform.deploys]
    assert (len(sent), len(set(sent))) == (2, 2)


def make(app: App, **given: Any) -> Any:
    offset = 5

    @app.function(**given)
    def inner(x: int) -> int:
        return x + offset

    return inner


def test_a_function_inside_another_is_sent_when_it_says_so() -> None:
    app = App("inner")

    with pytest.raises(InvalidRequest, match=r"it is inside make, .* or say serialized=True to send it along"):
        make(app)
    made = make(app, serialized=True)

    (spec,) = app.specs()
    assert (spec.module, spec.qualname) == (__name__, "make.<locals>.inner")
    assert load_function(sent_by(app)[spec.serialized])(1) == made(1) == 6


def test_what_cannot_be_sent_is_named(cells: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    cells["scale"] = threading.Lock()
    with pytest.raises(ValueNotPortable, match=r"cannot send f by value: .*cannot pickle '_thread\.lock' object; make"):
        cells["app"].manifest()

    cells["scale"] = b"x" * 20_000
    monkeypatch.setattr(bundle, "MAX_BYTES", 10_000)
    with pytest.raises(TooLarge, match="cannot send f: with all that it uses it takes"):
        cells["app"].manifest()


def test_an_app_is_pickled_as_the_way_to_where_it_runs(cells: dict[str, Any]) -> None:
    assert isinstance(pickle.loads(pickle.dumps(cells["app"])), DeployedApp)


def test_output_is_always_enabled() -> None:
    with relight.enable_output():
        pass


def test_imports_for_workers_may_fail_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("imports", image=relight.Image.host())

    with app.image.imports():
        importlib.import_module("there_is_no_such_module")
    with pytest.raises(ZeroDivisionError), app.image.imports():
        _ = 1 / 0
    monkeypatch.setattr(inside, "is_worker", True)
    with pytest.raises(ModuleNotFoundError), app.image.imports():
        importlib.import_module("there_is_no_such_module")


def test_an_image_is_asked_for_what_it_is_once_and_for_nothing_else(cells: dict[str, Any]) -> None:
    app = App("image")

    with pytest.raises(
        InvalidRequest, match=r"cannot decorate f: image='host' is no image; use relight\.Image\.host\(\)"
    ):
        app.function(image="host")(cells["f"].raw)
    assert app.image.spec is app.image.spec
    assert repr(app.image) == "<relight image host>"
