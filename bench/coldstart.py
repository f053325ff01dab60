"""Cold starts: from zero workers to the caller's result, beside processes, containers, actors and bare forks.

    python bench/coldstart.py                      # some minutes
    python bench/coldstart.py --quick              # 20 rounds, 10 s of starts
    python bench/coldstart.py --cases bare,torch --without ray,crun
    python bench/coldstart.py --soak 600           # only this: at the full rate, is anything left over?

Each start is waited for alone: before it, every worker of its function is gone.  Rounds go through all that is started
in turn.  JSON lines go to the standard output as they are measured, the tables to the standard error at the end.
`--check` ends with status 1 when a promise does not hold.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import coldsoak
from coldfigures import Figures, Seen, Start, figures_of, phases, table, targets_of
from coldrates import Crowd
from coldsubjects import BARE, CASES, TENSORS, Case, Field, Subject, deploy, weights_of
from harness import Tell, conclude, tell_to, turns
from served import Server, server_on

SETTINGS = {"RELIGHT_SWEEP_SECONDS": "0.05"}
"""A worker that is to be gone at once is seen by the sweep; the default of 0.25 s makes a run three times as long."""

BURST_CALLS = 50
BURSTS = 3
WARM_ROUNDS = 2
CROWDED = (BARE, TENSORS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What could not be measured here, and why."""

    what: str
    why: str


def main(words: Sequence[str] | None = None) -> int:
    """Measure what the command line says; the exit status."""
    options = parse(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as for Ctrl-C: what was started and made goes, too
    tell = tell_to()
    with (
        tempfile.TemporaryDirectory(prefix="rb-", dir=options.folder, ignore_cleanup_errors=True) as name,
        server_on(Path(name) / "data", SETTINGS) as server,
    ):
        if options.soak:
            return soak(server, Path(name), options, tell)
        seen = measure(server, Path(name), options, tell)
    targets = targets_of(seen)
    return conclude(targets, [table(seen), phases(seen.started)], tell, checks=options.check)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="how many starts of each (200)")
    parser.add_argument("--rare", type=int, default=10, help="what takes a second is started every so many rounds (10)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long starts are to be sustained (60; 0: not)")
    parser.add_argument("--soak", type=float, default=0.0, help="only this: so many seconds at the full rate")
    parser.add_argument("--quick", action="store_true", help="20 rounds, 10 s of starts")
    parser.add_argument("--cases", default="", help=f"some of: {', '.join(case.name for case in CASES)}")
    parser.add_argument("--without", default="", help="some of: fork, process, crun, ray, version, http")
    parser.add_argument("--folder", type=Path, help="where state and weights are kept (the system's temporary folder)")
    parser.add_argument("--check", action="store_true", help="end with status 1 when a promise does not hold")
    options = parser.parse_args(words)
    if options.quick:
        options.rounds, options.seconds = 20, 10.0
    options.without = frozenset(filter(None, options.without.split(",")))
    names = {case.name: case for case in CASES}
    chosen = options.cases.split(",") if options.cases else list(names)
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"there is no case {unknown[0]!r}; there are {', '.join(names)}")
    options.cases = [names[name] for name in chosen]
    return options


def measure(server: Server, folder: Path, options: argparse.Namespace, tell: Tell) -> Seen:
    """Rounds, then rates and weights."""

    def skip(what: str, why: str) -> None:
        tell("missing", Missing(what=what, why=why))

    with Field(server, folder, options.rare, skip) as field, weights(options.cases) as files:
        subjects = list(choose(field, options, files))
        run_rounds(subjects, range(-WARM_ROUNDS, 0), lambda kind, what: None)
        since = time.time()
        starts = run_rounds(subjects, range(options.rounds), tell)
    rates, bursts, weighed = [], [], []
    crowds = [Crowd(server, case.name, case.app) for case in options.cases if case in CROWDED]
    for crowd in crowds:
        if options.seconds:
            rates.append(crowd.sustain(options.seconds))
            tell("rate", rates[-1])
        bursts += [crowd.burst(BURST_CALLS) for _ in range(BURSTS)]
        for burst in bursts[-BURSTS:]:
            tell("burst", burst)
    for crowd in crowds:
        weighed.append(crowd.weigh())
        tell("weight", weighed[-1])
    figures = figures_of(subjects, starts)
    started = server.started(since)
    for one in (*figures, *started):
        tell("figures" if isinstance(one, Figures) else "started", one)
    return Seen(
        figures=tuple(figures), rates=tuple(rates), bursts=tuple(bursts), weights=tuple(weighed), started=tuple(started)
    )


@contextmanager
def weights(cases: Sequence[Case]) -> Iterator[dict[int, Path]]:
    """The files of weights that the cases need."""
    with ExitStack() as stack:
        sizes = sorted({case.weights_gib for case in cases} - {0})
        yield {gib: stack.enter_context(weights_of(gib)) for gib in sizes}


def choose(field: Field, options: argparse.Namespace, files: dict[int, Path]) -> Iterator[Subject]:
    """What the command line asks for."""
    for case in options.cases:
        yield from (
            one
            for one in field.functions(case, files.get(case.weights_gib))
            if one.way not in ("HTTP" if "http" in options.without else "",)
        )
        if "fork" not in options.without:
            yield from field.forks(case, files.get(case.weights_gib))
        if case.weights_gib:
            continue
        if "process" not in options.without:
            yield from field.processes(case, with_container="crun" not in options.without)
        if "ray" not in options.without and case in CROWDED:
            yield from field.actors(case)
    if "version" not in options.without:
        yield field.new_versions()


def run_rounds(subjects: Sequence[Subject], rounds: range, tell: Tell) -> list[Start]:
    """Start everything once a round, in another order each."""
    starts: list[Start] = []
    for number in rounds:
        for subject in turns(subjects, number):
            if number < 0 or number % subject.every == 0:
                starts.append(Start(subject=subject.name, round=number, ms=subject.once() * 1000))
                tell("start", starts[-1])
    return starts


def soak(server: Server, folder: Path, options: argparse.Namespace, tell: Tell) -> int:
    """Ten minutes, or what was asked for."""
    deploy(BARE, folder)
    soaked = coldsoak.Soak(server, Crowd(server, BARE.name, BARE.app), tell).run(options.soak)
    tell("soaked", soaked)
    targets = coldsoak.targets_of(soaked)
    return conclude(targets, [], tell, checks=options.check)


if __name__ == "__main__":
    sys.exit(main())
