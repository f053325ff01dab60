"""Functions that call functions, for the end-to-end tests."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator

import relight

app = relight.App("nested")
elsewhere = relight.App("nested_elsewhere")


class _Inside(http.client.HTTPConnection):
    """Plain HTTP over the socket that a worker finds."""

    def __init__(self) -> None:
        super().__init__("localhost", timeout=20)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/relight/platform.sock")


@app.function()
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


@elsewhere.function()
def add_in_another_app(a: int, b: int) -> int:
    """The sum."""
    return a + b


@app.function()
def add_by_another_app(a: int, b: int) -> int:
    """The sum, by an app that was deployed to the same environment."""
    return relight.Function.from_name("nested_elsewhere", "add_in_another_app").remote(a, b)


@app.function()
def add_elsewhere(a: int, b: int) -> int:
    """The sum, by another worker."""
    return add.remote(a, b)


@app.function()
def add_in_thread(a: int, b: int) -> int:
    """The sum, by another worker, asked for by a thread."""
    sums: list[int] = []
    thread = threading.Thread(target=lambda: sums.append(add.remote(a, b)))
    thread.start()
    thread.join()
    return sums[0]


@app.function()
async def add_async(a: int, b: int) -> int:
    """The sum, by another worker, awaited."""
    return await add.remote.aio(a, b)


@app.function()
def sum_of_squares(n: int) -> int:
    """By a map of a function of the same app."""
    return sum(square.map(range(n)))


@app.function()
def square(x: int) -> int:
    """The square."""
    return x * x


@app.function()
def count(n: int) -> Iterator[int]:
    """Counts."""
    yield from range(n)


@app.function()
def sum_of_items(n: int) -> int:
    """By the items of a generator elsewhere."""
    return sum(count.remote(n))


@app.function()
def depth(n: int) -> int:
    """How deep calls within calls go."""
    return 0 if n == 0 else 1 + depth.remote(n - 1)


@app.function(max_workers=1)
def fib(n: int) -> int:
    """Needs as many workers as it goes deep, and has one."""
    return n if n < 2 else fib.remote(n - 1) + fib.remote(n - 2)


@app.function(max_workers=1)
def fib_here(n: int) -> int:
    """Goes deep as a plain function."""
    return n if n < 2 else fib_here(n - 1) + fib_here(n - 2)


@app.function()
def survive(n: int) -> str:
    """Sees a deadlock, and goes on."""
    try:
        return str(fib.remote(n))
    except relight.Deadlock as error:
        return f"{type(error).__name__}: {error}"


@app.function()
def wait_long(seconds: float) -> str:
    """Takes as long as it is told."""
    threading.Event().wait(seconds)
    return "woke"


@app.function()
def wait_for_one(seconds: float) -> str:
    """Waits for a call."""
    return wait_long.remote(seconds)


@app.function(grace=1.0)
def wait_for_others(seconds: float) -> str:
    """Waits for one call, and lets another go on alone."""
    wait_long.spawn(seconds + 0.001)
    return wait_long.remote(seconds)


@app.function(timeout=2.0, grace=1.0)
def wait_too_long() -> str:
    """Waits for a call longer than it may run."""
    return wait_long.remote(3000.0)


@app.function()
def ask(method: str, path: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, str]:
    """What the server says to a worker that speaks HTTP to it."""
    connection = _Inside()
    connection.request(method, path, body, {"Content-Type": kind} if body else {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors="replace")


@app.function(network="none")
def surroundings() -> dict[str, str]:
    """What a worker has that might let it be somebody."""
    kept = {name: value for name, value in os.environ.items() if "TOKEN" in name.upper()}
    with socket.socket() as outside:
        outside.settimeout(2)
        try:
            outside.connect(("192.0.2.1", 80))
        except OSError as error:
            kept["network"] = type(error).__name__
    return kept
