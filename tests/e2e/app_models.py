"""An app of classes with parameters, for the end-to-end tests."""

from __future__ import annotations

import os
import threading
import uuid

import relight

app = relight.App("models")

with app.image.imports():
    import json


@app.cls(timeout=30, max_workers=2, env={"A": "deployed"})
class Model:
    """Says which worker made it, and with what."""

    size: str = relight.parameter(default="7b")
    heat: float = relight.parameter(default=1.0)
    salt: bytes = relight.parameter(default=b"")

    @relight.enter()
    def load(self) -> None:
        self.loaded = json.dumps([self.size, self.heat])

    @relight.method()
    def where(self) -> tuple[str, str]:
        return self.loaded, os.environ["RELIGHT_WORKER"]

    @relight.method()
    def salted(self, text: bytes) -> bytes:
        return self.salt + text

    @relight.method()
    def parts(self, n: int) -> object:
        for number in range(n):
            yield self.size, number

    @relight.method()
    def variables(self) -> tuple[str, str]:
        return os.environ["A"], os.environ.get("B", "")

    @relight.method()
    def sleep(self, seconds: float) -> None:
        threading.Event().wait(seconds)

    @relight.method()
    def wait_for(self, path: str) -> None:
        while not os.path.exists(path):
            threading.Event().wait(0.05)

    @relight.method()
    def asks_itself(self) -> tuple[str, str]:
        return self.where.remote()


@app.cls()
class Snapped:
    """Says what was made once for all workers that are forked from one template, and what for each."""

    @relight.enter(snap=True)
    def make(self) -> None:
        self.made = [str(uuid.uuid4()), str(os.getpid())]

    @relight.enter()
    def join(self) -> None:
        self.joined = str(uuid.uuid4())

    @relight.method()
    def which(self) -> tuple[list[str], str, str]:
        return self.made, self.joined, os.environ["RELIGHT_WORKER"]


@app.function()
def attempt(path: str) -> int:
    """Fails, and counts how often it was tried."""
    with open(path, "a") as file:
        file.write("x")
    raise LookupError(path)
