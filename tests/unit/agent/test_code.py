"""A bundle is fetched once, unpacked once, and believed in nothing."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from pathlib import Path
from typing import IO

import pytest

from relight.agent.code import Bound, CodeCache, unpack
from relight.clock import SystemClock
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
        cache = CodeCache(tmp_path, source, tasks, SystemClock())

        folders = await asyncio.gather(*(cache.get(bundle()) for _ in range(5)))

    assert source.count == 1
    assert {folder.name for folder in folders} == {DIGEST}
    assert (folders[0] / "package" / "module.py").read_bytes() == b"y = 2"
    assert (folders[0] / "app.py").stat().st_mode & 0o777 == 0o644, "whoever the sandbox runs as may read it"
    assert cache.find(bundle()) == folders[0]


async def test_a_bundle_that_cannot_be_fetched_is_tried_again_by_the_next(tmp_path: Path):
    source = Source(NotFound("cannot fetch it"))
    async with asyncio.TaskGroup() as tasks:
        cache = CodeCache(tmp_path, source, tasks, SystemClock())
        with pytest.raises(NotFound):
            await cache.get(bundle())

        source.content = archive(("app.py", b""))
        folder = await cache.get(bundle())

    assert (folder / "app.py").exists()
    assert os.listdir(tmp_path) == [DIGEST], "nothing half unpacked stays"


@pytest.mark.parametrize("digest", ["../../etc", "A" * 64, ""])
async def test_a_digest_that_is_none_names_no_folder(tmp_path: Path, digest: str):
    async with asyncio.TaskGroup() as tasks:
        cache = CodeCache(tmp_path / "code", Source(b""), tasks, SystemClock())

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


class Shelf:
    """A cache that holds two bundles of 100 KiB, and what is in use of it."""

    def __init__(self, folder: Path, tasks: asyncio.TaskGroup) -> None:
        self.folder = folder
        self.used: set[str] = set()
        bound = Bound(most_bytes=250 * 1024, in_use=lambda: self.used)
        self.cache = CodeCache(folder, Source(archive(("app.py", b"#" * 100 * 1024))), tasks, SystemClock(), bound)

    async def get(self, letter: str, at: float) -> None:
        """Ask for a bundle at a time of its own, as clocks may be coarse."""
        os.utime(await self.cache.get(bundle(letter * 64)), (at, at))

    @property
    def here(self) -> str:
        return "".join(sorted(name[0] for name in os.listdir(self.folder)))


async def test_bundles_that_were_not_asked_for_longest_leave_when_there_are_too_many(tmp_path: Path):
    async with asyncio.TaskGroup() as tasks:
        shelf = Shelf(tmp_path, tasks)
        for at, letter in enumerate("abacd"):
            await shelf.get(letter, at)

    assert shelf.here == "cd"


async def test_a_bundle_that_is_asked_for_again_stays(tmp_path: Path):
    async with asyncio.TaskGroup() as tasks:
        shelf = Shelf(tmp_path, tasks)
        for at, letter in enumerate("abac"):
            await shelf.get(letter, at)

    assert shelf.here == "ac"


async def test_a_bundle_that_a_worker_uses_stays_however_old_it_is(tmp_path: Path):
    async with asyncio.TaskGroup() as tasks:
        shelf = Shelf(tmp_path, tasks)
        shelf.used |= {"a" * 64, "b" * 64}
        for at, letter in enumerate("abcd"):
            await shelf.get(letter, at)

    assert shelf.here == "abd"


async def test_a_bundle_larger_than_all_that_may_be_kept_is_there_for_who_asked_for_it(tmp_path: Path):
    source = Source(archive(("app.py", b"#" * 100 * 1024)))
    async with asyncio.TaskGroup() as tasks:
        cache = CodeCache(tmp_path, source, tasks, SystemClock(), Bound(most_bytes=1, in_use=set))

        folder = await cache.get(bundle())

    assert (folder / "app.py").exists()


async def test_what_an_agent_before_did_not_come_to_remove_goes(tmp_path: Path):
    (tmp_path / f".leaving-{'e' * 64}" / "package").mkdir(parents=True)
    async with asyncio.TaskGroup() as tasks:
        shelf = Shelf(tmp_path, tasks)
        await shelf.get("a", 1.0)

    assert shelf.here == "a"
