"""How a worker ended, on one line."""

from __future__ import annotations

import pytest

from relight.cli.endings import last_lines, show_ending
from relight.protocol.manifest import Json


def ending(reason: str, code: int | None = None, signal: int | None = None, peak: int = 0) -> Json:
    return {"reason": reason, "code": code, "signal": signal, "peak_memory_bytes": peak, "last_lines": ["a", "b"]}


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (ending("out_of_memory", signal=9, peak=256 << 20), "out_of_memory, SIGKILL, held 256 MiB"),
        (ending("exited:3", code=3), "exited:3"),
        (ending("signal:SIGSEGV", signal=11, peak=5), "signal:SIGSEGV"),
        (ending("killed:timed_out", signal=99), "killed:timed_out, signal 99"),
        (ending("start_failed", code=1), "start_failed, status 1"),
        (ending("node_lost"), "node_lost"),
        (None, ""),
    ],
)
def test_it_is_short_and_says_nothing_twice(told: Json, shown: str) -> None:
    assert show_ending(told) == shown


def test_its_last_lines_are_there_when_it_wrote_any() -> None:
    assert last_lines(ending("stopped")) == ["a", "b"]
    assert last_lines(None) == []
