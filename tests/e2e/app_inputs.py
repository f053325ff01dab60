"""Functions that say what they take."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import relight

app = relight.App("studio")


class Style(enum.Enum):
    INK = "ink"
    OIL = "oil"


@dataclasses.dataclass
class Size:
    width: Annotated[int, relight.Input(ge=1)]
    height: int = 1


@dataclasses.dataclass
class Drawn:
    title: str
    size: Size
    at: datetime.date | None


@app.function()
def draw(
    prompt: Annotated[str, relight.Input("What to draw", min_length=1)],
    steps: Annotated[int, relight.Input("More is slower", ge=1, le=100)] = 20,
    style: Style = Style.INK,
    size: Size = Size(1),  # noqa: B008 - it is read, not changed
    at: datetime.date | None = None,
) -> Drawn:
    """Draw a picture."""
    return Drawn(f"{prompt} in {style.value}, {steps} steps", size, at)


@app.function(network="none")
def invert(image: relight.File, note: Path | None = None) -> relight.File:
    """The bytes of a file, backwards; with the text of a note after them."""
    assert image.path.read_bytes() == image.read()
    said = note.read_bytes() if note is not None else b""
    return relight.File.from_bytes(image.read()[::-1] + said, name=f"inverted-{image.name}")


@app.function()
def slug(name: Annotated[str, relight.Input(pattern="^([a-z]+-?)+$")]) -> str:
    """A name, if it is one."""
    return name


@app.function()
def sizes(count: int) -> Iterator[Size]:
    """Some sizes."""
    for width in range(1, count + 1):
        yield Size(width)
