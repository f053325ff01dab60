"""The code keeps the shape that STYLE.md promises, and the checker that says so sees what it should."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


def load_checker() -> ModuleType:
    """`tools/shape.py`, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("relight_shape", ROOT / "tools" / "shape.py")
    assert spec is not None, "tools/shape.py is not there"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


shape = load_checker()


@pytest.fixture(scope="module")
def figures() -> dict[str, shape.Figure]:
    return shape.measure(shape.read(ROOT / "src" / "relight", ROOT / "src"), shape.read(ROOT / "tests", ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("name", shape.BUDGETS)
def test_the_code_is_within_its_budget(name: str, figures: dict[str, shape.Figure]) -> None:
    figure, budget = figures[name], shape.BUDGETS[name]

    assert budget.holds(figure.value), f"{name}: {figure.value:g}, {budget}; look at {'; '.join(figure.places[:8])}"


def measured(folder: Path, product: dict[str, str], tests: str = "") -> dict[str, float]:
    """The figures of a small tree."""
    for name, text in product.items():
        path = folder / "pkg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_it.py").write_text(tests, encoding="utf-8")
    found = shape.measure(shape.read(folder / "pkg", folder), shape.read(folder / "tests", folder))
    return {name: figure.value for name, figure in found.items()}


DEEP = "def f():\n    for a in b:\n        if a:\n            with a:\n                try:\n                    a()\n                finally:\n                    a()\n"
CHAIN = "def f():\n    if a:\n        b()\n    elif c:\n        d()\n    elif e:\n        f()\n    else:\n        g()\n"
COPY = "".join(f"first_value_{n} = compute({n})\n" for n in range(8))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lines per file, max", "a = 1\n" * 701, 701),
        ("lines per function, max", "def f():\n    '''Says\n    much.'''\n" + "    a = 1\n" * 81, 82),
        ("parameters, p95", "class A:\n    def f(self, a, b, *, c): ...\n", 3),
        ("nesting, p95", DEEP, 4),
        ("nesting, p95", CHAIN, 1),
        ("typed definitions, %", "def f(a: int, *rest) -> int: ...\n", 0),
        ("typed definitions, %", "class A:\n    def __init__(self, a: int): ...\n", 100),
        ("module docstrings, %", "a = 1\n", 0),
        ("public docstrings, %", "'''A.'''\nclass A:\n    '''B.'''\n    def f(self): ...\n    def _g(self): ...\n", 50),
        ("duplicated lines, %", COPY + "other = 1\n" + COPY, 94.1),
        ("Any beside users' values, per 1,000", "import typing\na: typing.Any\nb: Any\n", 666.7),
        ("type ignores per 1,000", "a = 1  # type: ignore[x]\nb = '# noqa'\n", 1000),
        ("broad excepts per 1,000", "try:\n    a()\nexcept (OSError, Exception):\n    pass\n", 250),
        ("broad excepts per 1,000", "try:\n    a()\nexcept BaseException:\n    b()\n    raise\n", 0),
        ("globals", "def f():\n    global a\n    a = 1\n", 1),
        ("mutable module state", "cache = {}\nFIXED = {}\nseen: set[int] = set()\n", 2),
        ("orphan tasks", "asyncio.create_task(f())\nkept = asyncio.create_task(f())\ntasks.create_task(f())\n", 1),
    ],
)
def test_the_checker_sees(name: str, text: str, value: float, tmp_path: Path) -> None:
    assert measured(tmp_path, {"it.py": text})[name] == value


def test_the_checker_sees_a_ring_of_imports_but_not_a_lazy_one(tmp_path: Path) -> None:
    ring = {"__init__.py": "", "a.py": "from pkg import b\n", "b.py": "from . import c\n", "c.py": "import pkg.a\n"}
    lazy = {"__init__.py": "", "d.py": "def f():\n    import pkg.e\n", "e.py": "import pkg.d\n"}

    assert measured(tmp_path, {**ring, **lazy})["modules in import rings"] == 3


def test_the_checker_sees_a_test_that_sleeps(tmp_path: Path) -> None:
    assert (
        measured(tmp_path, {"a.py": ""}, tests="async def test_a():\n    await asyncio.sleep(1)\n")["sleeps in tests"]
        == 1
    )


def test_vendored_code_is_not_ours_to_measure(tmp_path: Path) -> None:
    assert measured(tmp_path, {"a.py": "a = 1\n", "_vendor/b.py": "b = 1\n" * 900})["lines per file, max"] == 1
