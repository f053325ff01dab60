"""What the tests of calls over HTTP call."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import relight

app = relight.App("http-calls")
asked: Counter[str] = Counter()


@app.function(max_workers=1)
def once(name: str) -> int:
    """How often it was asked about a name."""
    asked[name] += 1
    return asked[name]


@app.function()
def fail(why: str) -> None:
    """It does."""
    raise ValueError(why)


@app.function()
def talk(words: list[str]) -> int:
    """Say words."""
    for word in words:
        print(word)
    return len(words)


@app.function()
def count(to: int) -> Iterator[int]:
    """Count."""
    for number in range(to):
        print(f"made {number}")
        yield number


@app.function()
def odd():  # type: ignore[no-untyped-def]
    """What JSON cannot say."""
    return {1, 2}


@app.function()
def raw() -> bytes:
    """More than a message holds."""
    return b"\x89PNG" + bytes(300_000)


@app.function()
def slow() -> str:
    """Take longer than its caller."""
    threading.Event().wait(2)
    return "slow"
