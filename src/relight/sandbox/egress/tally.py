"""How many bytes a sandbox has sent outward: a number in memory that whoever connects for it adds to, and others read.

It is a file of eight bytes that is nowhere but in memory, so that the number outlives a connector, and is read without asking
anybody: by the agent as often as it likes, by the launcher once more when the sandbox has ended.
"""

from __future__ import annotations

import os
import struct

_NUMBER = struct.Struct("=Q")


def make_tally() -> int:
    """A descriptor of one that says 0.  Raises OSError."""
    descriptor = os.memfd_create("relight-egress", os.MFD_CLOEXEC)
    os.pwrite(descriptor, _NUMBER.pack(0), 0)
    return descriptor


def read_tally(descriptor: int) -> int | None:
    """What it says; None for one that is not there (-1)."""
    if descriptor < 0:
        return None
    number: int = _NUMBER.unpack(os.pread(descriptor, _NUMBER.size, 0))[0]
    return number


class Tally:
    """Of who adds to it: one process at a time, from where the one before it came to."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._sent = read_tally(descriptor) or 0

    def add(self, count: int) -> None:
        """So many bytes more went out."""
        self._sent += count
        os.pwrite(self._descriptor, _NUMBER.pack(self._sent), 0)

    def close(self) -> None:
        """Nothing more will."""
        os.close(self._descriptor)
