"""The GPUs of this node: what each is called, what a worker is handed that gets one, and when it may be handed on.

A GPU reaches a sandbox as files: its own device and those that all share, `nvidiactl` and the two of `nvidia-uvm`.  A sandbox
has those of the GPUs it was given and no others, so that is the wall; `CUDA_VISIBLE_DEVICES` is for the libraries, which
number what they see.  A template has none: there is nothing in it yet that a fork could not use, and each of its workers
is given its own (decision 27).

The memory of a process that is killed is free when the process is gone, 65 to 82 ms after the signal on an H100.  What
this relies on is looked at all the same before a GPU is handed to the next.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from relight.agent.nvml import DRIVER, Device, Reading, ReadsGpus
from relight.clock import Clock
from relight.protocol.errors import StartFailed
from relight.protocol.link import GpuFact, GpuUse, WorkerSpec
from relight.sandbox.spec import Mount, SandboxSpec

FREE_SECONDS = 10.0
"""What a GPU gets to be free of the worker before; then the start fails, and says who uses it."""

LOOK_SECONDS = 0.05
"""How often is looked meanwhile."""

IDLE_MIB = 64
"""A GPU that has so much more in use than it had when the agent began is not free."""

SHARED = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
"""The devices that every worker with a GPU needs beside its own."""

LIBRARY = "libcuda.so.1"
"""The driver's library: the others lie beside it."""

_LOADER_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
_DRIVER_FOLDERS = (
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/usr/lib/wsl/lib",
    "/run/opengl-driver/lib",
    "/opt/nvidia/lib64",
)
_SYSTEM_FOLDERS = ("/usr/", "/lib/", "/lib64/")

_NOT_THE_MODEL = re.compile(
    r"NVIDIA|Tesla|GeForce|Quadro|Graphics|Generation|Corporation|GPU|Laptop|SXM\d*|PCIe?|HBM\w*|CG\d", re.IGNORECASE
)
_SLICE = re.compile(r"(?P<model>.*)\bMIG (?P<profile>\S+)$")

_log = logging.getLogger("relight.agent")


def kind_of(name: str) -> str:
    """What a GPU is asked for by, from what its maker calls it: `NVIDIA A100-SXM4-80GB` is an `A100-80GB`.

    A slice is named for its GPU and its profile: `A100-80GB-MIG-1G.10GB`.
    """
    sliced = _SLICE.fullmatch(name)
    if sliced:
        return f"{kind_of(sliced['model'])}-MIG-{sliced['profile'].upper()}"
    return "-".join(re.findall(r"[A-Za-z0-9.]+", _NOT_THE_MODEL.sub(" ", name))).upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One that work can be given to, and the devices it takes beside those that are shared."""

    fact: GpuFact
    devices: tuple[str, ...]


def gpus_of(devices: Iterable[Device], driver: Path = DRIVER) -> tuple[Gpu, ...]:
    """The GPUs of a machine."""
    return tuple(
        Gpu(
            fact=GpuFact(
                id=device.id,
                kind=kind_of(device.name),
                name=device.name,
                memory_mib=device.memory_mib,
                parent=device.parent,
            ),
            devices=(f"/dev/nvidia{device.minor}", *_slice_devices(device, driver)),
        )
        for device in devices
    )


def _slice_devices(device: Device, driver: Path) -> Iterator[str]:
    """A slice is opened by two capabilities, which are devices; the driver tells their numbers."""
    if device.instance is None:
        return
    gpu, compute = device.instance
    place = driver / "capabilities" / f"gpu{device.minor}" / "mig" / f"gi{gpu}"
    for file in (place / "access", place / f"ci{compute}" / "access"):
        with suppress(OSError):
            number = re.search(r"^DeviceFileMinor:\s*(\d+)", file.read_text(), re.MULTILINE)
            if number:
                yield f"/dev/nvidia-caps/nvidia-cap{number[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Libraries:
    """What it takes for a sandbox to find the driver's libraries beyond the system's folders: nothing, as a rule."""

    mounts: tuple[Mount, ...] = ()
    path: str = ""


def find_libraries(root: Path = Path("/")) -> Libraries:
    """Where the driver's libraries are: the loader finds most by itself, in its own folders or by its cache."""

    def holds(folder: str) -> bool:
        return (root / folder.lstrip("/") / LIBRARY).exists()

    with suppress(OSError):
        cached = re.search(
            rb"(/[^\0]*)/" + re.escape(LIBRARY).encode() + rb"\0", (root / "etc/ld.so.cache").read_bytes()
        )
        if cached and holds(os.fsdecode(cached[1])):
            folder = os.path.realpath(os.fsdecode(cached[1])) if root == Path("/") else os.fsdecode(cached[1])
            return Libraries(mounts=_shown(folder))
    if any(map(holds, _LOADER_FOLDERS)):
        return Libraries()
    folder = next(filter(holds, _DRIVER_FOLDERS), "")
    return Libraries(mounts=_shown(folder), path=folder) if folder else Libraries()


