"""What a function with a GPU takes that finds no worker, and whether GPUs are shared and handed on as they should be.

    pip install -e '.[gpu]' torch        # a build with CUDA
    python bench/gpu.py                  # a minute, on a machine with an NVIDIA GPU; elsewhere it says so, and ends
    python bench/gpu.py --rounds 20 > gpu.jsonl

JSON lines go to the standard output, a table to the standard error.  A figure is the time from the call until its result,
which was computed by the GPU, is with the caller, and was looked at.  Beside relight: the driver alone (a fresh Python that
makes a context, and nothing else), a fresh Python with torch that does the same, and a bare `os.fork` of one.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coldsubjects import COLD, Caller
from harness import Tell, environment, tell_to
from served import Server, Started, server_on

import relight
from relight.agent.gpu import kind_of
from relight.agent.gputest import self_test
from relight.agent.nvml import ReadsGpus, open_nvml

READY_SECONDS = 60.0
DRIVER = """
import ctypes, time
began = time.perf_counter()
cuda, context, address = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuInit(0) == 0 and cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0 and cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(1 << 20)) == 0
print(time.perf_counter() - began, flush=True)
"""
TORCH = """
import sys
import torch
print(int((torch.ones(1024, 1024, device="cuda") @ torch.ones(1024, 1024, device="cuda"))[0, 0].item()), flush=True)
"""
FORKS = """
import os, sys
import torch
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        print(int((torch.ones(1024, 1024, device="cuda") @ torch.ones(1024, 1024, device="cuda"))[0, 0].item()), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where this was measured."""

    gpu: str
    driver: str
    kernel: str
    cpus: int
    python: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One way to a first result on a GPU, over its rounds."""

    way: str
    rounds: int
    p50_ms: float
    best_ms: float
    worst_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that is so, or is not."""

    what: str
    holds: bool
    seen: str


def main() -> int:
    """Measure; 0 also where there is no GPU, which is said."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--check", action="store_true", help="end with status 1 where something does not hold")
    options = parser.parse_args()
    nvml = open_nvml()
    if nvml is None:
        sys.stderr.write("no GPU here, or not `pip install 'relight[gpu]'`: nothing is measured\n")
        return 0
    tell = tell_to()
    (device, *_) = nvml.devices()
    tell("machine", _machine(device.name))
    with tempfile.TemporaryDirectory(prefix="relight-gpu-") as name:
        folder = Path(name)
        with server_on(folder / "server", {"RELIGHT_SWEEP_SECONDS": "0.05"}) as server:
            figures, facts = measure(server, folder, options.rounds, tell, nvml)
    sys.stderr.write(f"\n{kind_of(device.name)}\n" + "\n".join(_lines(figures, facts)) + "\n")
    return 1 if options.check and not all(fact.holds for fact in facts) else 0


