"""Values too large for a message: handed over as files in memory that nobody can change any more."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace

from relight.protocol.payload import INLINE_BYTES, Payload

IN_DESCRIPTOR = "descriptor"
"""What stands for the digest of a value that is sent as a descriptor: the agent computes it."""


def sealed(payload: Payload) -> tuple[Payload, tuple[int, ...]]:
    """The payload as a message carries it, and the descriptors to send along and to close then."""
    if payload.data is None or len(payload.data) <= INLINE_BYTES:
        return payload, ()
    return replace(payload, data=None, blob=IN_DESCRIPTOR), (_file_of(payload.data),)


def _file_of(data: bytes) -> int:
    descriptor = os.memfd_create("result", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    return descriptor
