"""Generators for the end-to-end tests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator

import relight

app = relight.App("generators")


class Broken(Exception):
    """An exception of the user's own."""


@app.function()
def clock(n: int) -> Iterator[float]:
    """When each item was begun; the machine is the caller's."""
    for _ in range(n):
        yield time.monotonic()


@app.function()
def count(n: int) -> Iterator[int]:
    """1 to n; says what it makes."""
    for number in range(1, n + 1):
        print(f"makes {number}", flush=True)
        yield number


@app.function()
async def count_later(n: int) -> AsyncIterator[int]:
    """The same, by an event loop."""
    for number in range(1, n + 1):
        yield number


@app.function()
def endless() -> Iterator[int]:
    """Goes on until it is stopped, and says so then."""
    number = 0
    try:
        while True:
            number += 1
            yield number
    finally:
        print(f"stopped after {number}", flush=True)


@app.function()
async def endless_later() -> AsyncIterator[int]:
    """The same, by an event loop."""
    number = 0
    try:
        while True:
            number += 1
            yield number
    finally:
        print(f"stopped after {number}", flush=True)


@app.function()
def large(n: int, size: int) -> Iterator[bytes]:
    """Items of so many bytes."""
    for number in range(n):
        yield bytes([number]) * size


@app.function()
def break_after(n: int) -> Iterator[int]:
    """Raises after so many items."""
    yield from range(1, n + 1)
    raise Broken(f"after {n}")


@app.function(retries=relight.Retries(count=3, delay_seconds=0.01))
def count_again(n: int) -> Iterator[int]:
    """May be run again."""
    yield from range(1, n + 1)


@app.cls()
class Reader:
    """A class with a method that yields."""

    @relight.method()
    def words(self, text: str) -> Iterator[str]:
        """The words of a text."""
        yield from text.split()
