"""How fast the web is: a FastAPI site on relight, the same on uvicorn, and what others do, in the same run.

    python bench/web.py                        # 4 minutes
    python bench/web.py --quick                # 1 minute
    python bench/web.py --without litserve,ray

JSON lines go to the standard output as they are measured, the table to the standard error at the end.
`--check` ends with status 1 when a target does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import webload
import webpeers
from calls import Skipped, machine
from harness import Target, Tell, columns, conclude, quantile, tell_to, turns
from served import Server, server_on
from webload import Delay, Rate, delay_of

RATE = 500
SCRIPTS = {
    "item": 'wrk.method = "POST"\nwrk.body = \'{"text": "\' .. string.rep("x", 1000) .. \'"}\'\n'
    'wrk.headers["Content-Type"] = "application/json"\n',
    "large": 'wrk.method = "POST"\nwrk.body = string.rep("x", 1048576)\n',
    "litserve": 'wrk.method = "POST"\nwrk.body = "{}"\nwrk.headers["Content-Type"] = "application/json"\n',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: int
    rate_seconds: float
    firsts: int
    streams: int = 100
    sockets: int = 1000


FULL = Plan(rounds=5, seconds=4, rate_seconds=6.0, firsts=50)
QUICK = Plan(rounds=2, seconds=2, rate_seconds=3.0, firsts=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen once: seconds in milliseconds, at the half and at 99 of 100."""

    what: str
    peer: str
    count: int
    p50_ms: float
    p99_ms: float


