"""A folder of blobs, each named by its SHA-256: written beside, checked, then renamed, so that a name never lies."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from pathlib import Path

from relight.protocol.errors import InvalidRequest, NotFound

CHUNK_BYTES = 256 * 1024
_HALF = ".new-"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    """The blobs of one folder, which is made when it is missing and belongs to one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for half in folder.glob(f"*/{_HALF}*"):  # an earlier process died while these came
            half.unlink()

    def path(self, digest: str) -> Path:
        """Where a blob is or would be.  Raises InvalidRequest when `digest` is not 64 hexadecimal digits."""
        if _DIGEST.fullmatch(digest) is None:
            raise InvalidRequest(
                f"cannot name a blob {digest[:80]!r}: it is not a SHA-256; use 64 small hexadecimal digits"
            )
        return self._folder / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether the blob is here.  Whoever asks is about to name it, so it counts as used now."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def idle_since(self, before: float) -> Iterator[str]:
        """The blobs that nobody put or asked for since a time, in seconds since 1970."""
        for path in self._folder.glob("??/*"):
            if _DIGEST.fullmatch(path.name) and self.is_idle(path.name, before):
                yield path.name

    def is_idle(self, digest: str, before: float) -> bool:
        """Whether the blob is here, and nobody put it or asked for it since a time."""
        try:
            return self.path(digest).stat().st_mtime < before
        except FileNotFoundError:
            return False

    def size(self, digest: str) -> int:
        """Its length in bytes.  Raises NotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise NotFound(
                f"cannot find blob {digest[:12]}…: it is not kept here, or no longer; upload it again"
            ) from None

    async def put(self, chunks: AsyncIterable[bytes], digest: str) -> int:
        """Keep what `chunks` bring; its length.  Raises InvalidRequest, keeping nothing, when the digest is another."""
        target = self.path(digest)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        number, name = tempfile.mkstemp(dir=target.parent, prefix=_HALF)
        actual = hashlib.sha256()
        size = 0
        try:
            with os.fdopen(number, "wb") as file:
                async for chunk in chunks:
                    actual.update(chunk)
                    size += len(chunk)
                    await asyncio.to_thread(file.write, chunk)
                if actual.hexdigest() != digest:
                    raise InvalidRequest(
                        f"cannot keep blob {digest[:12]}…: the {size} bytes that came are {actual.hexdigest()[:12]}…; send it again"
                    )
                await asyncio.to_thread(os.fsync, file.fileno())
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
        await asyncio.to_thread(_settle_folders, target.parent, self._folder)
        return size

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        """The blob in chunks.  Raises NotFound."""
        self.size(digest)
        with self.path(digest).open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk

    def remove(self, digest: str) -> None:
        """Forget a blob; nothing happens when it is not here."""
        self.path(digest).unlink(missing_ok=True)


def _settle_folders(*folders: Path) -> None:
    """A name is on disk only when the folder that holds it is."""
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
