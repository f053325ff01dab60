"""The app of the stress: calls of all lengths and manners, whose every run tells a witness of itself.

It tells by datagrams to the machine's own loopback, so that what is known of a run depends on nothing of relight.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event

import relight

app = relight.App("under_stress")


class Broken(Exception):
    """What a call raises that is to fail."""


@app.function(max_workers=3, grace=1.0, network="host")
def work(n: int, manner: str, seconds: float, witness: int) -> int:
    """Three times `n`, after so many seconds spent in a manner."""
    return _work(n, manner, seconds, witness)


@app.function(max_workers=2, grace=1.0, network="host")
def work_ahead(n: int, manner: str, seconds: float, witness: int) -> int:
    """The same, for calls most of which are short: they are given to workers ahead."""
    return _work(n, manner, seconds, witness)


@app.function(max_workers=2, grace=1.0, network="host")
async def await_ahead(n: int, manner: str, seconds: float, witness: int) -> int:
    """The same, on an event loop."""
    if manner != "waits":
        return _work(n, manner, seconds, witness)
    with _told(witness):
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), seconds)
        return 3 * n


@app.function(max_workers=3, grace=1.0, network="host", retries=relight.Retries(count=2, delay_seconds=0.01))
def work_again(n: int, manner: str, seconds: float, witness: int) -> int:
    """The same, tried again when it raises."""
    return _work(n, manner, seconds, witness)


@app.function(max_workers=2, grace=1.0, network="host")
def count(n: int, seconds: float, witness: int) -> Iterator[int]:
    """1 to n, each after so many seconds."""
    yield from _count(n, seconds, witness)


@app.function(max_workers=2, grace=1.0, network="host", retries=2)
def count_again(n: int, seconds: float, witness: int) -> Iterator[int]:
    """The same, from the first when its worker is lost."""
    yield from _count(n, seconds, witness)


def _work(n: int, manner: str, seconds: float, witness: int) -> int:
    with _told(witness):
        if manner == "raises":
            Event().wait(seconds)
            raise Broken(f"{n} is broken")
        MANNERS[manner](seconds)
        return 3 * n


def _count(n: int, seconds: float, witness: int) -> Iterator[int]:
    with _told(witness):
        for number in range(1, n + 1):
            Event().wait(seconds)
            yield number


@contextmanager
def _told(witness: int) -> Iterator[None]:
    run, call = uuid.uuid4().hex, relight.current_call()
    with socket.socket(type=socket.SOCK_DGRAM) as teller:

        def tell(what: str) -> None:
            teller.sendto(f"{what} {call} {run} {time.time()}".encode(), ("127.0.0.1", witness))

        tell("began")
        try:
            yield
        finally:
            tell("ended")


def _wait(seconds: float) -> None:
    Event().wait(seconds)


def _compute(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def _hold(seconds: float) -> None:
    """Deep in C: no signal comes, and no Python runs."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


MANNERS = {"waits": _wait, "computes": _compute, "holds": _hold}
