"""Calls in JSON in a real worker: arguments arrive as the annotations say, results leave as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from relight.protocol.calls import CallEvent
from relight.protocol.channel import Ended, Grant, Item, Run
from relight.protocol.payload import JSON, Payload
from relight.protocol.values import dump_input, load_result

if TYPE_CHECKING:
    from unit.runtime.conftest import Agent

APP = """
from __future__ import annotations
import dataclasses, datetime, enum, os
from pathlib import Path
from typing import Annotated, Any, Iterator
import relight

class Colour(enum.Enum):
    RED = "red"

@dataclasses.dataclass
class Size:
    width: int
    colour: Colour = Colour.RED

def grow(size: Size, at: datetime.date, *more: Size, **named: Colour) -> Size:
    assert all(isinstance(one, Size) for one in more) and all(isinstance(one, Colour) for one in named.values())
    return Size(size.width * at.year + len(more) + len(named))

def file(image: relight.File, path: Path) -> list[Any]:
    assert image.path.read_bytes() == image.read()
    return [image.name, image.read().decode(), path.name, path.read_text(), str(path.parent.parent)]

def back(data: bytes) -> relight.File:
    return relight.File.from_bytes(data, name="a.txt")

def is_there(folder: str) -> bool:
    return os.path.exists(folder)

def unsaid(x):
    return {x}

def some(n: int) -> Iterator[Size]:
    for width in range(n):
        yield Size(width)

def slug(name: Annotated[str, relight.Input(pattern="^([a-z]+-?)+$")]) -> str:
    return name
"""


def call(agent: Agent, *args: Any, **kwargs: Any) -> Ended:
    """A call as it comes over HTTP."""
    data = json.dumps({"args": args, "kwargs": kwargs}).encode()
    agent.send(Run(call="call-1", attempt=1, payload=Payload(format=JSON, data=data, size=len(data)), accept=(JSON,)))
    return agent.end()


def value(ended: Ended) -> Any:
    assert ended.result is not None, ended.failure
    assert ended.result.format == JSON, ended.result
    return json.loads(ended.result.data or b"")


def test_arguments_and_results_in_json_are_what_the_annotations_say(agent: Agent) -> None:
    agent.load("grow", APP)

    by_name = call(agent, size={"width": 2}, at="2026-01-31", blue="RED")
    by_place = call(agent, {"width": 2.0}, "2026-01-31", {"width": 1}, {"width": 1, "colour": "red"})

    assert value(by_name) == {"width": 4053, "colour": "red"}
    assert value(by_place) == {"width": 4054, "colour": "red"}


def test_what_cannot_be_converted_ends_the_call_with_its_place(agent: Agent) -> None:
    agent.load("grow", APP)

    ended = call(agent, {"width": 2}, "soon")

    assert ended.outcome is CallEvent.FAILED
    assert ended.failure is not None
    assert ended.failure.code == "invalid_input"
    assert "at: " in ended.failure.message


def test_files_are_real_ones_and_go_with_the_call(agent: Agent) -> None:
    agent.load("file", APP)

    name, text, path, held, folder = value(
        call(agent, image={"url": "data:,hi", "name": "a.txt"}, path={"url": "data:,there", "name": "../b.txt"})
    )

    assert (name, text, path, held) == ("a.txt", "hi", "b.txt", "there")
    assert "call-" in folder
    assert not Path(folder).exists()


def test_a_file_is_given_back_as_a_data_url(agent: Agent) -> None:
    agent.load("back", APP)

    assert value(call(agent, data="aGk=")) == {"url": "data:text/plain;base64,aGk=", "name": "a.txt"}


def test_the_items_of_a_generator_are_json_too(agent: Agent) -> None:
    agent.load("some", APP)
    data = b'{"args":[2],"kwargs":{}}'
    agent.send(Run(call="call-1", attempt=1, payload=Payload(format=JSON, data=data, size=len(data)), accept=(JSON,)))
    agent.send(Grant(call="call-1", items=10))

    items = [agent.receive(), agent.receive()]

    assert [one.payload.data for one in items if isinstance(one, Item)] == [
        b'{"width": 0, "colour": "red"}',
        b'{"width": 1, "colour": "red"}',
    ]
    assert agent.end().outcome is CallEvent.SUCCEEDED


def test_a_result_that_nobody_said_anything_about_stays_what_it_is(agent: Agent) -> None:
    agent.load("unsaid", APP)

    ended = call(agent, 3)

    assert ended.result is not None
    assert load_result(ended.result) == {3}


def test_a_pattern_that_the_server_does_not_try_is_tried_here(agent: Agent) -> None:
    agent.load("slug", APP)

    assert value(call(agent, "a-b")) == "a-b"
    failure = call(agent, "A").failure
    assert failure is not None
    assert failure.code == "invalid_input"


@pytest.mark.parametrize("size", [{"width": 3}, "no size at all"])
def test_arguments_from_python_are_not_converted(agent: Agent, size: Any) -> None:
    agent.load("unsaid", APP.replace("def unsaid(x)", "def unsaid(x: Size)").replace("return {x}", "return x"))

    agent.send(Run(call="call-1", attempt=1, payload=dump_input((size,), {}), accept=("pickle5",)))
    ended = agent.end()

    assert ended.result is not None
    assert load_result(ended.result) == size
