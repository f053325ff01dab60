"""Whether the GPUs of this machine compute: two matrices are multiplied on each, and the product looked at.

Each is asked by a process of its own, `runtime/gputest.py`, which has ended when this says what came of it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import relight
from relight.agent.gpu import find_libraries, kind_of
from relight.agent.nvml import ReadsGpus, open_nvml
from relight.protocol.fitness import Check, Verdict

_PROGRAM = Path(relight.__file__).parent / "runtime" / "gputest.py"

TEST_SECONDS = 60.0
"""A GPU that has not answered by then does not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuVerdict:
    """What came of one: `why` says what is wrong ("" for nothing), `seconds` how long it took, a context included."""

    id: str
    kind: str
    why: str
    seconds: float = 0.0


def gpu_checks() -> Iterator[Check]:
    """What came of each GPU of this machine, for `relight doctor`; nothing where there is none."""
    nvml = open_nvml()
    for verdict in self_test(nvml) if nvml is not None else ():
        if verdict.why:
            yield Check(
                name="gpu test",
                verdict=Verdict.WEAK,
                sentence=f"{verdict.kind} ({verdict.id}) does not compute: {verdict.why}",
                advice="look at nvidia-smi and dmesg; reset it, or start the agent without it",
            )
        else:
            said = f"{verdict.kind} multiplied two matrices rightly, a context included, in {verdict.seconds:.2f} s"
            yield Check(name="gpu test", sentence=said, value=round(verdict.seconds, 3), unit="s")


def self_test(nvml: ReadsGpus) -> tuple[GpuVerdict, ...]:
    """Try every GPU, one after the other; about half a second each."""
    return tuple(try_one(device.id, kind_of(device.name)) for device in nvml.devices())


def try_one(name: str, kind: str) -> GpuVerdict:
    """Try the GPU with this id."""
    env = {"CUDA_VISIBLE_DEVICES": name, "LD_LIBRARY_PATH": find_libraries().path}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(_PROGRAM)],
            env=env,
            capture_output=True,
            text=True,
            timeout=TEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return GpuVerdict(id=name, kind=kind, why=f"it did not answer within {TEST_SECONDS:g} s")
    last = (done.stdout.strip() or done.stderr.strip() or f"its process ended with {done.returncode}").splitlines()[-1]
    if done.returncode:
        return GpuVerdict(id=name, kind=kind, why=last)
    return GpuVerdict(id=name, kind=kind, why="", seconds=float(last))
