"""A folder of blobs: a name is there only when all of its bytes are, and they are the bytes it names."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relight.blobs.store import CHUNK_BYTES, BlobStore
from relight.protocol.errors import InvalidRequest, NotFound


async def parts(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


async def test_what_is_put_in_pieces_is_read_whole(blobs: BlobStore) -> None:
    data = bytes(range(256)) * 3000

    size = await blobs.put(parts(data[:1000], b"", data[1000:]), digest_of(data))

    chunks = [chunk async for chunk in blobs.read(digest_of(data))]
    assert (size, blobs.size(digest_of(data)), b"".join(chunks)) == (len(data), len(data), data)
    assert max(map(len, chunks)) <= CHUNK_BYTES


async def test_bytes_that_are_not_what_they_are_called_are_refused_and_leave_nothing(
    blobs: BlobStore, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot keep blob [0-9a-f]{12}…: the 5 bytes that came are"):
        await blobs.put(parts(b"other"), digest_of(b"these"))

    assert not blobs.has(digest_of(b"these"))
    assert files_in(tmp_path) == []


async def test_a_sender_that_breaks_off_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"the"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await blobs.put(broken(), digest_of(b"these"))

    assert files_in(tmp_path) == []


async def test_one_blob_that_two_bring_at_once_is_there_once(blobs: BlobStore, tmp_path: Path) -> None:
    digest = digest_of(b"these")

    await asyncio.gather(blobs.put(parts(b"the", b"se"), digest), blobs.put(parts(b"these"), digest))

    assert [path.read_bytes() for path in files_in(tmp_path)] == [b"these"]


async def test_a_removed_blob_is_not_found_and_can_be_removed_again(blobs: BlobStore) -> None:
    digest = digest_of(b"these")
    await blobs.put(parts(b"these"), digest)

    blobs.remove(digest)
    blobs.remove(digest)

    assert not blobs.has(digest)
    with pytest.raises(NotFound, match="cannot find blob"):
        blobs.size(digest)
    with pytest.raises(NotFound):
        await anext(blobs.read(digest))


@pytest.mark.parametrize("name", ["", "ab", "../../etc/passwd", "A" * 64, "0" * 63 + "\n", "0" * 65])
def test_a_name_that_is_no_digest_is_refused_before_it_becomes_a_path(blobs: BlobStore, name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot name a blob"):
        blobs.path(name)


async def test_halves_that_a_dead_process_left_are_cleared_away(blobs: BlobStore, tmp_path: Path) -> None:
    await blobs.put(parts(b"these"), digest_of(b"these"))
    half = blobs.path(digest_of(b"these")).parent / ".new-abc"
    half.write_bytes(b"th")

    again = BlobStore(tmp_path / "blobs")

    assert not half.exists()
    assert again.has(digest_of(b"these"))


async def test_a_blob_is_idle_until_somebody_puts_it_or_asks_for_it(blobs: BlobStore) -> None:
    digests = [digest_of(data) for data in (b"one", b"two", b"three")]
    for data, digest in zip((b"one", b"two", b"three"), digests, strict=True):
        await blobs.put(parts(data), digest)
        os.utime(blobs.path(digest), (1000.0, 1000.0))

    blobs.has(digests[1])
    await blobs.put(parts(b"three"), digests[2])

    assert list(blobs.idle_since(2000.0)) == [digests[0]]
    assert list(blobs.idle_since(1000.0)) == []
