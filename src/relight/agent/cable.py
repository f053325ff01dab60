"""What a worker hears and says by: its channel and its two pipes, both ends of each until its process has its own."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import ExitStack
from dataclasses import dataclass

Pipe = tuple[int, int]
"""The descriptors of a pipe: the end that is read, and the one that is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """A worker's ends of its descriptors; they are copied."""

    channel: socket.socket
    stdout: int
    stderr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cable:
    """`mark` begins each note in what is written; `ours` and the ends that are read belong to who speaks to the worker."""

    mark: str
    ours: socket.socket
    theirs: socket.socket
    stdout: Pipe
    stderr: Pipe

    @classmethod
    def lay(cls) -> Cable:
        """A new one.  Raises OSError when there are no more descriptors."""
        with ExitStack() as unless_laid:
            ours, theirs = socket.socketpair()
            unless_laid.callback(ours.close)
            unless_laid.callback(theirs.close)
            stdout = _pipe(unless_laid)
            cable = cls(mark=secrets.token_hex(16), ours=ours, theirs=theirs, stdout=stdout, stderr=_pipe(unless_laid))
            unless_laid.pop_all()
        return cable

    @property
    def ends(self) -> Ends:
        """The worker's."""
        return Ends(channel=self.theirs, stdout=self.stdout[1], stderr=self.stderr[1])

    def hand_over(self) -> None:
        """The process has its ends, or never will."""
        self.theirs.close()
        os.close(self.stdout[1])
        os.close(self.stderr[1])

    def drop(self) -> None:
        """Nobody speaks to the process that has the other ends."""
        self.ours.close()
        os.close(self.stdout[0])
        os.close(self.stderr[0])


def _pipe(unless_laid: ExitStack) -> Pipe:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    unless_laid.callback(os.close, reader)
    unless_laid.callback(os.close, writer)
    return reader, writer
