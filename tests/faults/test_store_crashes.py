"""A store whose process dies at any of its writes holds all that was acknowledged, and nothing that contradicts it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from relight.protocol.calls import CallState
from relight.store.faults import POINTS, Faults
from relight.store.store import open_store

pytestmark = pytest.mark.slow

WORKLOAD = Path(__file__).parent / "crash_workload.py"
KILLED = [f"{point}:{n}" for point in POINTS if point.split(".")[0] in ("submit", "claim", "end") for n in (1, 7, 40)]


@pytest.mark.parametrize("point", KILLED)
def test_a_process_killed_at_a_write_loses_nothing_it_acknowledged(tmp_path: Path, point: str) -> None:
    died = subprocess.run([sys.executable, WORKLOAD, tmp_path, point], capture_output=True, text=True, timeout=60)

    told = [line.split() for line in died.stdout.splitlines()]
    states = asyncio.run(_states(tmp_path, [call for _, call in told]))
    assert died.returncode == -9, died.stderr
    assert all(call in states for what, call in told if what == "acknowledged")
    assert all(states[call] is CallState.SUCCEEDED for what, call in told if what == "seen")


def test_a_process_killed_after_a_commit_has_kept_the_write_it_could_not_tell_of(tmp_path: Path) -> None:
    subprocess.run([sys.executable, WORKLOAD, tmp_path, "end.after_commit:3"], capture_output=True, timeout=60)

    states = asyncio.run(_states(tmp_path, [f"call-{n:026d}" for n in range(40)]))

    assert list(states.values()) == [CallState.SUCCEEDED] * 3


def test_a_process_killed_before_a_commit_has_not_kept_the_write(tmp_path: Path) -> None:
    subprocess.run([sys.executable, WORKLOAD, tmp_path, "end.before_commit:3"], capture_output=True, timeout=60)

    states = asyncio.run(_states(tmp_path, [f"call-{n:026d}" for n in range(40)]))

    assert list(states.values()) == [CallState.SUCCEEDED] * 2 + [CallState.RUNNING]


def test_a_fault_point_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Exception, match="cannot read the fault point 'nowhere:1'"):
        Faults("nowhere:1")


async def _states(folder: Path, calls: list[str]) -> dict[str, CallState]:
    store = await open_store(folder)
    views = await store.calls.existing("default", calls)
    await store.close()
    return {call: view.state for call, view in views.items()}
