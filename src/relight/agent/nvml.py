"""What the driver says of its GPUs, through NVML: which there are, how full they are, and whose processes use them.

The seam is `ReadsGpus`; `Nvml` is the real thing, over NVIDIA's own bindings (the extra `relight[gpu]`).  A question
takes 10 to 200 µs, and much longer while another process makes a context: ask from a thread.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

DRIVER = Path("/proc/driver/nvidia")
"""Where the driver shows itself, whether its library can be used or not."""

_MIB = 1 << 20
_log = logging.getLogger("relight.agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU, or a slice of one, as its driver knows it.  `minor` is the number of the GPU's device.

    Of a slice `parent` is the id of its GPU, `instance` the numbers of its GPU instance and its compute instance.
    """

    id: str
    name: str
    minor: int
    memory_mib: int
    parent: str = ""
    instance: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a GPU is used now.  `processes` are (pid, MiB), as this machine numbers them; None where the driver does not say."""

    memory_used_mib: int
    utilization_percent: int | None
    processes: tuple[tuple[int, int], ...] | None


class ReadsGpus(Protocol):
    """Answers for the GPUs of a machine.  Blocks."""

    def devices(self) -> tuple[Device, ...]:
        """All that work can be given to: whole GPUs, and of those that are sliced the slices alone."""

    def read(self, device: str) -> Reading | None:
        """How one is used; None where it does not answer any more."""


def open_nvml() -> Nvml | None:
    """The driver's answers, None where there is no NVIDIA GPU, or its bindings are not installed, which is said."""
    has_driver = DRIVER.is_dir()
    try:
        library: Any = importlib.import_module("pynvml")
        library.nvmlInit()
    except ImportError:
        if has_driver:
            why = "there is an NVIDIA driver, and nothing to ask it with; pip install 'relight[gpu]'"
            _log.warning("GPUs not used", extra={"why": why})
        return None
    except Exception as error:  # noqa: BLE001 - NVMLError is the module's own, which may not be there to be named
        if has_driver:
            _log.warning("GPUs not used", extra={"why": f"NVML does not answer: {error}; does nvidia-smi?"})
        return None
    return Nvml(library)


class Nvml:
    """NVML, by its bindings, which must be initialised."""

    def __init__(self, library: Any) -> None:
        self._nvml = library
        self._handles: dict[str, Any] = {}

    def devices(self) -> tuple[Device, ...]:
        """As `ReadsGpus.devices`."""
        found: list[Device] = []
        for number in range(self._nvml.nvmlDeviceGetCount()):
            handle = self._nvml.nvmlDeviceGetHandleByIndex(number)
            minor = self._nvml.nvmlDeviceGetMinorNumber(handle)
            if not self._is_sliced(handle):
                found.append(self._device(handle, minor))
                continue
            parent = self._nvml.nvmlDeviceGetUUID(handle)
            for one in self._slices(handle):
                instance = self._nvml.nvmlDeviceGetGpuInstanceId(one), self._nvml.nvmlDeviceGetComputeInstanceId(one)
                found.append(self._device(one, minor, parent=parent, instance=instance))
        return tuple(found)

    def read(self, device: str) -> Reading | None:
        """As `ReadsGpus.read`."""
        handle = self._handles[device]
        try:
            memory = self._memory(handle)
        except self._nvml.NVMLError as error:  # it has fallen off its bus, say
            _log.warning("GPU does not answer", extra={"gpu": device, "why": str(error)})
            return None
        utilization = processes = None
        with suppress(self._nvml.NVMLError):  # not of a slice
            utilization = int(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        with suppress(self._nvml.NVMLError):
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
            processes = tuple((int(one.pid), (one.usedGpuMemory or 0) // _MIB) for one in running)
        return Reading(memory_used_mib=memory.used // _MIB, utilization_percent=utilization, processes=processes)

    def _device(self, handle: Any, minor: int, *, parent: str = "", instance: tuple[int, int] | None = None) -> Device:
        uuid = self._nvml.nvmlDeviceGetUUID(handle)
        self._handles[uuid] = handle
        return Device(
            id=uuid,
            name=self._nvml.nvmlDeviceGetName(handle),
            minor=minor,
            memory_mib=self._memory(handle).total // _MIB,
            parent=parent,
            instance=instance,
        )

    def _memory(self, handle: Any) -> Any:
        """The second version of the answer leaves out of `used` what the driver keeps for itself: 480 MiB of an H100."""
        try:
            return self._nvml.nvmlDeviceGetMemoryInfo(handle, version=self._nvml.nvmlMemory_v2)
        except self._nvml.NVMLError:
            return self._nvml.nvmlDeviceGetMemoryInfo(handle)

    def _is_sliced(self, handle: Any) -> bool:
        try:
            current, _ = self._nvml.nvmlDeviceGetMigMode(handle)
        except self._nvml.NVMLError:  # it cannot be
            return False
        return bool(current)

    def _slices(self, handle: Any) -> Iterator[Any]:
        for number in range(self._nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with suppress(self._nvml.NVMLError):  # there are places between them
                yield self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
