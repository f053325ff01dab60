"""A trace, played on a server and replayed by the simulator: both tell the same of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.app_traffic import WINDOW_SECONDS, app, take
from relight.planner.policies import Policy
from relight.planner.simulator import simulate
from relight.planner.traces import Trace, poisson
from servers import Server, serving, wait_until

LENGTH_SECONDS = 300.0
SHARE = 0.05


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_minutes_of_traffic_are_the_same_for_real_and_replayed(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    made = poisson(lambda at: 0.5, 0.5, LENGTH_SECONDS, 1.0, seed=8)
    last = made.length + 2 * WINDOW_SECONDS  # by then all but its own worker have left
    trace = Trace([*made.arrivals, last], [*(0.05 + seconds for seconds in made.seconds), 0.01])
    with serving(tmp_path / "data", app) as server:
        take.remote(0.01)  # the template is made, and the worker of it gone, before it counts
        wait_until(lambda: not server.get("/v1/workers")["workers"], server)
        begin = time.time()
        _play(trace)
        wait_until(lambda: not server.get("/v1/workers")["workers"], server)
        starts = [one for one in server.get("/v1/starts?limit=1000")["starts"] if one["at"] > begin]
        seen = _seconds(server, begin)

    replayed = simulate(trace, Policy(window_seconds=WINDOW_SECONDS, max_workers=8), [one["seconds"] for one in starts])
    expected = replayed.worker_seconds + WINDOW_SECONDS  # which the worker of the last call waits out for real
    record_property(
        "figures", f"{seen:.1f} s for real, {expected:.1f} replayed; starts {len(starts)}, {replayed.starts}"
    )

    assert seen == pytest.approx(expected, rel=SHARE), f"{seen:.1f} worker-seconds for real, {expected:.1f} replayed"
    assert len(starts) == pytest.approx(replayed.starts, rel=SHARE), f"{len(starts)} starts, {replayed.starts} replayed"


def _play(trace: Trace) -> None:
    """Make each call at its time."""
    pause, begin = threading.Event(), time.monotonic()
    calls = []
    for at, seconds in zip(trace.arrivals, trace.seconds, strict=True):
        pause.wait(max(0.0, begin + at - time.monotonic()))
        calls.append(take.spawn(seconds))
    for call in calls:
        call.get(timeout=60)


def _seconds(server: Server, since: float) -> float:
    total = server.get(f"/v1/costs?since={since:.3f}")["total"]
    return float(total["life_us"]) / 1e6
