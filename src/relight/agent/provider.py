"""Makes ready what workers need on this machine: the code, our own library, the image, and a way to the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relight.agent.code import CodeCache
from relight.agent.layout import Layout, Provision, folders_within_code, lay_out, lay_out_base
from relight.agent.library import Library
from relight.agent.platform import Doors
from relight.protocol.link import WorkerSpec
from relight.protocol.manifest import HostImage
from relight.sandbox.spec import Isolation, Mount, SandboxSpec

ImageMounts = Callable[[HostImage], tuple[Mount, ...]]
"""The folders an image consists of.  Raises StartFailed for one that is not what it says, or must not be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the parts come from.  `isolation` and `proxy` are asked for each worker: they are known once the machine has been looked at."""

    code: CodeCache
    library: Library
    image_mounts: ImageMounts
    isolation: Callable[[], Isolation]
    proxy: Callable[[], str]
    doors: Doors


class Provider:
    """Puts the parts of a worker in place, and takes away what was for it alone."""

    def __init__(self, sources: Sources) -> None:
        self._from = sources

    def has(self, spec: WorkerSpec) -> bool:
        """Whether nothing has to be fetched for this worker."""
        return self._from.code.find(spec.code) is not None

    async def fetch(self, spec: WorkerSpec) -> None:
        """Bring what has to be fetched.  Raises RelightError when it cannot be had."""
        await self._from.code.get(spec.code)

    async def layout(self, worker: str, spec: WorkerSpec, *, is_template: bool = False) -> Layout:
        """The sandbox of a worker, all of whose parts are in place.  Raises RelightError when one cannot be had."""
        image = await asyncio.to_thread(self._from.image_mounts, spec.function.image)
        library = await self._from.library.get(spec.function.image)
        code = await self._from.code.get(spec.code)
        _make_places(code, spec, image)
        platform = None if is_template else await self._from.doors.open(worker)
        provision = Provision(code=code, library=library, platform=platform, image=image, proxy=self._from.proxy())
        return lay_out(worker, spec, provision, self._from.isolation())

    async def layout_base(self, name: str, spec: WorkerSpec) -> SandboxSpec:
        """The sandbox of the base that serves this worker's image.  Raises RelightError when it cannot be had."""
        image = await asyncio.to_thread(self._from.image_mounts, spec.function.image)
        library = await self._from.library.get(spec.function.image)
        return lay_out_base(name, spec, library, image)

    def release(self, worker: str) -> None:
        """Nothing of a worker is left: its way to the server closes."""
        self._from.doors.close(worker)


def _make_places(code: Path, spec: WorkerSpec, image: tuple[Mount, ...]) -> None:
    for folder in folders_within_code(spec, image):
        (code / folder).mkdir(mode=0o755, parents=True, exist_ok=True)
