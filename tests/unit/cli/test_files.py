"""A user's file: what its syntax says, how it is loaded, and which part of it is meant."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from relight.cli.files import Outline, find, outline_of, split_target
from relight.protocol.errors import InvalidRequest, NotFound
from relight.protocol.inside import inside
from relight.sdk.files import load

HEAD = "import relight\napp = relight.App()\n"
SQUARE = "@app.function()\ndef square(x: int) -> int:\n    return x * x\n"
MAIN = "@app.local_entrypoint()\ndef main(n: int = 3) -> int:\n    return n\n"
READER = (
    "@app.cls()\nclass Reader:\n    @relight.method()\n    def read(self, text: str) -> str:\n        return text\n"
)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("shop"):
            del sys.modules[name]


def write(folder: Path, text: str, name: str = "shop.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))
    return path


@pytest.mark.parametrize(
    ("text", "outline"),
    [
        (HEAD + SQUARE, Outline(has_entrypoint=False, is_script=False)),
        (HEAD + MAIN, Outline(has_entrypoint=True, is_script=False)),
        (HEAD + "@app.local_entrypoint\ndef main(): ...", Outline(has_entrypoint=True, is_script=False)),
        (HEAD + "with app.run():\n    pass", Outline(has_entrypoint=False, is_script=True)),
        (HEAD + "if True:\n    with app.run():\n        pass", Outline(has_entrypoint=False, is_script=True)),
        (HEAD + "if __name__ == '__main__':\n    print()", Outline(has_entrypoint=False, is_script=True)),
        (HEAD + "if '__main__' == __name__:\n    print()", Outline(has_entrypoint=False, is_script=True)),
        (HEAD + "def f():\n    with app.run():\n        pass", Outline(has_entrypoint=False, is_script=False)),
        (HEAD + "with open('x') as f:\n    pass", Outline(has_entrypoint=False, is_script=False)),
    ],
)
def test_the_syntax_says_how_a_file_is_meant_to_be_run(tmp_path: Path, text: str, outline: Outline) -> None:
    assert outline_of(write(tmp_path, text)) == outline


def test_a_file_that_is_not_python_is_refused_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"shop\.py.*line 1"):
        outline_of(write(tmp_path, "def ("))


def test_a_target_is_a_file_and_perhaps_a_name(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD)

    assert split_target(str(path)) == (path, "")
    assert split_target(f"{path}::Reader.read") == (path, "Reader.read")
    with pytest.raises(NotFound, match=r"no such file"):
        split_target(str(tmp_path / "none.py"))


def test_a_file_is_loaded_under_the_name_workers_will_know(tmp_path: Path) -> None:
    write(tmp_path, "", "shop/__init__.py")
    path = write(tmp_path, HEAD + SQUARE, "shop/till.py")

    module = load(path)

    assert module.__name__ == "shop.till"
    assert sys.modules["shop.till"] is module
    assert str(tmp_path) in sys.path


def test_what_stands_beside_the_file_can_be_imported(tmp_path: Path) -> None:
    write(tmp_path, "PRICE = 3", "shop_prices.py")

    assert load(write(tmp_path, "from shop_prices import PRICE")).PRICE == 3


def test_a_file_that_runs_itself_is_left_where_it_would(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + SQUARE + "with app.run():\n    raise AssertionError('it ran')\n")

    module = load(path, stops_at_run=True)

    assert find(module, "square").name == "square"
    assert not inside.is_loading


def test_a_file_that_fails_is_not_left_half_loaded(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        load(write(tmp_path, "1 / 0"))

    assert "shop" not in sys.modules


def test_without_a_name_the_one_entrypoint_is_meant_before_any_function(tmp_path: Path) -> None:
    target = find(load(write(tmp_path, HEAD + SQUARE + MAIN)), "")

    assert (target.name, target.is_local, target.call()) == ("main", True, 3)


def test_without_a_name_and_entrypoint_the_one_function_is_meant(tmp_path: Path) -> None:
    target = find(load(write(tmp_path, HEAD + SQUARE)), "")

    assert (target.name, target.is_local) == ("square", False)


def test_a_method_is_found_by_its_class(tmp_path: Path) -> None:
    target = find(load(write(tmp_path, HEAD + READER)), "Reader.read")

    assert (target.name, target.is_local) == ("Reader.read", False)


def test_several_functions_need_a_name(tmp_path: Path) -> None:
    module = load(write(tmp_path, HEAD + SQUARE + READER))

    with pytest.raises(InvalidRequest, match=r"it has 'square', 'Reader.read'; write FILE::square"):
        find(module, "")


def test_a_name_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"cannot find 'cube'.*it has 'square'"):
        find(load(write(tmp_path, HEAD + SQUARE)), "cube")


def test_a_file_without_an_app_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"app = relight.App\(\)"):
        find(load(write(tmp_path, "x = 1")), "")
