"""Process after process dies over one store, at its writes and at any other moment; the last one brings all calls home."""

from __future__ import annotations

import asyncio
import itertools
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.history import History, What, check
from relight.protocol.calls import AttemptView, CallView
from relight.store.faults import POINTS
from relight.store.store import open_store

WORKLOAD = Path(__file__).parent / "recovery_workload.py"
CALLS = 60
WRITES = [point for point in POINTS if point.split(".")[0] in ("submit", "claim", "end")]


class Story:
    """One folder, the processes that live and die over it, and what they told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clock: Iterator[int] = itertools.count()
        self.history = History()
        self.deaths = 0

    def live(self, points: str = "", *, dies_after_lines: int | None = None) -> bool:
        """Run one process to its end, whichever it is; whether it brought all calls home."""
        process = subprocess.Popen(
            [sys.executable, WORKLOAD, self._folder, str(CALLS), points],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        is_done = False
        for number, line in enumerate(process.stdout):
            if number == dies_after_lines:
                process.kill()  # what it told before it died still comes
            is_done |= self._hear(line.rstrip("\n").split("\t"))
        _, errors = process.communicate(timeout=30)
        assert process.returncode in (0, -9), errors
        self.deaths += process.returncode == -9
        return is_done

    def _hear(self, words: list[str]) -> bool:
        what, call, *more = words
        at = next(self._clock)
        if what == "started":
            self.history.add_start(call, at, (int(more[0]), int(more[1])))
        elif what == "seen":
            self.history.add(What.SEEN, call, at, attempts=int(more[0]), value=more[1])
        elif what != "done":
            self.history.add(What(what), call, at)
        return what == "done"

    def look(self) -> list[tuple[CallView, tuple[AttemptView, ...]]]:
        """See every call once more, as a reader does after all is over."""
        found = asyncio.run(self._read())
        for view, _ in found:
            value = view.result.data.decode() if view.result is not None and view.result.data is not None else "none"
            self.history.add(What.SEEN, view.id, next(self._clock), value=value, attempts=view.attempts)
        return found

    async def _read(self) -> list[tuple[CallView, tuple[AttemptView, ...]]]:
        store = await open_store(self._folder)
        views = await store.calls.existing("default", [f"call-{n:026d}" for n in range(CALLS)])
        found = [(view, await store.calls.attempts("default", view.id)) for view in views.values()]
        await store.close()
        return found


def assert_all_is_as_promised(story: Story) -> None:
    found = story.look()
    assert check(story.history) == []
    assert len(found) == CALLS
    assert sorted(view.sequence for view, _ in found) == list(range(1, CALLS + 1))
    for view, attempts in found:
        assert view.attempts == len(attempts)
        assert [one.outcome for one in attempts[-1:]] == ["succeeded"]
        assert all(one.ended_at is not None and one.outcome in ("lease_lost", "retried") for one in attempts[:-1])


@pytest.mark.slow
@pytest.mark.parametrize("point", WRITES)
def test_calls_survive_three_deaths_at_one_write(tmp_path: Path, point: str) -> None:
    story = Story(tmp_path)

    visits = (1, 2, 3) if point.startswith("claim") else (1, 9, 25)  # claims are written many at once
    for visit in visits:
        story.live(f"{point}:{visit}")
    assert story.live()

    assert story.deaths == 3  # groups of 8 at most: 8, 16 and 32 calls get past the point, the rest are left
    assert_all_is_as_promised(story)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_calls_survive_deaths_at_any_moment(tmp_path: Path, seed: int) -> None:
    story, chance = Story(tmp_path), random.Random(seed)

    while story.deaths < 5 and not story.live(dies_after_lines=chance.randrange(1, 60)):
        continue
    while not story.live():
        continue

    assert story.deaths >= 2
    assert_all_is_as_promised(story)
