"""Weights that every worker shares: a file of some GB is mapped once, and each worker begins with it in a few milliseconds.

    relight run examples/weights.py                    # 2 GB, made on the spot and removed at the end
    relight run examples/weights.py --gb 4 --calls 32

Needs numpy. The file lies in the Python environment meanwhile (`share/`), which is what sandboxes see of this machine.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy

import relight

app = relight.App()
SIDE = 2048  # a layer is a matrix of so many rows and columns
LAYER_BYTES = SIDE * SIDE * 4


@app.cls(memory=512, scaledown_window=2)
class Model:
    """A stack of layers; `memory` bounds what a worker has of its own, and the weights are nobody's."""

    file: str = relight.parameter()

    @relight.enter(snap=True)
    def load(self) -> None:
        self.weights = relight.load_weights(self.file, warm=True)

    @relight.method()
    def ask(self, number: float, layers: int = 0) -> float:
        """The number, by way of so many layers, or of all."""
        x = numpy.full(SIDE, number, "<f4")
        for layer in list(self.weights.values())[: layers or None]:
            x = layer @ x / SIDE
        return float(x[0])

    @relight.method()
    def describe(self, number: float) -> tuple[str, float, int, int]:
        """Which worker this is, its answer, and how many bytes of the weights it then uses, and has for itself alone."""
        answer = self.ask.local(number)
        used, own = mapping_of(self.file)
        return os.environ["RELIGHT_WORKER"], answer, used, own


def mapping_of(file: str) -> tuple[int, int]:
    """Bytes of a file that this process uses, and that it has written to, as Linux counts them."""
    sizes = {"Rss": 0, "Private_Dirty": 0}
    is_ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if "-" in line.split(" ", 1)[0]:
            is_ours = line.endswith(file)
        elif is_ours and name in sizes:
            sizes[name] += int(rest.split()[0]) * 1024
    return sizes["Rss"], sizes["Private_Dirty"]


@contextmanager
def made(gb: float) -> Iterator[Path]:
    """A safetensors file of about so many GB, whose layers are ones, there until the block ends."""
    share = Path(sys.prefix, "share")
    share.mkdir(exist_ok=True)
    layers = max(1, round(gb * 1e9 / LAYER_BYTES))
    offsets = range(0, layers * LAYER_BYTES, LAYER_BYTES)
    tensor = {"dtype": "F32", "shape": [SIDE, SIDE]}
    header = {f"layer{n}": {**tensor, "data_offsets": [at, at + LAYER_BYTES]} for n, at in enumerate(offsets)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    ones = numpy.ones((SIDE, SIDE), "<f4").tobytes()
    with tempfile.TemporaryDirectory(prefix="relight-weights-", dir=share) as folder:
        os.chmod(folder, 0o755)  # workers run as somebody else
        path = Path(folder, "model.safetensors")
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _ in range(layers):
                file.write(ones)
        yield path


@app.local_entrypoint()
def main(gb: float = 2.0, calls: int = 8) -> None:
    with made(gb) as path:
        model = Model(file=str(path))
        for which in ("first", "second"):  # the first makes the template, too
            began = time.perf_counter()
            model.ask.remote(1.0, layers=1)
            print(f"{which} answer: after {(time.perf_counter() - began) * 1000:.1f} ms")
        workers: dict[str, tuple[int, int]] = {}
        for number, (worker, answer, used, own) in enumerate(model.describe.map(range(calls))):
            assert answer == number, (answer, number)
            workers[worker] = (used, own)
        for worker, (used, own) in workers.items():
            print(f"{worker[-6:]}: uses {used / 1e6:.0f} MB of weights, {own} bytes of them its own")
