"""What relight costs while nothing is called: its import, and a server with its agent."""

from __future__ import annotations

import select
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import processes
from harness import HERE, environment

START_SECONDS = 30.0
LEAVE_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Imports:
    """Milliseconds: an interpreter's start, and what imports take in it; medians."""

    interpreters: int
    start_ms: float
    relight_ms: float
    app_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """A server and its agent, idle for `seconds`."""

    seconds: float
    pss_mib: dict[str, float]
    cpu_percent: float

    @property
    def total_mib(self) -> float:
        """All of them."""
        return sum(self.pss_mib.values())


def measure_imports(interpreters: int) -> Imports:
    """Start fresh interpreters in turns: with nothing, with `import relight`, with an app of one function."""
    starts, seconds = list[float](), {"relight": list[float](), "noop": list[float]()}
    for number in range(interpreters + 1):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        starts.append(time.perf_counter() - began)
        for module, seen in seconds.items():
            seen.append(_import_seconds(module))
        if not number:  # it reads the disk, and may write bytecode
            starts.clear()
            for seen in seconds.values():
                seen.clear()
    start, bare, app = (statistics.median(seen) * 1000 for seen in (starts, seconds["relight"], seconds["noop"]))
    return Imports(interpreters=interpreters, start_ms=start, relight_ms=bare, app_ms=app)


def _import_seconds(module: str) -> float:
    """What an import takes in a fresh interpreter, as that interpreter sees it."""
    program = f"import time; began = time.perf_counter(); import {module}; print(time.perf_counter() - began)"
    done = subprocess.run([sys.executable, "-c", program], check=True, cwd=HERE, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def measure_idle(seconds: float, folder: Path) -> Idle:
    """Start `relight up` in a folder of its own, let it be for so long, and weigh it."""
    folder.mkdir()
    command = [sys.executable, "-m", "relight", "up", "--data-dir", str(folder / "data"), "--port", "0"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--node", "bench"], stdout=subprocess.PIPE, stderr=log, text=True, env=environment(folder)
        )
    assert process.stdout is not None
    try:
        is_up = select.select([process.stdout], [], [], START_SECONDS)[0] and process.stdout.readline()
        if not is_up:
            raise RuntimeError(
                f"cannot measure an idle server: it did not start; it said:\n{(folder / 'server.log').read_text()}"
            )
        before = processes.cpu_used(process.pid)
        time.sleep(seconds)
        used = processes.cpu_seconds(before, processes.cpu_used(process.pid))
        return Idle(seconds=seconds, pss_mib=processes.pss_mib(process.pid), cpu_percent=used / seconds * 100)
    finally:
        process.terminate()
        try:
            process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
