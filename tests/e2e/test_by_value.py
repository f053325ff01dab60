"""The REPL, `python -c`, `exec` and Python from a pipe: what is written there runs on workers, with all that it uses."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import relight
from servers import Server

CELLS = """
import relight, helper_beside
app = relight.App()
scale = 10

class Point:
    def __init__(self, x):
        self.x = x

def plain(x):
    return x * scale

@app.function()
def f(x):
    return helper_beside.triple(plain(x))

@app.function()
def move(point):
    return Point(point.x + 1)

@app.function()
def outer(x):
    return f.remote(x) + f.local(x)

@app.function()
def count(n):
    for number in range(n):
        yield Point(number)

@app.cls()
class Model:
    size: str = relight.parameter(default="7b")
    @relight.enter()
    def load(self):
        self.loaded = plain(len(self.size))
    @relight.method()
    def generate(self, x):
        return self.loaded, x

"""

USES = """
with app.run():
    moved = move.remote(Point(4))
    print([f.remote(2), list(f.map([1, 2])), moved.x, type(moved) is Point, outer.remote(1)])
    print([Model().generate.remote(1), Model(size="13b").generate.remote(2), [p.x for p in count.remote(2)]])

"""

OUTPUT = ["[60, [30, 60], 5, True, 60]", "[(20, 1), (30, 2), [0, 1]]"]


@pytest.fixture
def folder(server: Server, tmp_path: Path) -> Path:
    (tmp_path / "helper_beside.py").write_text("def triple(x):\n    return 3 * x\n")
    return tmp_path


def python(folder: Path, *arguments: str, given: str = "") -> list[str]:
    """What Python prints, line by line, without the prompts."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, input=given, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def in_repl(code: str) -> str:
    """Code as somebody types it: a block in a REPL ends with an empty line, and has none inside."""
    lines = [line for line in textwrap.dedent(code).splitlines() if line.strip()]
    typed: list[str] = []
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        typed += [line] if line[0] != " " or after[:1] == " " else [line, ""]
    return "\n".join(typed) + "\n"


@pytest.mark.slow
def test_what_is_typed_into_the_repl_runs_on_workers(folder: Path) -> None:
    assert python(folder, "-i", given=in_repl(CELLS + USES)) == OUTPUT


@pytest.mark.slow
def test_what_is_piped_into_python_runs_on_workers(folder: Path) -> None:
    assert python(folder, "-", given=CELLS + USES) == OUTPUT


@pytest.mark.slow
def test_what_is_given_on_the_command_line_runs_on_workers(folder: Path) -> None:
    assert python(folder, "-c", CELLS + USES) == OUTPUT


def test_what_is_executed_runs_on_workers(folder: Path) -> None:
    (folder / "runs_code.py").write_text(f"exec({CELLS + USES!r}, {{'__name__': 'no_module'}})\n")

    assert python(folder, "runs_code.py") == OUTPUT


@pytest.mark.slow
def test_a_run_spans_cells_and_hears_of_what_is_said_anew(folder: Path) -> None:
    cells = """
app.start()
print(f.remote(1))
@app.function()
def f(x):
    return -plain(x)

scale = 100
print(f.remote(1), outer.remote(1))
with relight.enable_output():
    print(Model.with_options(timeout=5)(size="abc").generate.remote(0))

exit()
"""

    lines = python(folder, "-i", given=in_repl(CELLS + cells))

    assert [line for line in lines if "relight app" not in line] == ["30", "-100 -200", "(300, 0)"]


def test_what_is_in_no_file_can_be_deployed_and_called_from_elsewhere(folder: Path) -> None:
    python(folder, "-c", CELLS.replace("relight.App()", "relight.App('typed-in')") + "app.deploy()\n")

    assert relight.Function.from_name("typed-in", "outer").remote(1) == 60
    assert relight.Cls.from_name("typed-in", "Model")(size="13b").generate.remote(2) == (30, 2)


@pytest.mark.slow
def test_a_function_inside_another_runs_on_workers_when_it_says_so(folder: Path) -> None:
    script = """
        import relight
        app = relight.App()

        class Point:
            def __init__(self, x):
                self.x = x

        @app.function()
        def double(x):
            return 2 * x

        def make(offset):
            @app.function(serialized=True)
            def inner(point):
                return Point(double.remote(point.x) + offset)
            return inner

        inner = make(5)
        with app.run():
            moved = inner.remote(Point(2))
            print(moved.x, type(moved) is Point)
    """
    (folder / "makes.py").write_text(textwrap.dedent(script))

    assert python(folder, "makes.py") == ["9 True"]
