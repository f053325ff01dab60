"""Shapes as pixels: a PNG image, made with the standard library alone.

A pixel's share of a shape is how far its middle is inside the shape's edge, so that edges are smooth.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise

from relight.planner.letters import LETTER_HEIGHT, LETTER_WIDTH, pixels
from relight.planner.shapes import Dot, Line, Shape, Words

SCALE = 2
"""Pixels for each unit of a drawing, along each side; a point of a letter is one unit wide."""

Distance = Callable[[float, float], float]
"""How far a place is from the middle of a stroke, in pixels."""


def as_png(shapes: Sequence[Shape], width: int, height: int) -> bytes:
    """The shapes on white, as a PNG image of `width` by `height` units."""
    canvas = _Canvas(width * SCALE, height * SCALE)
    for shape in shapes:
        canvas.draw(shape)
    return canvas.png()


class _Canvas:
    """Rows of red, green and blue."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._rows = [bytearray(b"\xff" * 3 * width) for _ in range(height)]

    def draw(self, shape: Shape) -> None:
        """Set what of the canvas the shape covers."""
        if isinstance(shape, Line):
            for begin, end in pairwise(shape.points):
                self._stroke(begin, end, shape.width * SCALE / 2, _rgb(shape.colour))
        elif isinstance(shape, Words):
            self._write(shape)
        else:
            self._round(shape)

    def png(self) -> bytes:
        """The canvas as a file."""
        header = struct.pack(">IIBBBBB", self._width, self._height, 8, 2, 0, 0, 0)
        rows = b"".join(b"\0" + bytes(row) for row in self._rows)  # each row begins with its filter: none
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)

    def _round(self, dot: Dot) -> None:
        x, y, radius = dot.x * SCALE, dot.y * SCALE, dot.radius * SCALE
        if dot.ring:
            self._cover(
                (x, y),
                (x, y),
                radius + 3,
                lambda px, py: abs(math.hypot(px - x, py - y) - radius) - SCALE,
                _rgb(dot.colour),
            )
        else:
            self._cover(
                (x, y), (x, y), radius + 1, lambda px, py: math.hypot(px - x, py - y) - radius, _rgb(dot.colour)
            )

    def _stroke(self, begin: tuple[float, float], end: tuple[float, float], half: float, colour: bytes) -> None:
        (ax, ay), (bx, by) = ((x * SCALE, y * SCALE) for x, y in (begin, end))
        length = math.hypot(bx - ax, by - ay) or 1.0
        rx, ry = (bx - ax) / length, (by - ay) / length

        def distance(x: float, y: float) -> float:
            along = min(length, max(0.0, (x - ax) * rx + (y - ay) * ry))
            return math.hypot(x - ax - along * rx, y - ay - along * ry) - half

        self._cover((ax, ay), (bx, by), half + 1, distance, colour)

    def _write(self, words: Words) -> None:
        wide = len(words.text) * LETTER_WIDTH
        left = round((words.x - {"start": 0.0, "middle": wide / 2, "end": float(wide)}[words.anchor]) * SCALE)
        top = round((words.y - LETTER_HEIGHT) * SCALE)
        for column, row in pixels(words.text):
            for more in range(SCALE * SCALE):
                self._blend(
                    left + column * SCALE + more % SCALE, top + row * SCALE + more // SCALE, _rgb(words.colour), 1.0
                )

    def _cover(
        self, begin: tuple[float, float], end: tuple[float, float], margin: float, outside: Distance, colour: bytes
    ) -> None:
        """Blend in each pixel between two corners by how far its middle is `outside` of the shape."""
        (left, right), (top, bottom) = (sorted(pair) for pair in zip(begin, end, strict=True))
        for y in range(math.floor(top - margin), math.ceil(bottom + margin) + 1):
            for x in range(math.floor(left - margin), math.ceil(right + margin) + 1):
                share = 0.5 - outside(x + 0.5, y + 0.5)
                if share > 0:
                    self._blend(x, y, colour, min(1.0, share))

    def _blend(self, x: int, y: int, colour: bytes, share: float) -> None:
        if 0 <= x < self._width and 0 <= y < self._height:
            row = self._rows[y]
            for at, value in enumerate(colour, 3 * x):
                row[at] = round(row[at] + (value - row[at]) * share)


def _rgb(colour: str) -> bytes:
    return bytes.fromhex(colour[1:])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
