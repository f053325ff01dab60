"""The processes that a template or a base has forked: each is told of when it is there, and when it has ended."""

from __future__ import annotations

import os
import resource  # noqa: F401 - `os.wait4` imports it, and what is imported after the freeze is written to in every fork
import select
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from relight.protocol.channel import Exited, Forked
from relight.protocol.codec import pack
from relight.runtime.forking import fork
from relight.sandbox import syscalls

NOT_FORKED = 72
"""The exit code of a process that could not be forked."""


@dataclass(frozen=True, slots=True)
class _Child:
    name: str
    pid: int
    pidfd: int


class Forks:
    """Those of this process, told of on `control`."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._children: dict[int, _Child] = {}

    def wait_order(self) -> None:
        """Wait for a packet, or the end, of `control`; children that end meanwhile are told of."""
        while True:
            ready = [descriptor for descriptor, _ in self._poll.poll()]
            for descriptor in ready:
                if descriptor in self._children:
                    self._reap(self._children[descriptor])
            if self._control.fileno() in ready:
                return

    def fork(self, name: str, processes: int, descriptors: Sequence[int]) -> int:
        """Fork one into the namespace `processes`; its pid, 0 in the child.  Here the descriptors are closed."""
        try:
            syscalls.setns(processes)
            pid = fork()
        except OSError as error:  # its sandbox is gone, say: it was stopped meanwhile
            sys.stderr.write(f"cannot fork {name}: {error.strerror}\n")
            pid = -1
        if pid == 0:
            return 0
        os.sched_yield()  # it may have been put on this processor, and is what somebody waits for
        for descriptor in descriptors:
            os.close(descriptor)
        if pid < 0:
            self.tell(Exited(worker=name, code=NOT_FORKED))
            return pid
        child = _Child(name, pid, os.pidfd_open(pid))
        self._children[child.pidfd] = child
        self._poll.register(child.pidfd, select.POLLIN)
        self.tell(Forked(worker=name), child.pidfd)
        return pid

    def leave_behind(self) -> None:
        """In a child: close what is its parent's."""
        for child in self._children.values():
            os.close(child.pidfd)

    def tell(self, message: object, *descriptors: int) -> None:
        """Send one packet."""
        socket.send_fds(self._control, [pack(message)], list(descriptors))

    def _reap(self, child: _Child) -> None:
        _, status, usage = os.wait4(child.pid, 0)
        self._poll.unregister(child.pidfd)
        del self._children[child.pidfd]
        os.close(child.pidfd)
        is_killed = os.WIFSIGNALED(status)
        self.tell(
            Exited(
                worker=child.name,
                code=None if is_killed else os.WEXITSTATUS(status),
                signal=os.WTERMSIG(status) if is_killed else None,
                peak_memory_bytes=usage.ru_maxrss * 1024,
            )
        )
