"""The init of a template's sandbox: as any init, and the maker of shells for the processes that the template forks.

    template's sandbox                  a shell
    keeper (pid 1)      ─executes▶      its pid 1 (`reaper.py`), in namespaces that the keeper made around itself
      └ template ─────────fork──▶         └ worker: the template's child, in the shell's namespaces and groups

The template's process may end, and its sandbox lives on for the workers it made, whose parent this process then is.
When this process ends, so do all shells: their namespaces of processes are within its own.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from contextlib import suppress
from functools import lru_cache, partial
from typing import NoReturn

from relight.protocol.errors import ProtocolError
from relight.protocol.network import HOST
from relight.sandbox import reaper, syscalls
from relight.sandbox.egress.setup import take_sockets
from relight.sandbox.messages import PACKET_BYTES, TO_KEEPER, NewShell, ShellFailed, ShellMade
from relight.sandbox.operations import Trees
from relight.sandbox.pid1 import Bell, StepFailed, collect, execute, tell
from relight.sandbox.plan import DOOR, KEEPER_CAPABILITIES, shell
from relight.sandbox.spec import Mount

_SPACES = ("mnt", "ipc", "net")
"""The namespaces of a shell but that of processes, by their names in /proc."""

_PROC = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


def keep(template: int | None, status: socket.socket, bell: Bell, covered: tuple[Mount, ...]) -> None:
    """Make shells, and wait for everybody, until the template and all shells are gone, or the launcher is.

    None: the template is no child of this process, which then stays until the launcher ends it.
    """
    # It makes all it needs itself, and so may not look into what others closed: its shells' program, for one.
    syscalls.limit_capabilities(KEEPER_CAPABILITIES)
    maker = ShellMaker(covered)
    shells: set[int] = set()
    is_alive = True
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    poll.register(status, select.POLLIN)
    while is_alive or shells:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if signal.SIGTERM in bell.rung() and template is not None and is_alive:
            with suppress(ProcessLookupError):
                os.kill(template, signal.SIGTERM)
        for pid, ended in collect():
            shells.discard(pid)
            if pid == template:
                is_alive = False
                tell(status, ended)
        if status.fileno() in ready:
            order = _receive(status)
            if order is None:
                return
            shells |= maker.make(order, status)


class ShellMaker:
    """Makes the namespaces and mounts of shells around this process, which then goes back into its own."""

    def __init__(self, covered: tuple[Mount, ...]) -> None:
        self._plan = lru_cache(partial(shell, covered=covered))
        self._home = {name: open_space(name) for name in _SPACES}
        self._proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)  # a shell's own does not show this process

    def make(self, order: NewShell, status: socket.socket) -> set[int]:
        """Make one and tell the launcher; its pid 1, if it could be made.

        Raises OSError when this process cannot go back: it is of no use then.
        """
        trees: Trees = {}
        made: list[int] = []
        try:
            pid = self._make(order, trees, made)
            egress = take_sockets(trees)
            made += egress
            tell(status, ShellMade(id=order.id, egress=len(egress)), *made)
            return {pid}
        except (StepFailed, OSError) as failure:  # no more processes, or namespaces, are permitted, say
            tell(status, ShellFailed(id=order.id, reason=str(failure)))
            return set()
        finally:
            for descriptor in (*made, *trees.values()):
                os.close(descriptor)

    def _make(self, order: NewShell, trees: Trees, made: list[int]) -> int:
        """Returns its pid 1; adds to `made` what is to be told with it."""
        namespaces, operations = self._plan(order.network, order.ephemeral_disk_mib, is_proxied=order.is_proxied)
        names = (
            _SPACES[:-1] if order.network == HOST else _SPACES
        )  # the machine's network is not this process's to join
        try:
            syscalls.unshare(namespaces)
            execute(operations, trees)
            # It has executed, or failed to, when this returns: only then may its namespace be looked at.
            pid, pidfd = syscalls.clone3(syscalls.CLONE_NEWPID | syscalls.CLONE_VFORK)
            if pid == 0:
                _become_reaper()
            # By descriptor, and not by the pidfd: to join by that one must be allowed to look into the process.
            made += (pidfd, trees.pop(DOOR), open_space("pid", pid, self._proc))
            made += (open_space(name, below=self._proc) for name in names)
        finally:
            for name in names:
                syscalls.setns(self._home[name])
        return pid


def _become_reaper() -> NoReturn:
    try:
        syscalls.mount("proc", "/proc", _PROC)  # which shows the processes of whoever mounts it
        os.execve(reaper.PATH, [reaper.PATH], {})
    finally:
        os._exit(127)


def _receive(status: socket.socket) -> NewShell | None:
    """The launcher's next order; None: it is gone."""
    try:
        data = status.recv(PACKET_BYTES)
        order = TO_KEEPER.unpack(data) if data else None
    except (ConnectionResetError, ProtocolError):
        return None
    return order if isinstance(order, NewShell) else None


def open_space(name: str, pid: int | str = "self", below: int | None = None) -> int:
    """A namespace of a process, by its name in /proc, or in another such folder."""
    path = f"{pid}/ns/{name}"
    return os.open(f"/proc/{path}" if below is None else path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=below)
