"""A bundle is fetched once, unpacked once, and believed in nothing."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from pathlib import Path
from typing import IO

import pytest

from relight.agent.code import CodeCache, unpack
from relight.protocol.errors import NotFound, StartFailed
from relight.protocol.manifest import CodeBundle

DIGEST = "a" * 64


def archive(*members: tuple[str, bytes | str]) -> bytes:
    """A tar of files (bytes) and symbolic links (str)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size, info.mode = len(content), 0o600
                tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


class Source:
    """Where the bundle is fetched from, counting."""

    def __init__(self, content: bytes | Exception) -> None:
        self.content = content
        self.count = 0

    async def fetch_into(self, file: IO[bytes], digest: str) -> None:
        self.count += 1
        if isinstance(self.content, Exception):
            raise self.content
        file.write(self.content)


def bundle(digest: str = DIGEST) -> CodeBundle:
    return CodeBundle(digest=digest, size=1, folder="/app")


async def test_workers_that_start_together_fetch_their_code_once(tmp_path: Path):
    source = Source(archive(("app.py", b"x = 1"), ("package/module.py", b"y = 2")))
    async with asyncio.TaskGroup() as tasks:
        cache = CodeCache(tmp_path, source, tasks)

        folders = await asyncio.gather(*(cache.get(bundle()) for _ in range(5)))

    assert source.count == 1
    assert {folder.name for folder in folders} == {DIGEST}
    assert (folders[0] / "package" / "module.py").read_bytes() == b"y = 2"
    assert (folders[0] / "app.py").stat().st_mode & 0o777 == 0o644, "whoever the sandbox runs as may read it"
    assert cache.find(bundle()) == folders[0]


async def test_a_bundle_that_cannot_be_fetched_is_tried_again_by_the_next(tmp_path: Path):
    source = Source(NotFound("cannot fetch it"))
    async with asyncio.TaskGroup() as tasks:
        cache = CodeCache(tmp_path, source, tasks)
        with pytest.raises(NotFound):
            await cache.get(bundle())

        source.content = archive(("app.py", b""))
        folder = await cache.get(bundle())

    assert (folder / "app.py").exists()
    assert os.listdir(tmp_path) == [DIGEST], "nothing half unpacked stays"


@pytest.mark.parametrize("digest", ["../../etc", "A" * 64, ""])
async def test_a_digest_that_is_none_names_no_folder(tmp_path: Path, digest: str):
    async with asyncio.TaskGroup() as tasks:
        cache = CodeCache(tmp_path / "code", Source(b""), tasks)

        with pytest.raises(StartFailed, match="not a SHA-256"):
            await cache.get(bundle(digest))


@pytest.mark.parametrize(
    "member",
    [("../out.py", b""), ("/etc/out.py", b""), ("a/../../out.py", b""), ("link", "/etc/passwd")],
    ids=["above", "absolute", "through", "link"],
)
def test_an_archive_that_reaches_outside_is_refused(tmp_path: Path, member: tuple[str, bytes | str]):
    target = tmp_path / "target"
    target.mkdir()

    with pytest.raises(StartFailed, match="is not a file or folder inside it"):
        unpack(io.BytesIO(archive(("app.py", b""), member)), target)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["target"]


def test_what_is_no_archive_is_refused(tmp_path: Path):
    with pytest.raises(StartFailed, match="cannot unpack"):
        unpack(io.BytesIO(b"nonsense" * 200), tmp_path)
