"""What metering adds to a warm call: one server that meters and one that does not, called in turns in the same run.

    python bench/metering.py                  # 4,000 pairs of calls, a minute
    python bench/metering.py --pairs 500 --check

Each pair is one call to each server, first the one and then the other, in turns, so that whatever else the machine does meets
both.  There are several rounds, with servers of their own, of which the one and then the other is started first: two servers
that are alike may differ by more than metering takes, for as long as they live.  A figure is the median of its server's calls; what metering adds is the median of what the two of each pair differ by,
which a slow minute of the machine does not move.  A JSON line goes to the standard output, what it means to the standard error.
`--check` ends with status 1 when that is more than 5 % of a call without metering.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import environment
from noop import app, noop

from relight.sdk.session import Session

START_SECONDS, LEAVE_SECONDS = 30.0, 20.0
WARM_CALLS = 200
ROUNDS = 6
MOST_MORE = 0.05
"""So much more may a warm call take with metering."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Microseconds of a call, without metering and with it; `more_us` is the median of what each pair differs by."""

    pairs: int
    off_p50_us: float
    on_p50_us: float
    off_p99_us: float
    on_p99_us: float
    more_us: float

    @property
    def more(self) -> float:
        """How much more a call takes with metering, as a part of one without."""
        return self.more_us / self.off_p50_us


def figures_of(off: Sequence[float], on: Sequence[float]) -> Figures:
    """The figures of pairs of calls, given in seconds."""
    differences = [with_it - without for without, with_it in zip(off, on, strict=True)]
    (off_p50, off_p99), (on_p50, on_p99) = ((statistics.median(one), _p99(one)) for one in (off, on))
    return Figures(
        pairs=len(off),
        off_p50_us=off_p50 * 1e6,
        on_p50_us=on_p50 * 1e6,
        off_p99_us=off_p99 * 1e6,
        on_p99_us=on_p99 * 1e6,
        more_us=statistics.median(differences) * 1e6,
    )


def measure(pairs: int, folder: Path) -> Figures:
    """Do so many pairs of calls, in rounds."""
    seconds: dict[str, list[float]] = {"off": [], "on": []}
    rounds = ROUNDS if pairs >= 100 * ROUNDS else 2
    for number in range(rounds):
        (folder / str(number)).mkdir()
        _do_round(pairs // rounds, folder / str(number), ("off", "on") if number % 2 else ("on", "off"), seconds)
    return figures_of(seconds["off"], seconds["on"])


def _do_round(pairs: int, folder: Path, order: tuple[str, str], seconds: dict[str, list[float]]) -> None:
    """Start both servers, in this order, warm them up, and call them in turns."""
    with ExitStack() as stack:
        sessions = {name: stack.enter_context(_serving(folder / name, name)) for name in order}
        for session in sessions.values():
            with app.using(session):
                for x in range(WARM_CALLS):
                    noop.remote(x)
        for pair in range(pairs):
            for name in order if pair % 2 else reversed(order):
                seconds[name].append(_time_call(sessions[name], pair))


def _time_call(session: Session, x: int) -> float:
    with app.using(session):
        began = time.perf_counter()
        answer = noop.remote(x)
        took = time.perf_counter() - began
    if answer != x:
        raise ValueError(f"cannot measure: the answer to {x} is {answer!r}")
    return took


@contextmanager
def _serving(folder: Path, metering: str) -> Iterator[Session]:
    """A server with metering on or off, and the way to the app that is deployed there."""
    folder.mkdir()
    data = folder / "data"
    command = [sys.executable, "-m", "relight", "up", "--data-dir", str(data), "--port", "0", "--node", "bench"]
    settings = {**environment(folder), "RELIGHT_METERING": metering}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=settings)
    assert process.stdout is not None
    try:
        if not (select.select([process.stdout], [], [], START_SECONDS)[0] and process.stdout.readline()):
            why = (folder / "server.log").read_text()
            raise RuntimeError(f"cannot measure: the server with metering {metering} did not start; it said:\n{why}")
        os.environ["RELIGHT_DATA_DIR"] = str(data)
        app.deploy()
        session = app._session
        assert session is not None, "deploying made one"
        yield session
        session.connection.close()
    finally:
        process.terminate()
        try:
            process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _p99(seconds: Sequence[float]) -> float:
    return sorted(seconds)[len(seconds) * 99 // 100]


def main() -> int:
    """Measure, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--check", action="store_true", help="end with status 1 when it adds more than 5 %%")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relight-", ignore_cleanup_errors=True) as folder:
        found = measure(options.pairs, Path(folder))
    print(json.dumps({"kind": "metering", **asdict(found), "more": found.more}))
    sys.stderr.write(
        f"a warm call, median of {found.pairs}: {found.off_p50_us:.0f} µs without metering, {found.on_p50_us:.0f} with it;"
        f" pairs differ by {found.more_us:+.0f} µs ({found.more:+.1%}); p99 {found.off_p99_us:.0f} and {found.on_p99_us:.0f}\n"
    )
    return int(options.check and found.more > MOST_MORE)


if __name__ == "__main__":
    sys.exit(main())
