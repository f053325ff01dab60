"""What a plan's options come to, drawn: cold share against cost, as SVG, as PNG, or in a terminal.

A drawing is a list of shapes, laid out once in a space of 720 by 420; SVG writes them as they are, `picture` sets their pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from relight.planner.options import Option
from relight.planner.picture import as_png
from relight.planner.plan import Plan
from relight.planner.policies import Capacity
from relight.planner.shapes import Dot, Line, Shape, Words
from relight.protocol.errors import InvalidRequest

WIDTH, HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 40, 40, 60
_COLOURS = {"flex": "#2f6feb", "active": "#d9730d", "dedicated": "#3f8f3f"}
_GREY, _PALE = "#888888", "#dddddd"
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def draw(path: Path, made: Plan) -> None:
    """Write the plan's options into an .svg or .png file.  Raises InvalidRequest for another kind."""
    kind = path.suffix.lower()
    if kind == ".svg":
        path.write_text(as_svg(shapes_of(made)), encoding="utf-8")
    elif kind == ".png":
        path.write_bytes(as_png(shapes_of(made), WIDTH, HEIGHT))
    else:
        raise InvalidRequest(f"cannot draw into {path}: it is neither .svg nor .png; name one that is")


def shapes_of(made: Plan) -> list[Shape]:
    """A month's cost to the right, the share of cold calls upwards; a curve through the best of each kind, the best of all ringed."""
    space = _Space.of(made.options)
    kinds = [[one for one in made.options if one.policy.capacity is capacity] for capacity in Capacity]
    curves: list[Shape] = [
        Line(points=tuple(space.place(one) for one in frontier(kind)), colour=_colour(kind[0]))
        for kind in kinds
        if kind
    ]
    dots: list[Shape] = [
        Dot(x=x, y=y, radius=5, colour=_colour(one), title=f"{one.policy} on {one.card}")
        for one in made.options
        for x, y in [space.place(one)]
    ]
    x, y = space.place(made.best)
    best: list[Shape] = [
        Dot(x=x, y=y, radius=10, colour=_colour(made.best), ring=True),
        Words(x=x, y=y - 15, text=str(made.best.policy), anchor="end" if x > WIDTH / 2 else "start"),
    ]
    return [*space.axes(), *curves, *dots, *best, *_keys()]


def frontier(options: Sequence[Option]) -> list[Option]:
    """The trade-off: options that no other is both cheaper and more seldom cold than, the cheapest first."""
    found: list[Option] = []
    for one in sorted(options, key=lambda option: (option.nanos, option.outcome.cold_share)):
        if not found or one.outcome.cold_share < found[-1].outcome.cold_share:
            found.append(one)
    return found


def as_svg(shapes: Sequence[Shape]) -> str:
    """The shapes as an SVG image."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>{"".join(map(_svg, shapes))}</svg>\n'
    )


def draw_text(made: Plan, width: int = 60, height: int = 14) -> list[str]:
    """The same as lines of text: f flex, a active, d dedicated, and * the best one."""
    space = _Space.of(made.options)
    cells = [[" "] * width for _ in range(height)]
    for one in sorted(made.options, key=lambda option: option == made.best):
        column = min(width - 1, round(one.monthly() / space.most * (width - 1)))
        row = height - 1 - min(height - 1, round(one.outcome.cold_share / space.cold * (height - 1)))
        cells[row][column] = "*" if one == made.best else one.policy.capacity.value[0]
    lines = [f"{space.cold if not at else 0:6.1%} |" if at in (0, height - 1) else "       |" for at in range(height)]
    drawn = [line + "".join(row).rstrip() for line, row in zip(lines, cells, strict=True)]
    return [*drawn, f"       +{'-' * width}", f"        cold calls against $ a month, 0 to {space.most / 1e9:,.2f}"]


@dataclass(frozen=True, slots=True)
class _Space:
    """Up to `most` nano-dollars a month, and `cold` of the calls."""

    most: int
    cold: float

    @classmethod
    def of(cls, options: Sequence[Option]) -> _Space:
        most = max((one.monthly() for one in options), default=1) or 1
        return cls(most, max((one.outcome.cold_share for one in options), default=0.0) or 0.01)

    def place(self, one: Option) -> tuple[float, float]:
        return self._at(one.monthly() / self.most, one.outcome.cold_share / self.cold)

    def axes(self) -> list[Shape]:
        shapes: list[Shape] = []
        for part in _TICKS:
            (x, low), (left, y) = self._at(part, 0.0), self._at(0.0, part)
            colour = _GREY if not part else _PALE
            shapes += [
                Line(points=((x, low), self._at(part, 1.0)), colour=colour),
                Line(points=((left, y), self._at(1.0, part)), colour=colour),
                Words(x=x, y=low + 18, text=f"{self.most * part / 1e9:,.2f}", anchor="middle"),
                Words(x=left - 8, y=y + 4, text=f"{self.cold * part:.1%}", anchor="end"),
            ]
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        return [
            *shapes,
            Words(x=middle, y=HEIGHT - 14, text="$ a month", anchor="middle"),
            Words(x=14, y=22, text="cold calls"),
        ]

    def _at(self, right: float, up: float) -> tuple[float, float]:
        x = _LEFT + right * (WIDTH - _LEFT - _RIGHT)
        return round(x, 1), round(HEIGHT - _BOTTOM - up * (HEIGHT - _BOTTOM - _TOP), 1)


def _colour(one: Option) -> str:
    return _COLOURS[one.policy.capacity.value]


def _keys() -> list[Shape]:
    shapes: list[Shape] = []
    for at, (name, colour) in enumerate(_COLOURS.items()):
        x = WIDTH - _RIGHT - 270 + 90 * at
        shapes += [Dot(x=x, y=18, radius=5, colour=colour), Words(x=x + 10, y=22, text=name)]
    return shapes


def _svg(shape: Shape) -> str:
    if isinstance(shape, Line):
        points = " ".join(f"{x:g},{y:g}" for x, y in shape.points)
        return f'<polyline points="{points}" fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}"/>'
    if isinstance(shape, Words):
        place = f'x="{shape.x:g}" y="{shape.y:g}" text-anchor="{shape.anchor}" fill="{shape.colour}"'
        return f"<text {place}>{escape(shape.text)}</text>"
    fill = f'fill="none" stroke="{shape.colour}" stroke-width="2"' if shape.ring else f'fill="{shape.colour}"'
    title = f"<title>{escape(shape.title)}</title>" if shape.title else ""
    return f'<circle cx="{shape.x:g}" cy="{shape.y:g}" r="{shape.radius:g}" {fill}>{title}</circle>'