def _shown(folder: str) -> tuple[Mount, ...]:
    return () if f"{folder}/".startswith(_SYSTEM_FOLDERS) else (Mount(source=folder, target=folder),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a worker is handed: devices of this machine, and variables that name its GPUs."""

    devices: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


NO_GPU = Grant()


class Gpus:
    """All of a node's: those that `nvml` finds, and the `simulated`, which are nothing but a name."""

    def __init__(
        self,
        nvml: ReadsGpus | None,
        clock: Clock,
        *,
        simulated: Sequence[GpuFact] = (),
        libraries: Libraries = Libraries(),
        driver: Path = DRIVER,
    ) -> None:
        self._nvml = nvml
        self._clock = clock
        self._real = {gpu.fact.id: gpu for gpu in gpus_of(nvml.devices() if nvml else (), driver)}
        self._simulated = tuple(simulated)
        self._libraries = libraries
        self._shared = tuple(path for path in SHARED if os.path.exists(path))
        self._before = {name: self._read(name) for name in self._real}

    @property
    def facts(self) -> tuple[GpuFact, ...]:
        """What the server is told of them."""
        return (*(gpu.fact for gpu in self._real.values()), *self._simulated)

    @property
    def has_real(self) -> bool:
        """Whether there is any that is not simulated."""
        return bool(self._real)

    def needs_fresh(self, spec: WorkerSpec) -> bool:
        """Whether a worker's process must be told of the driver's libraries as it starts, as no fork can be."""
        return bool(spec.function.resources.gpu and self.has_real and self._libraries.path)

    def grant(self, spec: WorkerSpec) -> Grant:
        """What a worker is handed.  Raises StartFailed when this node does not have its GPUs."""
        given = [self._real[name] for name in spec.gpus if name in self._real]
        if len(given) < len(spec.gpus):
            known = {fact.id for fact in self.facts}
            unknown = [name for name in spec.gpus if name not in known]
            if unknown:
                raise StartFailed(
                    f"cannot start {spec.function.name}: this node does not have the GPU {unknown[0]} any more; "
                    "look at the node with nvidia-smi, and start its agent again"
                )
        if not given:
            return Grant()
        names = ",".join(gpu.fact.id for gpu in given)
        devices = dict.fromkeys(path for gpu in given for path in (*self._shared, *gpu.devices))
        share = (("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{spec.gpu_share:g}"),) if spec.gpu_share < 1 else ()
        return Grant(
            devices=tuple(devices),
            env=(("CUDA_VISIBLE_DEVICES", names), ("NVIDIA_VISIBLE_DEVICES", names), *share),
        )

    def equip(self, sandbox: SandboxSpec, spec: WorkerSpec) -> SandboxSpec:
        """The sandbox of a worker that gets GPUs, or of a template whose workers do.  Raises StartFailed."""
        if not (spec.function.resources.gpu and self.has_real):
            return sandbox
        known = {mount.target for mount in sandbox.mounts}
        env = dict(sandbox.env)
        if self._libraries.path:
            env["LD_LIBRARY_PATH"] = ":".join(filter(None, (env.get("LD_LIBRARY_PATH"), self._libraries.path)))
        shown = replace(
            sandbox, mounts=(*sandbox.mounts, *(one for one in self._libraries.mounts if one.target not in known))
        )
        if sandbox.is_template:
            places = dict.fromkeys((*self._shared, *(path for gpu in self._real.values() for path in gpu.devices)))
            return replace(shown, env=tuple(env.items()), device_places=tuple(places))
        grant = self.grant(spec)
        return replace(shown, env=tuple({**dict(grant.env), **env}.items()), devices=grant.devices)

    # -- what is in use

    async def wait_free(self, spec: WorkerSpec, begin: Callable[[str], None]) -> None:
        """Return once the GPUs of a worker are free of whoever had them before; `begin` is told where that takes long.

        Raises StartFailed after `FREE_SECONDS`.
        """
        names = [name for name in spec.gpus if name in self._real]
        if not names:
            return
        until = self._clock.monotonic() + FREE_SECONDS
        is_first = True
        while busy := await asyncio.to_thread(self._why_busy, names, is_whole=spec.gpu_share >= 1):
            if is_first:
                begin("gpu")
                is_first = False
            if self._clock.monotonic() > until:
                raise StartFailed(
                    f"cannot start {spec.function.name}: {busy}, {FREE_SECONDS:g} s after it was given to this worker; "
                    "end what uses it (nvidia-smi shows it)"
                )
            await self._clock.sleep(LOOK_SECONDS)

    def _why_busy(self, names: Sequence[str], *, is_whole: bool) -> str:
        """Who still uses GPUs that nobody should; "" for nobody."""
        for name in names:
            reading, before = self._read(name), self._before[name]
            if reading is None or before is None:
                continue
            strangers = [pid for pid, _ in reading.processes or () if pid not in dict(before.processes or ())]
            # One that shares its GPU has living neighbours; whoever is dead is still to give back what it had.
            left = strangers if is_whole else [pid for pid in strangers if not os.path.exists(f"/proc/{pid}")]
            kind = self._real[name].fact.kind
            if left:
                return f"process {left[0]} ({_command(left[0])}) uses memory of its {kind}"
            if is_whole and reading.memory_used_mib > before.memory_used_mib + IDLE_MIB:
                return f"{reading.memory_used_mib} MiB of its {kind} are in use"
        return ""

    def uses(self, owners: Mapping[str, str]) -> tuple[GpuUse, ...]:
        """How each is used, and by whom; `owners` are the workers, by the names of their sandboxes.  Blocks."""
        found = []
        for name in self._real:
            reading = self._read(name)
            if reading is not None:
                held: dict[str, int] = {}
                for pid, mib in reading.processes or ():
                    owner = next((owners[one] for one in sandboxes_of(pid) if one in owners), "")
                    if owner:
                        held[owner] = held.get(owner, 0) + mib
                found.append(
                    GpuUse(
                        id=name,
                        memory_used_mib=reading.memory_used_mib,
                        utilization_percent=reading.utilization_percent,
                        workers=tuple(held.items()),
                    )
                )
        return tuple(found)

    def allowance_mib(self, spec: WorkerSpec) -> int | None:
        """How much memory a worker may hold of its GPU; None where that is all there is."""
        if spec.gpu_share >= 1 or not spec.gpus or spec.gpus[0] not in self._real:
            return None
        return int(self._real[spec.gpus[0]].fact.memory_mib * spec.gpu_share)

    def _read(self, name: str) -> Reading | None:
        return self._nvml.read(name) if self._nvml is not None else None


def sandboxes_of(pid: int, proc: Path = Path("/proc")) -> set[str]:
    """The names of the control groups that a process is in, of which one is its sandbox's."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return set()
    return {line.rpartition("/")[2] for line in lines}


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"
