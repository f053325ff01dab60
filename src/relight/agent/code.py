"""The code of apps on this node: each bundle fetched once, and unpacked once, under its digest.

A bundle is what a user sent, so unpacking trusts nothing: folders and plain files only, inside the folder only, and
not without bound.

All bundles together are bounded too: those that were not asked for longest leave, but never one that is in use here.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from relight.clock import Clock
from relight.protocol.errors import RelightError, StartFailed
from relight.protocol.manifest import CodeBundle

MAX_FILES = 20_000
MAX_BYTES = 1024 * 1024 * 1024
"""No bundle unpacks to more."""

_LEAVING = ".leaving-"
TOUCH_SECONDS = 60.0
"""That a bundle was used is written down once in so many seconds."""

_BLOCK_BYTES = 512  # of st_blocks, whatever the file system's own are


class Fetches(Protocol):
    """Where bundles come from."""

    async def fetch_into(self, file: IO[bytes], digest: str) -> None:
        """Write the bytes with this SHA-256 to `file`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How much is kept, and `in_use()`, the digests of what must be, whatever its size."""

    most_bytes: int
    in_use: Callable[[], Collection[str]]


class CodeCache:
    """`folder/DIGEST/` is the unpacked bundle; it appears there whole or not at all, and so it leaves.

    Without a `bound` nothing leaves: whoever shares the folder with others cannot know what they use.
    """

    def __init__(
        self, folder: Path, source: Fetches, tasks: asyncio.TaskGroup, clock: Clock, bound: Bound | None = None
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._source = source
        self._tasks = tasks
        self._bound = bound
        self._sizes: dict[str, int] = {}
        self._touched: dict[str, float] = {}
        self._under_way: dict[str, asyncio.Task[RelightError | None]] = {}

    def find(self, bundle: CodeBundle) -> Path | None:
        """The folder of a bundle that is here."""
        folder = self._folder / bundle.digest
        if not folder.is_dir():
            return None
        now = self._clock.monotonic()
        if now - self._touched.get(bundle.digest, -math.inf) > TOUCH_SECONDS:
            self._touched[bundle.digest] = now
            with suppress(OSError):
                os.utime(folder)  # so that those that nobody asks for are known by it
        return folder

    async def get(self, bundle: CodeBundle) -> Path:
        """The folder of a bundle, fetched if need be.  Raises RelightError when it cannot be had or is not sound."""
        while (folder := self.find(bundle)) is None:
            task = self._under_way.get(bundle.digest)
            if task is None:
                task = self._tasks.create_task(self._fetch(bundle), name=f"agent.code.{bundle.digest[:12]}")
                self._under_way[bundle.digest] = task
            error = await asyncio.shield(task)  # others may wait for the same one
            if error is not None:
                raise error
        return folder

    async def _fetch(self, bundle: CodeBundle) -> RelightError | None:
        """Fetch it once for all who wait; the error is theirs, not the task group's."""
        try:
            _check_digest(bundle.digest)
            with tempfile.TemporaryFile(dir=self._folder) as archive:
                await self._source.fetch_into(archive, bundle.digest)
                archive.seek(0)
                await asyncio.to_thread(self._unpack, archive, bundle.digest)
            if self._bound is not None:
                with suppress(OSError):  # whoever comes next tries again
                    await self._trim(self._bound, bundle.digest)
        except RelightError as error:
            return error
        except OSError as error:
            return StartFailed(f"cannot unpack code bundle {bundle.digest}: {error}; see to the node's disk")
        finally:
            del self._under_way[bundle.digest]
        return None

    async def _trim(self, bound: Bound, newest: str) -> None:
        """Let bundles leave until the others are within bound."""
        oldest_first = await asyncio.to_thread(self._look)
        total = sum(self._sizes[digest] for digest in oldest_first)
        kept = {newest, *self._under_way}
        leaving: list[Path] = []
        for digest in oldest_first:
            if total <= bound.most_bytes:
                break
            if digest in kept or digest in bound.in_use():
                continue
            total -= self._sizes.pop(digest)
            self._touched.pop(digest, None)
            leaving.append(self._folder / f"{_LEAVING}{digest}")
            (self._folder / digest).rename(leaving[-1])  # in this turn of the loop: nobody finds it any more
        for folder in leaving:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _look(self) -> list[str]:
        """The bundles that are here, the one asked for longest ago first; their sizes are known then."""
        found: dict[str, float] = {}
        for folder in self._folder.iterdir():
            if folder.name.startswith(_LEAVING):  # an agent before this one did not come to it
                shutil.rmtree(folder, ignore_errors=True)
            elif _is_digest(folder.name):
                found[folder.name] = folder.stat().st_mtime
                if folder.name not in self._sizes:
                    self._sizes[folder.name] = sum(_space_of(file) for file in folder.rglob("*"))
        return sorted(found, key=lambda digest: found[digest])

    def _unpack(self, archive: IO[bytes], digest: str) -> None:
        target = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=self._folder))
        try:
            target.chmod(0o755)
            unpack(archive, target)
            try:
                target.rename(self._folder / digest)
            except OSError:
                if not (self._folder / digest).is_dir():  # another agent with the same cache was faster
                    raise
        finally:
            shutil.rmtree(target, ignore_errors=True)


def unpack(archive: IO[bytes], target: Path) -> None:
    """Unpack a tar archive below `target`, which is empty.  Raises StartFailed when it is not a sound one."""
    try:
        with tarfile.open(fileobj=archive, mode="r:*") as tar:
            count = size = 0
            for member in tar:
                count, size = count + 1, size + member.size
                if count > MAX_FILES or size > MAX_BYTES:
                    raise StartFailed(
                        f"cannot unpack a code bundle: it has more than {MAX_FILES} files or {MAX_BYTES} bytes; "
                        "leave data out of the app's folder"
                    )
                _unpack_one(tar, member, target)
    except tarfile.TarError as error:
        raise StartFailed(f"cannot unpack a code bundle: {error}; deploy the app again") from error


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not (member.isreg() or member.isdir()):
        raise StartFailed(
            f"cannot unpack a code bundle: {member.name!r} is not a file or folder inside it; deploy the app again"
        )
    path = target / name
    if member.isdir():
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    content = tar.extractfile(member)
    assert content is not None, "a plain file has content"
    with path.open("xb") as file:
        shutil.copyfileobj(content, file)
    path.chmod(0o755 if member.mode & 0o100 else 0o644)


def _space_of(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_blocks * _BLOCK_BYTES
    return 0


def _is_digest(name: str) -> bool:
    return len(name) == 64 and set(name) <= set("0123456789abcdef")


def _check_digest(digest: str) -> None:
    if not _is_digest(digest):
        raise StartFailed(f"cannot fetch code bundle {digest!r}: this is not a SHA-256; deploy the app again")
