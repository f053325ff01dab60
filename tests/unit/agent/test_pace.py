"""How fast one worker's output is read."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass

import pytest

from relight.agent.cable import Cable
from relight.agent.logs import Output, Owners
from relight.agent.pace import BURST_BYTES, LINE_BYTES, RATE_BYTES, Pace


@dataclass
class Clock:
    seconds: float = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_burst_is_read_at_once_and_what_comes_after_at_the_rate():
    clock = Clock()
    pace = Pace(clock)

    assert pace.take(BURST_BYTES, 0) == 0.0
    assert pace.take(RATE_BYTES, 0) == 1.0
    clock.seconds += 1.0
    assert pace.take(RATE_BYTES // 2, 0) == 0.5


def test_lines_cost_more_than_their_text():
    assert Pace(Clock()).take(0, BURST_BYTES // LINE_BYTES + RATE_BYTES // LINE_BYTES) == pytest.approx(1.0, rel=1e-3)


def test_a_long_silence_allows_one_burst_and_no_more():
    clock = Clock()
    pace = Pace(clock)
    pace.take(BURST_BYTES, 0)
    clock.seconds += 1e6

    assert pace.take(BURST_BYTES, 0) == 0.0
    assert pace.take(RATE_BYTES, 0) == 1.0


async def test_a_worker_that_floods_waits_in_write_and_loses_nothing():
    cable, heard = Cable.lay(), 0

    def hear(source: str, lines: list[object]) -> None:
        nonlocal heard
        heard += len(lines)

    output = Output(cable, Owners(lambda call: False, lambda: ""), hear)
    os.set_blocking(cable.stdout[1], False)
    line, written = b"x" * 63 + b"\n", 0
    for _ in range(BURST_BYTES // 32_768):  # in less time than its rate allows
        try:
            written += os.write(cable.stdout[1], line * 512)
        except BlockingIOError:
            break
        await _turn()
    before = heard
    output.drain()  # as at the end of a call: whatever its pace, all that it wrote is read

    assert written >= BURST_BYTES // 4
    assert before < written // len(line)
    assert heard == written // len(line)
    output.close()
    cable.hand_over()
    cable.ours.close()


async def _turn() -> None:
    """Let the loop look at its descriptors once."""
    ours, theirs = socket.socketpair()
    heard = asyncio.Event()
    asyncio.get_running_loop().add_reader(ours, heard.set)
    theirs.send(b".")
    await heard.wait()
    asyncio.get_running_loop().remove_reader(ours)
    ours.close()
    theirs.close()
