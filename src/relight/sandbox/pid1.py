"""What every first process of a sandbox does, whatever sandbox it is: operations, signals, orphans, its few words."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Collection, Sequence
from contextlib import suppress

from relight.protocol.codec import pack
from relight.sandbox import syscalls
from relight.sandbox.messages import GO, InitEnded
from relight.sandbox.operations import Operation, Trees

_DOORS = 8  # the most groups that a sandbox is in


class StepFailed(Exception):
    """An operation failed; the text says which and why."""


def execute(operations: Sequence[Operation], trees: Trees) -> None:
    """Do them in order; the first failure is told with what was being done."""
    doing = ""
    try:
        for operation in operations:
            doing = operation.describe()
            operation.execute(trees)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise StepFailed(f"cannot {doing}: {error.strerror}{where}") from error


def wait_go(status: socket.socket) -> bool:
    """Wait for the launcher's word, and join the groups whose doors come with it; false when the launcher is gone.

    Raises StepFailed.
    """
    word, doors, _, _ = socket.recv_fds(status, len(GO), _DOORS)
    try:
        for door in doors:
            os.write(door, b"0")
    except OSError as error:
        raise StepFailed(f"cannot join a control group: {error.strerror}") from error
    finally:
        for door in doors:
            os.close(door)
    return word == GO


def close_strangers(kept: Collection[int]) -> None:
    """Close what belongs to the launcher: the agent's socket, and the status sockets of every other sandbox."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for standard in (0, 1, 2):
        os.dup2(null, standard, inheritable=False)
    first = 3
    for descriptor in sorted(kept):
        if descriptor > first:
            syscalls.close_range(first, descriptor - 1)
        first = descriptor + 1
    syscalls.close_range(first)


class Bell:
    """Signals as a descriptor to poll: a child ended, or somebody asks the worker to end."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        for descriptor in (self._read, write):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)

    def fileno(self) -> int:
        return self._read

    def rung(self) -> bytes:
        """The numbers of the signals that came, one a byte."""
        try:
            return os.read(self._read, 4096)
        except BlockingIOError:
            return b""


def collect() -> list[tuple[int, InitEnded]]:
    """Take in every child that has ended, and what became of each."""
    found: list[tuple[int, InitEnded]] = []
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        peak = usage.ru_maxrss * 1024
        if os.WIFSIGNALED(status):
            found.append((pid, InitEnded(signal=os.WTERMSIG(status), peak_memory_bytes=peak)))
        else:
            found.append((pid, InitEnded(code=os.WEXITSTATUS(status), peak_memory_bytes=peak)))


def tell(status: socket.socket, message: object, *descriptors: int) -> None:
    """Send one packet, whoever hears it."""
    with suppress(OSError):  # the launcher is gone: this process is about to follow it
        socket.send_fds(status, [pack(message)], list(descriptors))
