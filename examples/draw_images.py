"""Draws `examples/images`, and writes beside them what they say (`expected.json`).

    python examples/draw_images.py [--fonts /usr/share/fonts/truetype/dejavu]

The images are committed; this is how they were made.  Needs Pillow and the DejaVu fonts (Debian: fonts-dejavu).
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

IMAGES = Path(__file__).parent / "images"
FONTS = Path("/usr/share/fonts/truetype/dejavu")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image.  A row is one or more pieces of text: the first from the left edge, the last to the right one."""

    name: str
    rows: tuple[tuple[str, ...], ...]
    width: int
    size: int
    font: str = "DejaVuSans"
    ink: str = "#202020"
    paper: str = "#ffffff"
    margin: int = 40
    gap: float = 1.7  # between the tops of two rows, in heights of the letters
    is_centred: bool = False
    frame: int = 0  # the width of a line around it
    turn: float = 0.0  # degrees, counter-clockwise, as if scanned askew
    blur: float = 0.0
    rules: tuple[int, ...] = field(default=())  # the rows with a line above them

    @property
    def height(self) -> int:
        return 2 * self.margin + round(self.size * (self.gap * (len(self.rows) - 1) + 1.3))


PICTURES = (
    Picture(
        name="receipt",
        rows=(
            ("CORNER BAKERY",),
            ("Rye bread", "4.20"),
            ("Apple cake", "3.50"),
            ("Flat white", "2.90"),
            ("TOTAL", "10.60"),
            ("Thank you, see you soon",),
        ),
        width=460,
        size=26,
        font="DejaVuSansMono",
        paper="#fbf8ef",
        rules=(1, 4, 5),
        turn=0.6,
    ),
    Picture(
        name="sign",
        rows=(("PLATFORM 9",), ("Trains to the coast",)),
        width=760,
        size=58,
        font="DejaVuSans-Bold",
        ink="#ffffff",
        paper="#0b4f8a",
        is_centred=True,
        frame=8,
    ),
    Picture(
        name="invoice",
        rows=(
            ("INVOICE 2048", "12 May 2026"),
            ("Bill to: Harbour Light Ltd",),
            ("Description", "Amount"),
            ("Lamp repair, 3 hours", "180.00"),
            ("Glass and seals", "64.50"),
            ("Amount due", "244.50"),
        ),
        width=900,
        size=30,
        rules=(2, 3, 5),
    ),
    Picture(
        name="book",
        rows=(
            ("It was late in the evening when",),
            ("the keeper climbed the stairs again,",),
            ("counting each step aloud, and lit",),
            ("the lamp for the last ship home.",),
        ),
        width=820,
        size=36,
        font="DejaVuSerif",
        paper="#f4ecd8",
        ink="#2b2118",
        gap=1.6,
        turn=-0.8,
        blur=0.5,
    ),
    Picture(
        name="label",
        rows=(("FRAGILE",), ("This side up",), ("Net weight 12.5 kg",)),
        width=520,
        size=44,
        font="DejaVuSansCondensed-Bold",
        ink="#a01010",
        is_centred=True,
        frame=6,
    ),
    Picture(
        name="terminal",
        rows=(
            ("$ relight up",),
            ("server ready on 127.0.0.1:8700",),
            ("agent joined with 2 cores",),
        ),
        width=680,
        size=28,
        font="DejaVuSansMono-Bold",
        ink="#7ee787",
        paper="#10151c",
    ),
    Picture(
        name="menu",
        rows=(
            ("Lunch menu",),
            ("Tomato soup", "6"),
            ("Grilled trout with lemon", "14"),
            ("Mushroom risotto", "12"),
            ("Pear and walnut tart", "7"),
        ),
        width=700,
        size=32,
        font="DejaVuSerif-Italic",
        ink="#3a2a5a",
        paper="#fffdf7",
        gap=1.9,
        rules=(1,),
    ),
    Picture(
        name="card",
        rows=(("Ada Marlow",), ("Marine engineer",), ("ada@harbour.example",), ("+44 20 7946 0123",)),
        width=600,
        size=30,
        font="DejaVuSansCondensed",
        paper="#eef3f1",
        ink="#143d36",
        margin=50,
    ),
    Picture(
        name="ticket",
        rows=(("ADMIT ONE", "No 004271"), ("Planetarium, Saturday 19:30",), ("Row F", "Seat 12")),
        width=720,
        size=34,
        font="DejaVuSansMono",
        paper="#ffe7a8",
        ink="#4a3000",
        frame=4,
        turn=1.2,
    ),
)


def draw(picture: Picture, fonts: Path) -> Image.Image:
    """The picture as an image, one row below the other."""
    image = Image.new("RGB", (picture.width, picture.height), picture.paper)
    pen = ImageDraw.Draw(image)
    font = ImageFont.truetype(str(fonts / f"{picture.font}.ttf"), picture.size)
    right = picture.width - picture.margin
    for number, row in enumerate(picture.rows):
        top = picture.margin + round(number * picture.gap * picture.size)
        if number in picture.rules:
            above = top - round((picture.gap - 1.2) * picture.size / 2)
            pen.line((picture.margin, above, right, above), fill=picture.ink, width=2)
        left = picture.margin + (right - picture.margin - pen.textlength(row[0], font)) / 2 * picture.is_centred
        pen.text((left, top), row[0], picture.ink, font)
        if len(row) > 1:
            pen.text((right - pen.textlength(row[-1], font), top), row[-1], picture.ink, font)
    if picture.frame:
        pen.rectangle((10, 10, picture.width - 10, picture.height - 10), outline=picture.ink, width=picture.frame)
    return age(image, picture)


def age(image: Image.Image, picture: Picture) -> Image.Image:
    """The image as a scanner or a camera might give it: askew, a little out of focus."""
    if picture.turn:
        image = image.rotate(picture.turn, Image.Resampling.BICUBIC, expand=True, fillcolor=picture.paper)
    return image.filter(ImageFilter.GaussianBlur(picture.blur)) if picture.blur else image


def main() -> None:
    """Draw them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fonts", type=Path, default=FONTS, help="the folder of the DejaVu fonts")
    fonts = parser.parse_args().fonts
    IMAGES.mkdir(exist_ok=True)
    for picture in PICTURES:
        # 64 colours are enough for ink, paper and the shades between them, and keep a file at a few KB.
        draw(picture, fonts).quantize(64).save(IMAGES / f"{picture.name}.png", optimize=True)
    expected = {f"{picture.name}.png": ["  ".join(row) for row in picture.rows] for picture in PICTURES}
    text = json.dumps(dict(sorted(expected.items())), indent=2)
    (IMAGES / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