def measure(server: Server, folder: Path, rounds: int, tell: Tell, nvml: ReadsGpus) -> tuple[list[Figure], list[Fact]]:
    """All of it."""
    figures: list[Figure] = []
    facts: list[Fact] = []

    def time_it(way: str, once: Callable[[], float], count: int = rounds) -> None:
        once()
        figures.append(_figure(way, [once() for _ in range(count)]))
        tell("figure", figures[-1])

    def check(what: str, holds: bool, seen: object) -> None:
        facts.append(Fact(what=what, holds=holds, seen=str(seen)))
        tell("fact", facts[-1])

    time_it("the driver alone: a fresh Python until a context is there", _driver)
    time_it("torch in a fresh Python", _fresh_torch, max(3, rounds // 2))
    with _forking() as once:
        time_it("os.fork of a process with torch", once)
    since = time.time()
    _deploy("gpuwork.py", folder)
    for function, way in (
        ("answer", "relight, level 1: a fork of the template"),
        ("imported", "relight, level 2: a fork of the base, which imports torch"),
        ("fresh", "relight, level 4: a fresh process"),
    ):
        time_it(way, Caller(server, "cold-gpu", function).by_sdk, rounds if function == "answer" else 3)
    for step, ms in _steps(server, rounds).items():
        figures.append(_figure(f"  of level 1, in the function: {step}", [one / 1000 for one in ms]))
        tell("figure", figures[-1])
    _check_memory(server, check)
    _check_shares(server, check)
    _check_share_held(server, check)
    server.wait_gone()
    for what, file, level in (("looks for", "gpuasks", "fork"), ("uses", "gpuuses", "")):
        _deploy(f"{file}.py", folder)
        app = f"cold-gpu-{file.removeprefix('gpu')}"
        where = relight.Function.from_name(app, "where")
        said = {where.remote(1), _once_more(server, app, where)}
        started = [one for one in server.started(since) if one.app == app]
        holds = said == {"cuda:0"} and (not level or any(one.level == level for one in started))
        seen = "; ".join(f"level {one.level}: {', '.join(one.why)}" for one in started)
        check(f"a module that {what} a GPU as it is imported computes on it", holds, f"{said}; {seen}")
    server.wait_gone()
    for verdict in self_test(nvml):
        check("the self-test of the GPU passes", not verdict.why, verdict)
    _deploy("gpuparked.py", folder)
    for kind in ("WithContext", "Without"):
        time_it(f"relight, level 0p: a parked worker {_NAMES[kind]}", _parked(server, kind))
    for one in server.started(since):
        tell("started", one)
        sys.stderr.write(_phases(one))
    return figures, facts


_NAMES = {"WithContext": "that has used the GPU", "Without": "that has not"}


def _steps(server: Server, rounds: int) -> dict[str, list[float]]:
    """The steps of a first use in a fork, over some rounds, in milliseconds."""
    ask = relight.Function.from_name("cold-gpu", "steps")
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        server.wait_gone("cold-gpu")
        for step, ms in ask.remote().items():
            took.setdefault(step, []).append(ms)
    return took


def _check_memory(server: Server, check: Callable[[str, bool, object], None]) -> None:
    free = relight.Function.from_name("cold-gpu", "free_mib")
    server.wait_gone()
    before = free.remote()
    server.wait_gone()
    try:
        relight.Function.from_name("cold-gpu", "die").remote(0.7)
        died = "it lived"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
        died = str(error)
    began = time.perf_counter()
    after = free.remote()
    seconds = time.perf_counter() - began
    check(
        "a worker killed with 70 % of the GPU's memory leaves all of it to the next",
        abs(before - after) < 64,
        f"{before} MiB free before, {after} after, {seconds * 1000:.0f} ms later; {died[:120]}",
    )


def _check_shares(server: Server, check: Callable[[str, bool, object], None]) -> None:
    server.wait_gone()
    half = relight.Cls.from_name("cold-gpu", "Half")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(half(number=number).work.remote, 8.0) for number in range(3)]
        until = time.monotonic() + 7.5  # a heartbeat tells it, every 3 s
        while time.monotonic() < until:
            (use,) = server.get("/v1/nodes")["nodes"][0].get("gpu_use") or [{}]
            workers = [one for one in server.workers("cold-gpu") if one["gpus"]]
            if len(workers) == 2 and all(one["gpu_memory_mib"] > 256 for one in workers):
                break
            time.sleep(0.1)
        done = [one.result() for one in asked]
    first, second, third = sorted(done, key=lambda one: one[2])
    overlap = min(first[3], second[3]) - max(first[2], second[2])
    check(
        "two halves of one GPU work at once, a third waits",
        len({one[0] for one in done}) == 1 and overlap > 1.0 and third[2] > min(first[3], second[3]),
        f"{overlap:.1f} s at once; the third began {third[2] - first[2]:.1f} s after the first",
    )
    check(
        "the node and its workers say what they use",
        bool(use.get("utilization_percent")) and all(one["gpu_memory_mib"] > 256 for one in workers),
        f"{use}; {[(one['gpu_share'], one['gpu_memory_mib']) for one in workers]}",
    )


def _check_share_held(server: Server, check: Callable[[str, bool, object], None]) -> None:
    server.wait_gone()
    take = relight.Function.from_name("cold-gpu", "take")
    modest = take.remote(0.15, 2.0)
    try:
        said = take.remote(0.5, 30.0)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
        said = str(error)
    check("a worker within its share is left alone", modest == "kept", modest)
    check("a worker that holds more than its share is ended, and told so", "gpu_memory" in said, said[:200])


def _once_more(server: Server, app: str, function: relight.Function[..., str]) -> str:
    server.wait_gone(app)
    return function.remote(2)


def _driver() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-S", "-c", DRIVER], check=True, capture_output=True)
    return time.perf_counter() - began


def _fresh_torch() -> float:
    began = time.perf_counter()
    said = subprocess.run([sys.executable, "-c", TORCH], check=True, capture_output=True, text=True).stdout
    if said.strip() != "1024":
        raise ValueError(f"cannot measure: torch answers {said!r}")
    return time.perf_counter() - began


@contextmanager
def _forking() -> Iterator[Callable[[], float]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    line, write = process.stdout.readline, process.stdin.write

    def once() -> float:
        began = time.perf_counter()
        write("\n")
        if line().strip() != "1024":
            raise ValueError("cannot measure: the fork did not answer")
        return time.perf_counter() - began

    try:
        line()
        yield once
    finally:
        process.stdin.close()
        process.wait(30)


def _parked(server: Server, kind: str) -> Callable[[], float]:
    remote = relight.Cls.from_name("cold-gpu-parked", kind)().answer.remote
    names = iter(range(1_000_000))

    def once() -> float:
        until = time.monotonic() + READY_SECONDS
        while not any(one["function"] == kind and one["state"] == "ready" for one in server.workers("cold-gpu-parked")):
            if time.monotonic() > until:
                raise RuntimeError(f"cannot measure: no worker of {kind} was ever ready")
            time.sleep(0.05)
        time.sleep(0.5)  # whoever is being started beside it has come to its end
        x = next(names)
        began = time.perf_counter()
        said = remote(x)
        seconds = time.perf_counter() - began
        if said != x:
            raise ValueError(f"cannot measure: the answer to {x} is {said}")
        return seconds

    return once


def _deploy(file: str, folder: Path) -> None:
    env = {**environment(folder), "RELIGHT_DATA_DIR": os.environ["RELIGHT_DATA_DIR"]}
    done = subprocess.run(
        [sys.executable, "-m", "relight", "deploy", file],
        cwd=COLD,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stderr.write(done.stdout)
    if done.returncode:
        raise RuntimeError(f"cannot measure: {file} could not be deployed:\n{done.stdout}{done.stderr}")


def _figure(way: str, seconds: Sequence[float]) -> Figure:
    took = [one * 1000 for one in seconds]
    return Figure(way=way, rounds=len(took), p50_ms=statistics.median(took), best_ms=min(took), worst_ms=max(took))


def _machine(gpu: str) -> Machine:
    driver = Path("/sys/module/nvidia/version")
    return Machine(
        gpu=gpu,
        driver=driver.read_text().strip() if driver.exists() else "",
        kernel=platform.release(),
        cpus=os.cpu_count() or 0,
        python=platform.python_version(),
    )


def _phases(one: Started) -> str:
    phases = ", ".join(f"{name} {ms:.0f}" for name, ms in one.phases_ms.items() if ms >= 0.5)
    why = "; ".join(one.why)
    return f"{one.app}/{one.function} level {one.level}: {one.count} starts, {one.p50_ms:.0f} ms ({phases}) {why}\n"


def _lines(figures: Sequence[Figure], facts: Sequence[Fact]) -> Iterator[str]:
    yield f"{'until the first result':62} {'median':>9} {'best':>9} {'worst':>9}  ms"
    for one in figures:
        yield f"{one.way:62} {one.p50_ms:9.1f} {one.best_ms:9.1f} {one.worst_ms:9.1f}"
    for fact in facts:
        yield f"{'holds' if fact.holds else 'FAILS'}: {fact.what} ({fact.seen})"


if __name__ == "__main__":
    sys.exit(main())
