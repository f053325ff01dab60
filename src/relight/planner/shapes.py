"""What drawings are made of: lines, dots and words, in units of the drawing, from its top left."""

from __future__ import annotations

from dataclasses import dataclass

INK = "#222222"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """From point to point."""

    points: tuple[tuple[float, float], ...]
    colour: str
    width: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A disc, or with a `ring` the rim of one."""

    x: float
    y: float
    radius: float
    colour: str
    ring: bool = False
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Text on a base line; `anchor` is what of it is at x: start, middle, end."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    colour: str = INK


Shape = Line | Dot | Words
"""One thing to be drawn."""