class Bench:
    """One run."""

    def __init__(self, plan: Plan, folder: Path, tell: Tell) -> None:
        self._plan = plan
        self._folder = folder
        self._tell = tell
        self.rates: list[Rate] = []
        self.delays: list[Delay] = []
        self.seen: list[Seen] = []

    def run(self, without: Sequence[str]) -> None:
        """All of it."""
        with ExitStack() as stack:
            server = stack.enter_context(server_on(self._folder / "relight", {"RELIGHT_SWEEP_SECONDS": "0.05"}))
            urls = {"relight": _deployed(), "uvicorn": stack.enter_context(webpeers.uvicorn(self._folder / "uvicorn"))}
            self._site(urls)
            self._streaming(urls)
            self._first(server, urls["relight"].removesuffix("steady") + "cold/")
        self._others(without)

    def _site(self, urls: dict[str, str]) -> None:
        """The site on both, in turns."""
        for number in range(self._plan.rounds + 1):  # the first is to warm up
            for peer in turns(list(urls), number):
                for what, path in (("noop", "/"), ("item", "/item"), ("large", "/large")):
                    found = webload.per_second(urls[peer] + path, self._plan.seconds, self._script(what))
                    self._rate(Rate(peer=peer, what=what, round=number, per_second=found))
            for peer in turns(list(urls), number):
                took = asyncio.run(webload.at_rate(urls[peer] + "/", RATE, self._plan.rate_seconds))
                delay = delay_of(peer, number, RATE, took)
                if number:
                    self.delays.append(delay)
                    self._tell("delay", delay)

    def _streaming(self, urls: dict[str, str]) -> None:
        for peer, url in urls.items():
            late = asyncio.run(webload.streams(url + "/events", self._plan.streams))
            self._see("how late an event of 100 streams is", peer, late)
            took = asyncio.run(webload.sockets(url + "/socket", self._plan.sockets, 1000))
            self._see("an echo while 1,000 WebSockets are open", peer, took)

    def _first(self, server: Server, url: str) -> None:
        """Answers that find no worker."""
        took = []
        for number in range(self._plan.firsts + 1):
            found = asyncio.run(webload.first_answer(url))
            if number:
                took.append(found)
            while any(one["function"] == "cold" for one in server.workers("bench-web")):
                pass  # each look is a request, and waits for its answer
        self._see("the first answer after zero", "relight", took)

    def _others(self, without: Sequence[str]) -> None:
        for peer in webpeers.PROGRAMS:
            why = "it was left out" if peer in without else webpeers.missing(peer)
            if why:
                self._tell("skipped", Skipped(peer=peer, why=why))
                continue
            with webpeers.program(peer, self._folder / peer) as url:
                for number in range(self._plan.rounds + 1):
                    found = webload.per_second(url, self._plan.seconds, self._script(peer))
                    self._rate(Rate(peer=peer, what="noop", round=number, per_second=found))

    def _script(self, what: str) -> Path | None:
        if what not in SCRIPTS:
            return None
        path = self._folder / f"{what}.lua"
        path.write_text(SCRIPTS[what])
        return path

    def _rate(self, rate: Rate) -> None:
        if rate.round:
            self.rates.append(rate)
            self._tell("rate", rate)

    def _see(self, what: str, peer: str, seconds: list[float]) -> None:
        seen = Seen(
            what=what,
            peer=peer,
            count=len(seconds),
            p50_ms=quantile(seconds, 0.5) * 1000,
            p99_ms=quantile(seconds, 0.99) * 1000,
        )
        self.seen.append(seen)
        self._tell("seen", seen)

    # -- what it comes to

    def rate(self, peer: str, what: str = "noop") -> float:
        """The median of a peer's rounds; 0 where there is none."""
        found = [one.per_second for one in self.rates if (one.peer, one.what) == (peer, what)]
        return statistics.median(found) if found else 0.0

    def targets(self) -> list[Target]:
        """What was promised."""
        own = self.rate("relight")
        made = [
            Target(what="noop, beside uvicorn", seen=own / self.rate("uvicorn"), limit=0.5, unit="x", is_most=False)
        ]
        for peer, least in (("litserve", 2.5), ("ray", 10.0)):
            if self.rate(peer):
                made.append(
                    Target(
                        what=f"noop, beside {peer}", seen=own / self.rate(peer), limit=least, unit="x", is_most=False
                    )
                )
        for part, most in (("p50_ms", 0.6), ("p99_ms", 4.0)):
            added = self._delay("relight", part) - self._delay("uvicorn", part)
            made.append(Target(what=f"added at {RATE}/s, {part[:3]}", seen=added, limit=most, unit="ms"))
        first = next(one for one in self.seen if one.what.startswith("the first"))
        made.append(Target(what="first answer after zero, p50", seen=first.p50_ms, limit=15.0, unit="ms"))
        return made

    def _delay(self, peer: str, part: str) -> float:
        return statistics.median(float(getattr(one, part)) for one in self.delays if one.peer == peer)

    def tables(self) -> list[str]:
        """The figures for people."""
        peers = list(dict.fromkeys(one.peer for one in self.rates))
        rates = [
            (
                peer,
                *(
                    f"{self.rate(peer, what):,.0f}" if self.rate(peer, what) else "-"
                    for what in ("noop", "item", "large")
                ),
            )
            for peer in peers
        ]
        delays = [
            (peer, f"{self._delay(peer, 'p50_ms'):.2f}", f"{self._delay(peer, 'p99_ms'):.2f}")
            for peer in dict.fromkeys(one.peer for one in self.delays)
        ]
        seen = [(one.what, one.peer, f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}") for one in self.seen]
        return [
            columns([("answers a second", "noop", "1 KB in", "1 MB in and out"), *rates]),
            columns([(f"at {RATE} a second", "p50 ms", "p99 ms"), *delays]),
            columns([("", "", "p50 ms", "p99 ms"), *seen]),
        ]


def main(words: Sequence[str] | None = None) -> int:
    """Measure what the command line says; the exit status."""
    parser = argparse.ArgumentParser(description="How fast the web is.")
    parser.add_argument("--quick", action="store_true", help="less of it")
    parser.add_argument("--without", default="", help="peers to leave out, with commas between")
    parser.add_argument("--check", action="store_true", help="end with status 1 when a target does not hold")
    options = parser.parse_args(words)
    if not webload.has_wrk():
        sys.stderr.write("cannot measure: there is no wrk; apt-get install wrk\n")
        return 2
    tell = tell_to()
    with tempfile.TemporaryDirectory(prefix="rb-", ignore_cleanup_errors=True) as name:
        tell("machine", machine(Path(name)))
        bench = Bench(QUICK if options.quick else FULL, Path(name), tell)
        bench.run(options.without.split(","))
    return conclude(bench.targets(), bench.tables(), tell, checks=options.check)


def _deployed() -> str:
    """The URL of the site that stays, deployed to the server that this process finds."""
    from website import app, steady

    app.deploy()
    url = steady.get_web_url()
    assert url is not None, "it answers web requests"
    assert app._session is not None
    app._session.connection.close()
    asyncio.run(webload.first_answer(url + "/"))
    return url


if __name__ == "__main__":
    os.environ.pop("RELIGHT_URL", None)
    sys.exit(main())
