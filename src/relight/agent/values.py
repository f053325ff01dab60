"""Values too large for a message: fetched for a worker, and taken from one, over the link.

A worker gets a descriptor on a file that nobody else can see, since as its owner it could change it; what it gives is
hashed here, and checked again by the server.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import stat
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import IO, Protocol, TypeVar

from relight.clock import Clock
from relight.protocol.calls import CallEvent
from relight.protocol.errors import NotFound, ProtocolError, RelightError, Unavailable, failure_of
from relight.protocol.link import CallEnd
from relight.protocol.payload import FORMATS, INLINE_BYTES, PREVIEW_BYTES, Payload
from relight.transport import Connection

MAX_VALUE_BYTES = 16 * 1024**3
"""No worker may hand over a longer value."""

KEPT = b"kept"
"""What a server says when it has all of a value, and it is what its digest says."""

_CHUNK_BYTES = 256 * 1024
_DELAYS = (0.0, 0.1, 0.5, 2.0)  # before each try, where the link stands and the other end refuses

T = TypeVar("T")


class Reaches(Protocol):
    """What is asked of the link."""

    async def connected(self) -> Connection:
        """The connection to the server, once there is one."""


class Values:
    """`folder` holds what is on its way, unlinked from the start."""

    def __init__(self, link: Reaches, folder: Path, clock: Clock) -> None:
        self._link = link
        self._folder = folder
        self._clock = clock

    async def fetch(self, digest: str) -> int:
        """A read-only descriptor of a file with these bytes.  Raises RelightError when the server has not got them."""
        with tempfile.TemporaryFile(dir=self._folder) as file:
            await self.fetch_into(file, digest)
            return os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)

    async def fetch_into(self, file: IO[bytes], digest: str) -> None:
        """Write the bytes with this SHA-256 to `file`, from its beginning."""
        await self._persist(lambda connection: _download(connection, file, digest))

    async def keep(self, payload: Payload, descriptor: int) -> Payload:
        """Give what `descriptor` holds to the server; the payload that names it.  Closes the descriptor."""
        try:
            check_value(payload, descriptor)
            digest = await asyncio.to_thread(_digest, descriptor, payload.size)
            await self._persist(lambda connection: _upload(connection, descriptor, payload.size, digest))
        finally:
            os.close(descriptor)
        return dataclasses.replace(payload, data=None, blob=digest)

    async def deliver(self, end: CallEnd, descriptors: Sequence[int]) -> CallEnd:
        """The end, its large values given to the server; an end that says why where that cannot be done."""
        mine = list(descriptors)
        try:
            result, failure = end.result, end.failure
            if result is not None and result.data is None:
                result = await self.keep(result, mine.pop(0))
            if failure is not None and failure.exception is not None and failure.exception.data is None:
                failure = dataclasses.replace(failure, exception=await self.keep(failure.exception, mine.pop(0)))
        except (RelightError, OSError) as error:
            refusal = error if isinstance(error, RelightError) else Unavailable(f"cannot keep a value: {error}")
            return dataclasses.replace(end, outcome=CallEvent.FAILED, result=None, failure=failure_of(refusal))
        finally:
            for descriptor in mine:
                os.close(descriptor)
        return dataclasses.replace(end, result=result, failure=failure)

    async def _persist(self, act: Callable[[Connection], Awaitable[T]]) -> T:
        """Do it over the link; as often as the link is cut, and a few times where it stands."""
        refusal: RelightError = Unavailable("cannot use the link: it was not tried")
        tries = 0
        while tries < len(_DELAYS):
            await self._clock.sleep(_DELAYS[tries])
            connection = await self._link.connected()
            try:
                return await act(connection)
            except Unavailable as error:
                refusal = error
                tries += not connection.closed.done()
        raise refusal


def check_payload(what: str, payload: Payload) -> None:
    """Raises ProtocolError when a worker's word about a value is none of ours: `what` says where it stands."""
    if payload.format not in FORMATS or len(payload.preview.encode()) > PREVIEW_BYTES:
        raise ProtocolError(f"cannot believe {what}: its value has an unknown format, or too long a preview")
    if payload.data is not None and (len(payload.data) > INLINE_BYTES or payload.blob):
        raise ProtocolError(f"cannot believe {what}: its value holds {len(payload.data)} bytes inline, or names more")


def check_value(payload: Payload, descriptor: int) -> None:
    """Raises ProtocolError when a worker's descriptor is not a file that holds `payload.size` bytes."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise ProtocolError("cannot take a value: its descriptor is not a file")
    if not 0 <= payload.size <= min(found.st_size, MAX_VALUE_BYTES):
        raise ProtocolError(f"cannot take a value: {payload.size} bytes are said, {found.st_size} are there")


async def _download(connection: Connection, file: IO[bytes], digest: str) -> None:
    file.seek(0)
    file.truncate()
    found = hashlib.sha256()
    stream = connection.open("blob", digest)
    try:
        while data := await stream.read():
            found.update(data)
            file.write(data)
    except BaseException:
        stream.reset("given up")
        raise
    stream.finish()
    file.flush()
    if found.hexdigest() != digest:
        raise NotFound(f"cannot fetch blob {digest}: what came has another digest ({found.hexdigest()})")


async def _upload(connection: Connection, descriptor: int, size: int, digest: str) -> None:
    stream = connection.open("blob-put", digest)
    try:
        at = 0
        while at < size:
            data = os.pread(descriptor, min(_CHUNK_BYTES, size - at), at)
            if not data:
                raise ProtocolError(f"cannot take a value of {size} bytes: it became shorter ({at}) meanwhile")
            await stream.write(data)
            at += len(data)
        stream.finish()
        if await stream.read() != KEPT:
            raise Unavailable(f"cannot keep blob {digest}: the server ended the stream without a word; try again")
    except BaseException:
        stream.reset("given up")
        raise


def _digest(descriptor: int, size: int) -> str:
    found = hashlib.sha256()
    at = 0
    while at < size:
        data = os.pread(descriptor, min(_CHUNK_BYTES, size - at), at)
        if not data:
            raise ProtocolError(f"cannot take a value of {size} bytes: it became shorter ({at}) meanwhile")
        found.update(data)
        at += len(data)
    return found.hexdigest()
