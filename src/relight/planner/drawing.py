"""What a plan's options come to, drawn: cold share against cost, as SVG or in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from relight.planner.plan import Option

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 420, 70, 50
_COLOURS = {"flex": "#2f6feb", "active": "#d9730d", "dedicated": "#3f8f3f"}


def draw_svg(options: Sequence[Option], best: Option) -> str:
    """The options as an SVG image: a month's cost to the right, the share of cold calls upwards, the best one ringed."""
    most = max((one.monthly() for one in options), default=1) or 1
    cold = max((one.outcome.cold_share for one in options), default=0.0) or 0.01
    marks = [_mark(one, most, cold, is_best=one == best) for one in options]
    axes = (
        f'<path d="M{_LEFT} 20V{_HEIGHT - _BOTTOM}H{_WIDTH - 20}" fill="none" stroke="#888"/>'
        f'<text x="{_WIDTH // 2}" y="{_HEIGHT - 12}" text-anchor="middle">$ a month, up to {most / 1e9:,.2f}</text>'
        f'<text x="16" y="{_HEIGHT // 2}" text-anchor="middle" transform="rotate(-90 16 {_HEIGHT // 2})">'
        f"cold calls, up to {cold:.1%}</text>"
    )
    keys = "".join(
        f'<circle cx="{_WIDTH - 130}" cy="{30 + 20 * at}" r="5" fill="{colour}"/>'
        f'<text x="{_WIDTH - 118}" y="{34 + 20 * at}">{name}</text>'
        for at, (name, colour) in enumerate(_COLOURS.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="13"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>{axes}{"".join(marks)}{keys}</svg>\n'
    )


def draw_text(options: Sequence[Option], best: Option, width: int = 60, height: int = 14) -> list[str]:
    """The same as lines of text: f flex, a active, d dedicated, and * the best one."""
    most = max((one.monthly() for one in options), default=1) or 1
    cold = max((one.outcome.cold_share for one in options), default=0.0) or 0.01
    cells = [[" "] * width for _ in range(height)]
    for one in sorted(options, key=lambda option: option == best):
        column = min(width - 1, round(one.monthly() / most * (width - 1)))
        row = height - 1 - min(height - 1, round(one.outcome.cold_share / cold * (height - 1)))
        cells[row][column] = "*" if one == best else one.policy.capacity.value[0]
    lines = [f"{cold if not at else 0:6.1%} |" if at in (0, height - 1) else "       |" for at in range(height)]
    drawn = [line + "".join(row).rstrip() for line, row in zip(lines, cells, strict=True)]
    return [*drawn, f"       +{'-' * width}", f"        cold calls against $ a month, 0 to {most / 1e9:,.2f}"]


def _mark(one: Option, most: int, cold: float, *, is_best: bool) -> str:
    x = _LEFT + one.monthly() / most * (_WIDTH - _LEFT - 40)
    y = _HEIGHT - _BOTTOM - one.outcome.cold_share / cold * (_HEIGHT - _BOTTOM - 40)
    colour = _COLOURS[one.policy.capacity.value]
    ring = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="none" stroke="{colour}" stroke-width="2"/>' if is_best else ""
    )
    return f'{ring}<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"><title>{escape(str(one.policy))}</title></circle>'
