"""Makes ready what workers need on this machine: the code, our own library, and the image."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from relight.agent.code import CodeCache
from relight.agent.layout import Layout, Provision, folders_within_code, lay_out
from relight.agent.library import Library
from relight.protocol.link import WorkerSpec
from relight.protocol.manifest import HostImage
from relight.sandbox.spec import Isolation, Mount

ImageMounts = Callable[[HostImage], tuple[Mount, ...]]
"""The folders an image consists of.  Raises StartFailed for one that is not what it says, or must not be shown."""


class Provider:
    """`isolation` is asked for each worker, as it is known only once the machine has been looked at."""

    def __init__(
        self, code: CodeCache, library: Library, image_mounts: ImageMounts, isolation: Callable[[], Isolation]
    ) -> None:
        self._code = code
        self._library = library
        self._image_mounts = image_mounts
        self._isolation = isolation

    def has(self, spec: WorkerSpec) -> bool:
        """Whether nothing has to be fetched for this worker."""
        return self._code.find(spec.code) is not None

    async def layout(self, worker: str, spec: WorkerSpec) -> Layout:
        """The sandbox of a worker, all of whose parts are in place.  Raises RelightError when one cannot be had."""
        image = await asyncio.to_thread(self._image_mounts, spec.function.image)
        library = await self._library.get(spec.function.image)
        code = await self._code.get(spec.code)
        _make_places(code, spec, image)
        provision = Provision(code=code, library=library, image=image)
        return lay_out(worker, spec, provision, self._isolation())


def _make_places(code: Path, spec: WorkerSpec, image: tuple[Mount, ...]) -> None:
    for folder in folders_within_code(spec, image):
        (code / folder).mkdir(mode=0o755, parents=True, exist_ok=True)
