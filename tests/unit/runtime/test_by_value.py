"""What no module has: functions and classes that come by value, and classes that are made with parameters."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from relight.protocol.channel import Ended, Load, LoadFailed, Run
from relight.protocol.manifest import Json
from relight.protocol.values import dump_input, load_result
from unit.runtime.conftest import MARK, SOURCE, Agent, StartAgent, ready

NOTEBOOK = """
    import sys
    sys.path.insert(0, {source!r})
    from relight.protocol.values import dump_function, dump_input

    class Point:
        def __init__(self, x):
            self.x = x

    scale = 10

    def helper(x):
        return x * scale

    def f(x):
        return helper(x)

    def move(point):
        return Point(point.x + scale)

    class Counter:
        def __init__(self, **values):
            self.values = values

    open("f.bin", "wb").write(dump_function(f))
    open("move.bin", "wb").write(dump_function(move))
    payload = dump_input((Point(1),), {{}})
    assert payload.python, "it goes by value"
    open("point.bin", "wb").write(payload.data)
"""

CLASS = """
    from relight.protocol.manifest import ClassParameter

    class Model:
        __relight_parameters__ = (ClassParameter(name="size", type="str"), ClassParameter(name="salt", type="bytes"))

        def __init__(self, size="7b", salt=b""):
            self.said = (size, salt)

        def generate(self):
            return self.said

        generate.__relight_raw__ = generate
"""


def write_notebook(folder: Path, python: str) -> None:
    """What a notebook would send along: by a process whose `__main__` is no file."""
    code = textwrap.dedent(NOTEBOOK.format(source=str(SOURCE)))
    subprocess.run([python, "-c", code], cwd=folder, check=True, timeout=60)


def load(agent: Agent, *, serialized: str = "", module: str = "", qualname: str = "f") -> object:
    agent.send(
        Load(
            module=module,
            qualname=qualname,
            is_class=False,
            paths=(str(agent.folder),),
            mark=MARK,
            serialized=serialized,
        )
    )
    return agent.receive()


def test_a_function_by_value_brings_what_it_uses(start_agent: StartAgent, python: str) -> None:
    agent = start_agent(python)
    write_notebook(agent.folder, python)

    ready(load(agent, serialized="f.bin"))

    result = agent.call(4).result
    assert result is not None
    assert load_result(result) == 40


def test_an_object_of_a_class_that_no_module_has_goes_there_and_comes_back(agent: Agent) -> None:
    write_notebook(agent.folder, sys.executable)
    ready(load(agent, serialized="move.bin", qualname="move"))
    payload = dump_input((), {})
    agent.send(
        Run(
            call="call-1",
            attempt=1,
            payload=type(payload)(format="pickle5", data=(agent.folder / "point.bin").read_bytes()),
        )
    )

    ended = agent.end()

    assert ended.result is not None
    assert ended.result.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    moved = load_result(ended.result)
    assert (type(moved).__name__, moved.x) == ("Point", 11)


def test_a_file_that_was_not_sent_is_named(agent: Agent) -> None:
    message = load(agent, serialized="missing.bin")

    assert isinstance(message, LoadFailed)
    assert "cannot load f: " in message.failure.message
    assert "missing.bin is not in the app's code" in message.failure.message


def test_a_function_by_value_finds_the_module_it_was_made_in(agent: Agent) -> None:
    (agent.folder / "app.py").write_text(
        "from relight.protocol.values import dump_function\n"
        "def helper(x):\n    return x + 1\n"
        "def make():\n    def inner(x):\n        return helper(x)\n    return inner\n"
        "if __name__ == '__main__':\n    open('inner.bin', 'wb').write(dump_function(make()))\n"
    )
    environment = {"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "app.py"], cwd=agent.folder, check=True, timeout=60, env=environment)
    assert b"helper" in (agent.folder / "inner.bin").read_bytes()

    ready(load(agent, serialized="inner.bin", module="app", qualname="make.<locals>.inner"))

    result = agent.call(1).result
    assert result is not None
    assert load_result(result) == 2


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [((), ("7b", b"")), ((("salt", "AP8="), ("size", "13b")), ("13b", b"\x00\xff"))],
)
def test_an_object_is_made_with_its_values(
    agent: Agent, parameters: tuple[tuple[str, Json], ...], expected: tuple[object, ...]
) -> None:
    (agent.folder / "app.py").write_text(textwrap.dedent(CLASS))
    agent.send(
        Load(
            module="app", qualname="Model", is_class=True, paths=(str(agent.folder),), mark=MARK, parameters=parameters
        )
    )
    ready(agent.receive())

    ended = agent.call(method="generate")

    assert isinstance(ended, Ended)
    assert ended.result is not None, ended.failure
    assert load_result(ended.result) == expected
