"""Reads the text out of a folder of images, on as many workers as there is room for.

    pip install 'relight[examples]'
    relight run examples/ocr.py                        # the images beside this file
    relight run examples/ocr.py --folder ~/scans       # your own

The models (text detection, direction, recognition) come inside the rapidocr package, so nothing is downloaded.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import relight

if TYPE_CHECKING:
    from collections.abc import Sequence

app = relight.App()
IMAGES = Path(__file__).parent / "images"
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@app.cls(cpu=1, memory=1024)
class Reader:
    """One object per worker: the models are loaded once and read many images."""

    @relight.enter()
    def load(self) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before its import: newer onnxruntimes report to their maker
        import numpy  # here rather than above: only workers need these
        from rapidocr import RapidOCR

        self.ocr = RapidOCR(params={"Global.log_level": "critical", "EngineConfig.onnxruntime.intra_op_num_threads": 1})
        blank = numpy.full((48, 320, 3), 255, numpy.uint8)
        self.ocr(blank)  # rapidocr loads each model at its first use: let that be now,
        self.ocr(blank, use_det=False)  # first the detector, which finds nothing here, then the other two

    @relight.method()
    def read(self, image: bytes) -> list[str]:
        """The lines of text, from top to bottom."""
        found = self.ocr(image, use_det=True)
        return lines_of(found.boxes, found.txts) if len(found) else []


def lines_of(boxes: "Sequence[Sequence[Sequence[float]]]", texts: "Sequence[str]") -> list[str]:
    """Joins what stands side by side into lines.  A box is its four corners, clockwise from the top left."""
    rows: list[tuple[float, list[tuple[float, str]]]] = []  # (its middle, its pieces with their left edges)
    for box, text in sorted(zip(boxes, texts, strict=True), key=lambda piece: piece[0][0][1] + piece[0][2][1]):
        middle, height = (box[0][1] + box[2][1]) / 2, box[2][1] - box[0][1]
        if rows and middle - rows[-1][0] < height / 2:
            rows[-1][1].append((box[0][0], text))
        else:
            rows.append((middle, [(box[0][0], text)]))
    return ["  ".join(text for _, text in sorted(pieces)) for _, pieces in rows]


@app.local_entrypoint()
def main(folder: str = str(IMAGES)) -> None:
    paths = sorted(path for path in Path(folder).expanduser().iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(
            f"cannot read images: {folder} has none ({', '.join(sorted(SUFFIXES))}); name another --folder"
        )

    pages = Reader().read.map(path.read_bytes() for path in paths)
    for path, lines in zip(paths, pages, strict=True):
        print(path.name, *(f"    {line}" for line in lines), sep="\n")
