"""The GPUs of a node: their names, what a worker is handed, when one may be handed on, and who takes too much.

The driver's answers were recorded on an H100 (`nvml_h100.json`).  Those of slices are played: none was at hand.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relight.agent.gpu import FREE_SECONDS, Gpus, Libraries, find_libraries, gpus_of, kind_of, sandboxes_of
from relight.agent.gputest import self_test
from relight.agent.gpuwatch import GpuWatch
from relight.agent.nvml import Device, Nvml, Reading
from relight.protocol.errors import StartFailed
from relight.protocol.link import GpuFact, WorkerSpec
from relight.protocol.manifest import CodeBundle, FunctionSpec, GpuRequest, HostImage, Resources
from relight.sandbox.spec import Mount, SandboxSpec

H100 = "GPU-77e6bbcf-e3d3-e831-2610-5c14fc04eaf7"
FUNCTION = FunctionSpec(
    name="f",
    module="app",
    qualname="f",
    image=HostImage(python="/usr/bin/python3", prefix="/usr", base_prefix="/usr", version="3.11.7"),
    resources=Resources(gpu=(GpuRequest(kind="H100"),)),
)
SPEC = WorkerSpec(
    workspace="default",
    app="app",
    environment="main",
    version="v1",
    function=FUNCTION,
    code=CodeBundle(digest="0", size=1, folder="/srv/app"),
    gpus=(H100,),
)
HALF = replace(SPEC, gpu_share=0.5)
SANDBOX = SandboxSpec(id="w", argv=("/bin/true",), env=(("A", "1"),))
IDLE = Reading(memory_used_mib=0, utilization_percent=0, processes=())


class NVMLError(Exception):
    """As that of the bindings."""


class Recorded:
    """NVIDIA's bindings, as they answered."""

    NVMLError = NVMLError
    nvmlMemory_v2 = 33554472

    def __init__(self, moment: str = "idle") -> None:
        self._all: dict[str, Any] = json.loads((Path(__file__).parent / "nvml_h100.json").read_text())
        self.moment = moment

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, number: int) -> object:
        return self

    def nvmlDeviceGetMemoryInfo(self, handle: object, version: int = 0) -> object:
        return SimpleNamespace(**self._all[self.moment]["MemoryInfo_v2" if version else "MemoryInfo"])

    def nvmlDeviceGetUtilizationRates(self, handle: object) -> object:
        return SimpleNamespace(**self._all[self.moment]["UtilizationRates"])

    def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> list[object]:
        return [SimpleNamespace(**one) for one in self._all[self.moment]["ComputeRunningProcesses"]]

    def __getattr__(self, name: str) -> Any:
        return lambda handle: self._all[name.removeprefix("nvmlDeviceGet")]


class Sliced(Recorded):
    """The same GPU, had it been cut into two slices, with a place between them."""

    def nvmlDeviceGetMigMode(self, handle: object) -> list[int]:
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: object) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: object, number: int) -> object:
        if number not in (0, 2):
            raise NVMLError("Not Found")
        return f"MIG-{number}"

    def nvmlDeviceGetUUID(self, handle: object) -> str:
        return handle if isinstance(handle, str) else H100

    def nvmlDeviceGetName(self, handle: object) -> str:
        return "NVIDIA H100 80GB HBM3" + (" MIG 1g.10gb" if isinstance(handle, str) else "")

    def nvmlDeviceGetGpuInstanceId(self, handle: str) -> int:
        return 9

    def nvmlDeviceGetComputeInstanceId(self, handle: str) -> int:
        return 0


class Readings:
    """A driver whose GPU is used as a test says, one answer after the other; the last stays."""

    def __init__(self, *readings: Reading | None) -> None:
        self.readings = list(readings)

    def devices(self) -> tuple[Device, ...]:
        return (Device(id=H100, name="NVIDIA H100 80GB HBM3", minor=0, memory_mib=81559),)

    def read(self, device: str) -> Reading | None:
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]


class FakeClock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


