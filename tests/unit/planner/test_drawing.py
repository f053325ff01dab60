"""Drawings of a plan: the same options in each kind, and a PNG that any reader can open."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path

import pytest

from relight.metering.cards import load_cards
from relight.planner.costs import Holds
from relight.planner.drawing import as_svg, draw, draw_text, frontier, shapes_of
from relight.planner.letters import LETTER_WIDTH, pixels
from relight.planner.options import Workload
from relight.planner.picture import SCALE, as_png
from relight.planner.plan import Plan, make_plan
from relight.planner.policies import Capacity
from relight.planner.shapes import Dot, Line, Words
from relight.planner.traces import poisson
from relight.protocol.errors import InvalidRequest

BLUE = (0x2F, 0x6F, 0xEB)


@pytest.fixture(scope="module")
def made() -> Plan:
    cards = load_cards()
    load = Workload(trace=poisson(lambda at: 0.03, 0.03, 3600.0, 9.0), holds=Holds(gpus=("H100",)), starts=(5.0,))
    return make_plan(load, {name: cards[name] for name in ("runpod", "dedicated")})


def read_png(data: bytes) -> list[list[tuple[int, int, int]]]:
    """The pixels of a PNG of 8 bits a colour without filters; each chunk's sum is checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + body),)
        chunks[kind] = body
        at += 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    rows = zlib.decompress(chunks[b"IDAT"])
    stride = 1 + 3 * width
    assert (depth, colour, len(rows), rows[::stride]) == (8, 2, height * stride, bytes(height))
    lines = [rows[y * stride + 1 : (y + 1) * stride] for y in range(height)]
    return [[(line[x], line[x + 1], line[x + 2]) for x in range(0, 3 * width, 3)] for line in lines]


def test_a_disc_and_a_line_are_where_they_should_be_and_smooth_at_the_edge() -> None:
    dot = Dot(x=10, y=10, radius=4, colour="#2f6feb")
    rows = read_png(as_png([dot, Line(points=((20, 2), (20, 18)), colour="#000000", width=2)], 30, 20))

    assert (len(rows[0]), len(rows)) == (30 * SCALE, 20 * SCALE)
    assert (rows[20][20], rows[0][0], rows[20][40]) == (BLUE, (255, 255, 255), (0, 0, 0))
    covered = sum((255 - red) / (255 - BLUE[0]) for row in rows for red, _, _ in row[: 15 * SCALE])
    assert covered == pytest.approx(3.1416 * (4 * SCALE) ** 2, rel=0.02)


def test_a_ring_is_empty_within() -> None:
    rows = read_png(as_png([Dot(x=10, y=10, radius=6, colour="#2f6feb", ring=True)], 20, 20))

    assert (rows[20][20], rows[20][20 + 6 * SCALE]) == ((255, 255, 255), BLUE)


def test_words_are_set_in_points_and_end_where_they_are_anchored() -> None:
    rows = read_png(as_png([Words(x=40, y=12, text="11", anchor="end", colour="#000000")], 50, 20))
    dark = [(x, y) for y, row in enumerate(rows) for x, pixel in enumerate(row) if pixel == (0, 0, 0)]

    assert len(dark) == len(list(pixels("11"))) * SCALE**2
    assert (max(x for x, _ in dark) < 40 * SCALE, min(x for x, _ in dark) >= (40 - 2 * LETTER_WIDTH) * SCALE) == (
        True,
        True,
    )
    assert (min(y for _, y in dark), max(y for _, y in dark)) == (5 * SCALE, 12 * SCALE - 1)


def test_what_is_not_ascii_is_a_question_mark_and_times_is_an_x() -> None:
    assert list(pixels("λ")) == list(pixels("?"))
    assert list(pixels("×")) == list(pixels("x"))


def test_every_option_is_drawn_and_the_best_is_ringed(made: Plan) -> None:
    root = ElementTree.fromstring(as_svg(shapes_of(made)))
    circles = root.findall("{http://www.w3.org/2000/svg}circle")

    titled = [circle for circle in circles if len(circle)]
    assert len(titled) == len(made.options)
    assert [circle.get("r") for circle in circles if circle.get("fill") == "none"] == ["10"]
    assert sum(line.count("*") for line in draw_text(made)) == 1


def test_the_curve_has_what_nothing_beats_in_both(made: Plan) -> None:
    flex = [one for one in made.options if one.policy.capacity is Capacity.FLEX]
    curve = frontier(flex)

    assert len(curve) > 1
    for one in flex:
        assert any(best.nanos <= one.nanos and best.outcome.cold_share <= one.outcome.cold_share for best in curve)


def test_a_file_is_drawn_by_its_suffix(made: Plan, tmp_path: Path) -> None:
    draw(tmp_path / "plan.png", made)
    draw(tmp_path / "plan.SVG", made)

    assert len(read_png((tmp_path / "plan.png").read_bytes())) == 420 * SCALE
    assert (tmp_path / "plan.SVG").read_text().startswith("<svg")
    with pytest.raises(InvalidRequest, match=r"neither \.svg nor \.png"):
        draw(tmp_path / "plan.gif", made)
