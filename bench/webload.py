"""Who asks: wrk for how much, and clients of our own for how long one waits.

wrk takes next to nothing of the machine; what is timed one by one is asked at a fixed rate, whether answers come or not, so a
server that stops for a while is seen to.
"""

from __future__ import annotations

import asyncio
import base64
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harness import quantile

_PER_SECOND = re.compile(r"Requests/sec:\s+([\d.]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many answers a second a peer gave, in one round."""

    peer: str
    what: str
    round: int
    per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """How long answers took at a fixed rate, in one round."""

    peer: str
    round: int
    rate: int
    p50_ms: float
    p99_ms: float


def has_wrk() -> bool:
    """Whether there is one."""
    return shutil.which("wrk") is not None


def per_second(url: str, seconds: int, script: Path | None = None) -> float:
    """Answers a second while 32 ask at once.  Raises RuntimeError when one was no success."""
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s", *(["-s", str(script)] if script else []), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    found = _PER_SECOND.search(said)
    if found is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"cannot measure {url}: wrk said:\n{said}")
    return float(found[1])


async def at_rate(url: str, rate: int, seconds: float) -> list[float]:
    """The seconds that each answer took, from when it was due to be asked for."""
    where = urlsplit(url)
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(32):
        free.put_nowait(await asyncio.open_connection(where.hostname, where.port))
    request = f"GET {where.path or '/'} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode()
    took: list[float] = []

    async def ask(due: float) -> None:
        reader, writer = await free.get()
        writer.write(request)
        await _read_answer(reader)
        took.append(time.perf_counter() - due)
        free.put_nowait((reader, writer))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(ask(max(due, time.perf_counter() - 0.001)))
    while not free.empty():
        free.get_nowait()[1].close()
    return took


async def _read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"cannot measure: {head!r}")
    length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]  # every answer has one
    return await reader.readexactly(length)


async def streams(url: str, count: int) -> list[float]:
    """How late each event of so many streams came, in seconds: twenty of each, a tenth of a second apart."""
    where = urlsplit(url)
    late: list[float] = []

    async def listen() -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(f"GET {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
        first, seen = 0.0, 0
        while line := await reader.readline():
            if line.startswith(b"data: "):
                now = time.perf_counter()
                first = first or now
                late.append(now - first - 0.1 * seen)
                seen += 1
                if seen == 20:
                    break
        if seen != 20:
            raise RuntimeError(f"cannot measure: {seen} events of 20 came")
        writer.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(listen())
    return late


async def sockets(url: str, count: int, echoes: int) -> list[float]:
    """So many WebSockets are open; the seconds that an echo takes on one of them."""
    where = urlsplit(url)
    key = base64.b64encode(bytes(16)).decode()
    request = (
        f"GET {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    ways = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head.splitlines()[0]:
            raise RuntimeError(f"cannot measure: {head!r}")
        ways.append((reader, writer))
    took = []
    for number in range(echoes):
        reader, writer = ways[number % count]
        began = time.perf_counter()
        writer.write(b"\x81\x85" + bytes(4) + b"hello")
        if await reader.readexactly(7) != b"\x81\x05hello":
            raise RuntimeError("cannot measure: an echo is not what was said")
        took.append(time.perf_counter() - began)
    for _, writer in ways:
        writer.close()
    return took


async def first_answer(url: str) -> float:
    """The seconds until the first answer, connecting included."""
    where = urlsplit(url)
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(f"GET {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
    await _read_answer(reader)
    took = time.perf_counter() - began
    writer.close()
    return took


def delay_of(peer: str, number: int, rate: int, took: list[float]) -> Delay:
    """What one round comes to."""
    return Delay(
        peer=peer,
        round=number,
        rate=rate,
        p50_ms=quantile(took, 0.5) * 1000,
        p99_ms=quantile(took, 0.99) * 1000,
    )