def used(mib: int, *processes: tuple[int, int]) -> Reading:
    return Reading(memory_used_mib=mib, utilization_percent=50, processes=processes)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", "H100-80GB"),
        ("NVIDIA H100 PCIe", "H100"),
        ("NVIDIA H100 NVL", "H100-NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100-40GB"),
        ("NVIDIA A10G", "A10G"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100-16GB"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-ADA"),
        ("NVIDIA RTX A6000", "RTX-A6000"),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", "A100-80GB-MIG-1G.10GB"),
    ],
)
def test_a_gpu_is_called_what_people_ask_for(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_what_the_driver_of_an_h100_says_is_understood() -> None:
    nvml = Nvml(Recorded())

    (device,) = nvml.devices()

    assert device == Device(id=H100, name="NVIDIA H100 80GB HBM3", minor=0, memory_mib=81559)
    assert nvml.read(H100) == IDLE


def test_memory_is_told_without_what_the_driver_keeps_and_by_process() -> None:
    library = Recorded()
    nvml = Nvml(library)
    nvml.devices()
    library.moment = "busy"

    assert nvml.read(H100) == Reading(
        memory_used_mib=3098, utilization_percent=4, processes=((1524, 1542), (1525, 1542))
    )


def test_of_a_sliced_gpu_its_slices_are_there_and_each_is_opened_by_two_capabilities(tmp_path: Path) -> None:
    place = tmp_path / "capabilities/gpu0/mig/gi9"
    (place / "ci0").mkdir(parents=True)
    (place / "access").write_text("DeviceFileMinor: 66\nDeviceFileMode: 292\nDeviceFileModify: 1\n")
    (place / "ci0/access").write_text("DeviceFileMinor: 67\nDeviceFileMode: 292\nDeviceFileModify: 1\n")

    first, second = gpus_of(Nvml(Sliced()).devices(), tmp_path)

    assert [first.fact.id, second.fact.id] == ["MIG-0", "MIG-2"]
    assert (first.fact.kind, first.fact.parent) == ("H100-80GB-MIG-1G.10GB", H100)
    assert first.devices == ("/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap66", "/dev/nvidia-caps/nvidia-cap67")


def test_a_worker_gets_the_devices_and_the_names_of_its_gpus_alone() -> None:
    gpus = Gpus(Readings(IDLE), FakeClock())

    shown = gpus.equip(SANDBOX, HALF)

    assert "/dev/nvidia0" in shown.devices
    env = dict(shown.env)
    assert (env["CUDA_VISIBLE_DEVICES"], env["NVIDIA_VISIBLE_DEVICES"], env["A"]) == (H100, H100, "1")
    assert env["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.5"
    assert not shown.device_places


def test_a_template_gets_places_for_devices_and_none_of_them() -> None:
    gpus = Gpus(Readings(IDLE), FakeClock())

    shown = gpus.equip(replace(SANDBOX, is_template=True), SPEC)

    assert "/dev/nvidia0" in shown.device_places
    assert not shown.devices
    assert "CUDA_VISIBLE_DEVICES" not in dict(shown.env)


def test_who_asks_for_no_gpu_or_gets_a_simulated_one_is_handed_nothing() -> None:
    simulated = GpuFact(id="simulated-0-H100", kind="H100", is_simulated=True)
    gpus = Gpus(Readings(IDLE), FakeClock(), simulated=(simulated,))
    none = replace(SPEC, gpus=(), function=replace(FUNCTION, resources=Resources()))

    assert gpus.equip(SANDBOX, none) == SANDBOX
    assert gpus.grant(replace(SPEC, gpus=("simulated-0-H100",))).devices == ()
    assert [fact.is_simulated for fact in gpus.facts] == [False, True]


def test_a_gpu_that_is_not_here_any_more_is_a_failed_start() -> None:
    with pytest.raises(StartFailed, match="this node does not have the GPU GPU-gone any more"):
        Gpus(Readings(IDLE), FakeClock()).grant(replace(SPEC, gpus=("GPU-gone",)))


async def test_a_gpu_is_handed_on_once_its_memory_is_seen_free() -> None:
    clock, phases = FakeClock(), list[str]()
    # Before the agent began; then the dead worker's context, its memory without it, and nothing.
    gpus = Gpus(Readings(IDLE, used(1542, (999_999_999, 1542)), used(700), IDLE), clock)

    await gpus.wait_free(SPEC, phases.append)

    assert phases == ["gpu"]
    assert clock.time == pytest.approx(0.1)


async def test_a_gpu_that_stays_in_use_fails_the_start_and_says_by_whom() -> None:
    clock = FakeClock()
    gpus = Gpus(Readings(IDLE, used(1542, (999_999_999, 1542))), clock)

    with pytest.raises(StartFailed, match=r"process 999999999 \(gone\) uses memory of its H100-80GB"):
        await gpus.wait_free(SPEC, lambda phase: None)

    assert clock.time > FREE_SECONDS


async def test_what_used_a_gpu_before_the_agent_began_is_not_waited_for() -> None:
    desktop = used(400, (7, 400))
    clock = FakeClock()

    await Gpus(Readings(desktop), clock).wait_free(SPEC, lambda phase: None)

    assert clock.time == 0.0


async def test_a_share_waits_for_the_dead_and_not_for_living_neighbours() -> None:
    clock = FakeClock()
    neighbour = (1, 1542)
    gpus = Gpus(Readings(IDLE, used(3084, neighbour, (999_999_999, 1542)), used(1542, neighbour)), clock)

    await gpus.wait_free(HALF, lambda phase: None)

    assert clock.time == pytest.approx(0.05)


def test_a_process_is_known_by_its_control_group(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "cgroup").write_text(
        "12:pids:/relight-ab/shell-1\n1:name=systemd:/user.slice\n0::/relight-ab/shell-1\n"
    )

    assert "shell-1" in sandboxes_of(5, tmp_path)
    assert sandboxes_of(6, tmp_path) == set()


class Pool:
    """Workers, of which some are evicted."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.evicted: list[tuple[str, str, str]] = []

    def sandboxes(self) -> dict[str, str]:
        return {"shell-1": "worker-1"}

    def spec_of(self, worker: str) -> WorkerSpec | None:
        return self.spec

    def evict(self, worker: str, why: str, words: str) -> None:
        self.evicted.append((worker, why, words))


@pytest.mark.parametrize(
    ("spec", "held", "is_evicted"), [(HALF, 40_000, False), (HALF, 41_000, True), (SPEC, 81_000, False)]
)
async def test_who_holds_more_memory_than_its_share_is_ended(
    monkeypatch: pytest.MonkeyPatch, spec: WorkerSpec, held: int, is_evicted: bool
) -> None:
    monkeypatch.setattr("relight.agent.gpu.sandboxes_of", lambda pid: {"shell-1"} if pid == 5 else set())
    pool = Pool(spec)
    watch = GpuWatch(Gpus(Readings(IDLE, used(held + 9, (5, held), (6, 9))), FakeClock()), pool, FakeClock())

    await watch.look()

    (use,) = watch.latest()
    assert (use.memory_used_mib, use.workers) == (held + 9, (("worker-1", held),))
    assert [(worker, why) for worker, why, _ in pool.evicted] == [("worker-1", "killed:gpu_memory")] * is_evicted
    if is_evicted:
        assert "it held 41000 MiB of its GPU, of which 0.5 is 40779 MiB" in pool.evicted[0][2]


def test_the_drivers_libraries_are_found_where_the_loader_finds_them_and_where_it_does_not(tmp_path: Path) -> None:
    def put(folder: str) -> None:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "libcuda.so.1").touch()

    assert find_libraries(tmp_path) == Libraries()
    put("run/opengl-driver/lib")
    found = find_libraries(tmp_path)
    assert found.path == "/run/opengl-driver/lib"
    assert found.mounts == (Mount(source=found.path, target=found.path),)
    put("opt/driver")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.cache").write_bytes(b"glibc-ld.so.cache1.1\0/opt/driver/libcuda.so.1\0/usr/lib/libc.so.6\0")
    cached = find_libraries(tmp_path)
    assert (cached.path, cached.mounts) == ("", (Mount(source="/opt/driver", target="/opt/driver"),))


def test_what_the_loader_cannot_find_by_itself_is_named_in_the_environment_and_needs_a_fresh_process() -> None:
    libraries = Libraries(mounts=(Mount(source="/d", target="/d"),), path="/d")
    gpus = Gpus(Readings(IDLE), FakeClock(), libraries=libraries)

    shown = gpus.equip(replace(SANDBOX, env=(("LD_LIBRARY_PATH", "/mine"),)), SPEC)

    assert dict(shown.env)["LD_LIBRARY_PATH"] == "/mine:/d"
    assert Mount(source="/d", target="/d") in shown.mounts
    assert gpus.needs_fresh(SPEC)
    assert not Gpus(Readings(IDLE), FakeClock()).needs_fresh(SPEC)


def test_a_gpu_whose_driver_is_not_there_is_no_good_and_it_is_said_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relight.agent.gputest.find_libraries", lambda: Libraries(path=str(tmp_path)))
    (tmp_path / "libcuda.so.1").write_text("no library at all")

    (verdict,) = self_test(Readings(IDLE))

    assert (verdict.id, verdict.kind) == (H100, "H100-80GB")
    assert verdict.why.startswith("the driver's library cannot be opened")
