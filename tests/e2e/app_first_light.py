"""What the end-to-end tests call."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import relight

app = relight.App("first_light")


class Odd(Exception):
    """An exception of the user's own."""


@app.function(max_workers=2)
def square(x: int) -> int:
    """The square of a number."""
    print(f"squaring {x}")
    return x * x


@app.function()
async def later(x: int) -> int:
    """An async function."""
    return x + 1


@app.function()
def fail(x: int) -> int:
    """Raises."""
    raise Odd(f"{x} is odd")


@app.function(retries=relight.Retries(count=2, delay_seconds=0.01))
def fail_twice(path: str) -> str:
    """Raises in the first two of its tries, which it counts by what its worker's /tmp holds."""
    marks = Path("/tmp") / path
    marks.mkdir(exist_ok=True)
    tries = len(list(marks.iterdir())) + 1
    (marks / str(tries)).touch()
    if tries < 3:
        raise Odd(f"try {tries}")
    return f"try {tries}"


@app.function(timeout=0.5, grace=0.5)
def sleep_long(seconds: float) -> str:
    """Takes longer than it may."""
    threading.Event().wait(seconds)
    return "woke"


@app.function()
def wait_long(seconds: float) -> str:
    """Takes as long as it is told."""
    threading.Event().wait(seconds)
    return "woke"


@app.function()
def length(data: bytes) -> int:
    """How many bytes came."""
    return len(data)


@app.function()
def make(size: int) -> bytes:
    """So many bytes."""
    return b"x" * size


@app.function()
def look(paths: list[str]) -> dict[str, str]:
    """What a worker sees: its processes, and what comes of reading each path."""
    seen = {"ps": subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout}
    for path in paths:
        try:
            seen[path] = ",".join(os.listdir(path)) if os.path.isdir(path) else Path(path).read_text()[:80]
        except OSError as error:
            seen[path] = f"refused: {type(error).__name__}"
    seen["uid_map"] = Path("/proc/self/uid_map").read_text()
    return seen


@app.function()
def leave_in_tmp(name: str) -> bool:
    """Leaves a file in /tmp."""
    (Path("/tmp") / name).write_text("secret")
    return True


@app.function(gpu="A100")
def on_gpu(prompt: str) -> str:
    """Needs a GPU."""
    return prompt.upper()


@app.cls(max_workers=1)
class Counter:
    """Counts in one worker."""

    @relight.enter()
    def begin(self) -> None:
        """Runs once."""
        self.count = 100

    @relight.method()
    def add(self, n: int) -> int:
        """The count, so much higher."""
        self.count += n
        return self.count
