"""Lines on their way in: in order, one write at a time, again until they are kept, and acknowledged only then."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from relight.control.intake import Arrived, Intake
from relight.protocol.errors import Unavailable
from relight.store.logs import Batch, LogTable


class Table:
    """A table of lines whose writes end when the test says so."""

    def __init__(self) -> None:
        self.writes: list[tuple[list[int], asyncio.Future[None]]] = []

    def keep(self, batches: list[Batch]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.writes.append(([batch.number for batch in batches], future))
        return future

    async def settle(self, error: Exception | None = None) -> None:
        """The newest write ends."""
        _, future = self.writes[-1]
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
        await turn()

    @property
    def numbers(self) -> list[list[int]]:
        return [numbers for numbers, _ in self.writes]


class Clock:
    """A clock whose sleepers wake when they are let."""

    def __init__(self) -> None:
        self.may_wake = asyncio.Event()

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await self.may_wake.wait()


class Bench:
    """An intake with all around it in the test's hand."""

    def __init__(self) -> None:
        self.table, self.clock = Table(), Clock()
        self.acknowledged: list[int] = []
        self.intake = Intake(cast("LogTable", self.table), self.clock, self.acknowledged.append)

    def take(self, number: int, *calls: str) -> None:
        self.intake.take(Arrived(batch=Batch(written={}, sender="s", number=number), calls=frozenset(calls)))


async def turn() -> None:
    passed = asyncio.Event()
    asyncio.get_running_loop().call_soon(passed.set)
    await passed.wait()


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_what_comes_while_one_write_is_on_its_way_shares_the_next(bench: Bench) -> None:
    for number in (1, 2, 3):
        bench.take(number)
    await bench.table.settle()
    await bench.table.settle()

    assert bench.table.numbers == [[1], [2, 3]]
    assert bench.acknowledged == [1, 3]


async def test_nothing_is_acknowledged_before_it_is_kept(bench: Bench) -> None:
    bench.take(1)
    before = list(bench.acknowledged)

    await bench.table.settle()

    assert (before, bench.acknowledged) == ([], [1])


async def test_lines_that_cannot_be_kept_are_written_again_before_those_that_came_after(bench: Bench) -> None:
    bench.take(1)
    bench.take(2)
    await bench.table.settle(Unavailable("cannot keep logs: the disk is full"))
    bench.take(3)

    bench.clock.may_wake.set()
    await turn()
    await turn()
    await bench.table.settle()
    await bench.table.settle()

    assert bench.table.numbers == [[1], [1], [2, 3]]
    assert bench.acknowledged == [1, 3]


async def test_a_batch_that_is_told_again_is_not_written_again(bench: Bench) -> None:
    bench.take(1)
    bench.take(1)
    on_its_way = list(bench.acknowledged)
    await bench.table.settle()
    bench.take(1)

    assert bench.table.numbers == [[1]]
    assert (on_its_way, bench.acknowledged) == ([], [1, 1])


async def test_an_end_waits_for_the_lines_of_its_own_call(bench: Bench) -> None:
    ended: list[str] = []
    bench.take(1, "call-1")
    bench.take(2, "call-2")

    silent = bench.intake.holds_any(["call-3"])
    bench.intake.when_kept(["call-1"], lambda: ended.append("call-1"))
    bench.intake.when_kept(["call-2"], lambda: ended.append("call-2"))
    steps = [list(ended)]
    await bench.table.settle()
    steps.append(list(ended))
    await bench.table.settle()
    steps.append(list(ended))

    assert not silent
    assert steps == [[], ["call-1"], ["call-1", "call-2"]]
    assert not bench.intake.holds_any(["call-1", "call-2"])


async def test_a_call_that_writes_on_and_on_ends_when_what_was_there_is_kept(bench: Bench) -> None:
    ended: list[str] = []
    bench.take(1, "call-1")
    bench.intake.when_kept(["call-1"], lambda: ended.append("call-1"))
    bench.take(2, "call-1")

    await bench.table.settle()

    assert ended == ["call-1"]


async def test_lines_that_cannot_be_kept_hold_no_end_up(bench: Bench) -> None:
    ended: list[str] = []
    bench.take(1, "call-1")
    bench.intake.when_kept(["call-1"], lambda: ended.append("call-1"))

    await bench.table.settle(Unavailable("cannot keep logs: the disk is full"))

    assert ended == ["call-1"]
    assert not bench.intake.holds_any(["call-1"])


async def test_who_waits_for_all_lines_waits_for_those_that_are_here_and_no_longer(bench: Bench) -> None:
    steps: list[str] = []
    bench.intake.when_all_kept(lambda: steps.append("nothing was here"))
    bench.take(1)
    bench.intake.when_all_kept(lambda: steps.append("the first is in"))
    bench.take(2)
    steps.append("written")

    await bench.table.settle()

    assert steps == ["nothing was here", "written", "the first is in"]


async def test_who_waits_for_all_lines_does_not_wait_for_a_full_disk(bench: Bench) -> None:
    steps: list[str] = []
    bench.take(1)
    bench.intake.when_all_kept(lambda: steps.append("not at first"))

    await bench.table.settle(Unavailable("cannot keep logs: the disk is full"))
    bench.intake.when_all_kept(lambda: steps.append("nor now"))

    assert steps == ["not at first", "nor now"]
