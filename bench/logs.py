"""How fast lines are kept and found: realistic lines straight into a store, then searches through the HTTP API.

    python bench/logs.py                       # ten million lines, 10 minutes, 2 GB in a temporary folder
    python bench/logs.py --lines 1000000

JSON lines go to the standard output as they are measured, the table to the standard error at the end.  `--check` ends
with status 1 when a target does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import urlencode

from relight.store.bodies import Origin, Written
from relight.store.logs import Batch
from relight.store.store import open_store

TARGET_MS = 200.0
BATCH = 2000
ROUNDS = 7
DAYS = 30
SAMPLE = 500_000
RARE = "order-48151623"
LEVELS = ("DEBUG", "INFO", "INFO", "INFO", "WARNING")
VOCABULARY = (
    "starting finished loading model weights batch request response user cache miss hit connection retry timeout queue "
    "worker image tensor file open close write read token session commit rollback index shard replica"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What keeping them came to."""

    lines: int
    text_mib: float
    file_mib: float
    bytes_per_line: float
    lines_per_second: float
    indexed_lines_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One question, asked `ROUNDS` times: the first, the median and the slowest answer."""

    question: str
    asked: dict[str, str | int]
    lines: int
    first_ms: float
    median_ms: float
    slowest_ms: float
    scan_ms: float | None
    """A look at each line by `instr` in a plain table, from a sample, where all of it has to be looked at."""


# -- lines


class Lines:
    """Lines of 50 workers of 15 functions, a few hundred for each call; `texts` counts their bytes."""

    def __init__(self, count: int) -> None:
        self._random = random.Random(7)
        self._words = VOCABULARY.split()
        self._count = count
        self._begin = time.time() - DAYS * 86_400
        self.some_id = ""
        self.some_call = ""
        self.text_bytes = 0

    def batches(self) -> Iterator[tuple[list[Written], int]]:
        """Batches as agents send them, and how many lines each has."""
        at = 0
        calls = [self._origin(number) for number in range(50)]
        while at < self._count:
            written = []
            size = min(BATCH, self._count - at)
            for begin in range(0, size, 40):
                slot = self._random.randrange(50)
                if self._random.random() < 0.2:
                    calls[slot] = self._origin(slot)
                when = self._begin + (at + begin) * DAYS * 86_400 / self._count
                texts = tuple(self._text(at + begin + more, when) for more in range(min(40, size - begin)))
                self.text_bytes += sum(map(len, texts))
                written.append(Written(origin=calls[slot], at=when, texts=texts))
            if at <= self._count // 3 < at + size:
                self.some_call = written[0].origin.call
            yield written, size
            at += size

    def _origin(self, slot: int) -> Origin:
        app = slot % 5
        return Origin(
            app=f"app-{app}",
            environment="main",
            function=f"function-{app}-{slot % 3}",
            worker=f"worker-{self._random.getrandbits(64):016x}{slot:04}",
            call=f"call-{self._random.getrandbits(128):026x}"[:31],
            source="stderr" if slot % 10 == 9 else "stdout",
        )

    def _text(self, number: int, when: float) -> str:
        kind = self._random.random()
        pick, bits, words = self._random.choice, self._random.getrandbits, self._words
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(when))}.{bits(20):07}"
        if number in (self._count // 4, self._count // 2):
            return f"{stamp} INFO shipped {RARE} after {bits(7)} tries"
        if number == self._count // 5:
            self.some_id = f"{bits(64):016x}"
            return f"{stamp} INFO request {self.some_id} GET /api/users/{bits(16)} 200 in {bits(10) / 10:.1f}ms"
        if kind < 0.001:
            return f"{stamp} ERROR {pick(words)}: connection reset by peer, giving up after {bits(3)} tries"
        if kind < 0.35:
            return f"{stamp} INFO request {bits(64):016x} GET /api/users/{bits(16)} 200 in {bits(10) / 10:.1f}ms"
        if kind < 0.55:
            message = f"{pick(words)} {pick(words)} {pick(words)}"
            return f'{{"level":"info","time":"{stamp}","trace":"{bits(128):032x}","msg":"{message}","n":{bits(13)}}}'
        if kind < 0.75:
            return f"epoch {bits(6)} step {bits(16)} loss {bits(17) / 1e5:.5f} lr {bits(10) / 1e6:.6f} {bits(10)} samples/s"
        if kind < 0.95:
            return f"[{stamp}] {pick(LEVELS)} {pick(words)}.{pick(words)}: {' '.join(self._random.choices(words, k=6))}"
        return f'  File "/app/{pick(words)}.py", line {bits(9)}, in {pick(words)}'


async def fill(folder: Path, lines: Lines) -> Kept:
    """Keep all, as a server does; the index is made at the end, so that each has its own rate."""
    store = await open_store(folder)
    count = keeping = 0.0
    for number, (written, size) in enumerate(lines.batches(), 1):
        begun = time.perf_counter()
        await store.logs.keep([Batch(written={"default": written}, sender="bench", number=number)])
        keeping += time.perf_counter() - begun
        count += size
    begun = time.perf_counter()
    while await store.logs.index_next():
        pass
    indexing = time.perf_counter() - begun
    await store.close()
    size = (folder / "logs.db").stat().st_size
    return Kept(
        lines=int(count),
        text_mib=lines.text_bytes / 2**20,
        file_mib=size / 2**20,
        bytes_per_line=size / count,
        lines_per_second=count / keeping,
        indexed_lines_per_second=count / indexing,
    )


# -- questions


def questions_of(lines: Lines) -> list[tuple[str, dict[str, str | int], str]]:
    """Name, what is asked, and the text that a scan would look for everywhere ("" where it would stop early)."""
    middle = f"{time.time() - DAYS / 2 * 86_400:.0f}"
    return [
        ("rare word", {"search": RARE}, RARE),
        ("whole id", {"search": lines.some_id}, lines.some_id),
        ("part of an id", {"search": lines.some_id[3:13]}, lines.some_id[3:13]),
        ("absent word", {"search": "unobtainium"}, "unobtainium"),
        ("absent id", {"search": "0123456789abcdef"}, "0123456789abcdef"),
        ("absent, in either case", {"search": "Unobtainium", "ignore_case": 1}, "unobtainium"),
        (
            "absent phrase of common words",
            {"search": "cache timeout tensor cache timeout tensor"},
            "cache timeout tensor c",
        ),
        ("absent, three letters", {"search": "zqx"}, "zqx"),
        ("absent, two letters", {"search": "ZQ"}, "ZQ"),
        ("common word", {"search": "INFO"}, ""),
        ("one line in a thousand", {"search": "connection reset by peer"}, ""),
        ("common word of an app, since the middle", {"search": "INFO", "app": "app-3", "since": middle}, ""),
        ("common word of a function, oldest first", {"search": "retry", "function": "function-2-1", "tail": 0}, ""),
        ("rare word of an app that has none", {"search": RARE, "app": "app-9"}, RARE),
        ("a call", {"call": lines.some_call}, lines.some_call),
        ("the newest", {}, ""),
    ]


def ask(folder: Path, url: str, lines: Lines, scan_ms: float) -> Iterator[Found]:
    """Every question, through the API that the command line uses; the newest 1,000 lines of each answer, as there."""
    token = (folder / "token").read_text()
    for name, asked, scanned in questions_of(lines):
        request = urllib.request.Request(
            f"{url}/v1/logs?{urlencode({'tail': 1000, **asked})}", headers={"Authorization": f"Bearer {token}"}
        )
        seconds, count = [], 0
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            with urllib.request.urlopen(request, timeout=60) as answer:
                count = answer.read().count(b"\n")
            seconds.append((time.perf_counter() - begun) * 1000)
        yield Found(
            question=name,
            asked=asked,
            lines=count,
            first_ms=seconds[0],
            median_ms=statistics.median(seconds),
            slowest_ms=max(seconds),
            scan_ms=scan_ms if scanned else None,
        )


@contextmanager
def server_on(folder: Path) -> Iterator[str]:
    """A server without an agent on the folder; its address."""
    command = [sys.executable, "-m", "relight", "up", "--data-dir", str(folder), "--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "RELIGHT_WITH_AGENT": "false"},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("cannot measure: the server did not start; look into server.log in its folder")
        yield str(json.loads((folder / "run" / "server.json").read_text())["url"])
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def scan(folder: Path, count: int) -> float:
    """How long `instr` takes over so many lines in a plain table, in milliseconds; from a sample of them."""
    sample = min(SAMPLE, count)
    texts = (text for written, _ in Lines(sample).batches() for group in written for text in group.texts)
    with sqlite3.connect(folder / "plain.db") as plain:
        plain.execute("CREATE TABLE lines (id INTEGER PRIMARY KEY, text TEXT)")
        plain.executemany("INSERT INTO lines (text) VALUES (?)", ((text,) for text in islice(texts, sample)))
        plain.commit()
        seconds = []
        for _ in range(3):
            begun = time.perf_counter()
            plain.execute("SELECT count(*) FROM lines WHERE instr(text, 'unobtainium')").fetchone()
            seconds.append(time.perf_counter() - begun)
    plain.close()
    (folder / "plain.db").unlink()
    return statistics.median(seconds) * 1000 * count / sample


# -- the whole


def tell(kind: str, what: Kept | Found) -> None:
    """One JSON line."""
    sys.stdout.write(json.dumps({"kind": kind, **asdict(what)}) + "\n")
    sys.stdout.flush()


def table(kept: Kept, found: Sequence[Found]) -> str:
    """What people read."""
    head = (
        f"{kept.lines:,} lines, {kept.text_mib:,.0f} MiB of text, in {kept.file_mib:,.0f} MiB "
        f"({kept.bytes_per_line:.0f} bytes a line, {kept.file_mib / kept.text_mib:.2f} of the text)\n"
        f"kept {kept.lines_per_second:,.0f} lines a second, indexed {kept.indexed_lines_per_second:,.0f} behind it\n"
    )
    rows = [f"{'question':42}{'lines':>7}{'first ms':>10}{'median ms':>11}{'slowest ms':>12}{'plain scan':>12}"]
    for one in found:
        times = f"{one.scan_ms / one.median_ms:10.0f} x" if one.scan_ms is not None else ""
        rows.append(
            f"{one.question:42}{one.lines:7}{one.first_ms:10.1f}{one.median_ms:11.1f}{one.slowest_ms:12.1f}{times:>12}"
        )
    return head + "\n".join(rows)


def main() -> int:
    """Measure; 1 when `--check` was asked for and a median is above the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where the store is made for the time of this; must not exist")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary) / "data"
        folder.mkdir()
        lines = Lines(options.lines)
        kept = asyncio.run(fill(folder, lines))
        tell("kept", kept)
        scan_ms = scan(Path(temporary), options.lines)
        found = []
        with server_on(folder) as url:
            for one in ask(folder, url, lines, scan_ms):
                tell("found", one)
                found.append(one)
    sys.stderr.write(table(kept, found) + "\n")
    slow = [one.question for one in found if one.median_ms > TARGET_MS]
    sys.stderr.write(f"target of {TARGET_MS:.0f} ms: {'missed by ' + ', '.join(slow) if slow else 'held'}\n")
    return int(options.check and bool(slow))


if __name__ == "__main__":
    raise SystemExit(main())
