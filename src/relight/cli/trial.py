"""A trial: an app, run on a server of its own in a folder that goes with it, and how its workers were started.

Nothing is asked of a server that is up, and nothing is left behind.
"""

from __future__ import annotations

import io
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from importlib import resources
from pathlib import Path
from typing import Any

from relight.protocol.errors import RelightError
from relight.protocol.fitness import Check, Verdict
from relight.protocol.manifest import Json
from relight.protocol.starts import NUMBERS, StartLevel
from relight.sdk.connection import Connection
from relight.sdk.embedded import start
from relight.sdk.files import load
from relight.sdk.http import Address

_LEVELS = (StartLevel.FORK, StartLevel.IMPORT, StartLevel.BOOT, StartLevel.FETCH)


def trial() -> Iterator[Check]:
    """Run it; whether it ran, and what a start took on each level that there was."""
    with tempfile.TemporaryDirectory(prefix="rl-") as folder:  # of few letters, as a socket's path must be
        try:
            starts = _run(Path(folder))
        except RelightError as error:
            advice = "do what the lines above say, and look at `relight up --log-level debug`"
            yield Check(name="trial", verdict=Verdict.BROKEN, sentence=f"an app does not run: {error}", advice=advice)
            return
    yield Check(name="trial", sentence=f"an app ran on a server of its own, with {len(starts)} workers")
    yield from told(starts)


def told(starts: Sequence[dict[str, Json]]) -> Iterator[Check]:
    """What a start took, by its level; where none was a fork, why."""
    for level in _LEVELS:
        took = [
            seconds for one in starts if one["level"] == level.value and isinstance(seconds := one["seconds"], float)
        ]
        if took:
            milliseconds = statistics.median(took) * 1000
            sentence = f"a worker on level {NUMBERS[level]} is ready after {milliseconds:.1f} ms"
            yield Check(name=f"start.{level.value}", sentence=sentence, value=round(milliseconds, 2), unit="ms")
        elif level is StartLevel.FORK:
            why = next((str(one["why"]) for one in starts if one["function"] == "third"), "it was not started")
            sentence, advice = f"no worker was forked from a template ({why})", "see docs/cold-starts.md"
            yield Check(name=f"start.{level.value}", verdict=Verdict.WEAK, sentence=sentence, advice=advice)


def _run(folder: Path) -> Sequence[dict[str, Json]]:
    server = start(folder / "runs")
    connection = Connection(Address(path=server.socket), server)
    try:
        module = load(_copy(folder / "app"))
        with (
            redirect_stderr(io.StringIO()),
            module.app.run_on(connection, lambda _line: None),
        ):  # that it waits is no news
            return _start_some(module, connection)
    finally:
        connection.close()


def _copy(folder: Path) -> Path:
    """The app in a folder of its own: a worker sees nothing of this package."""
    folder.mkdir()
    copy = folder / "relight_trial.py"
    copy.write_text((resources.files("relight.cli") / "templates" / "trial.py").read_text(encoding="utf-8"))
    return copy


def _start_some(module: Any, connection: Connection) -> Sequence[dict[str, Json]]:
    for name in ("fetched", "alone", "first", "second", "third"):  # each has workers of its own
        module.app.functions[name].remote()
    return _starts(connection)


def _starts(connection: Connection) -> Sequence[dict[str, Json]]:
    answer: Any = connection.json("GET", "/v1/starts?app=doctor&limit=1000")
    return [one for one in answer["starts"] if not one["failure"]]
