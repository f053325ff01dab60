"""The init of a template's sandbox: as any init, and the maker of shells for the processes that the template forks.

    template's sandbox           a shell
    keeper (pid 1)      ─clone3▶ its init (pid 1 of its own)      waits for every orphan, and holds the namespaces
      └ template ─────────fork──▶  └ worker: the template's child, in the shell's namespaces and group

The template's process may end, and its sandbox lives on for the workers it made, whose parent this process then is.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from relight.protocol.errors import ProtocolError
from relight.sandbox import syscalls
from relight.sandbox.messages import PACKET_BYTES, TO_KEEPER, InitFailed, InitHere, InitStarted, NewShell
from relight.sandbox.operations import Operation, Trees
from relight.sandbox.pid1 import Bell, StepFailed, close_strangers, collect, execute, tell, wait_go
from relight.sandbox.plan import DOOR, shell
from relight.sandbox.spec import Mount

SPACES = ("pid", "mnt", "ipc", "cgroup", "net")
"""The namespaces of a shell that a worker joins, by their names in /proc, the first before it is forked."""

_NOBODY = -1


def keep(template: int, status: socket.socket, bell: Bell, covered: tuple[Mount, ...]) -> None:
    """Make shells, and wait for everybody, until the template and all shells are gone, or the launcher is."""
    shells: set[int] = set()
    is_alive = True
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    poll.register(status, select.POLLIN)
    while is_alive or shells:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if signal.SIGTERM in bell.rung() and is_alive:
            with suppress(ProcessLookupError):
                os.kill(template, signal.SIGTERM)
        for pid, ended in collect():
            shells.discard(pid)
            if pid == template:
                is_alive = False
                tell(status, ended)
        if status.fileno() in ready:
            shell_pid = _obey(status, covered)
            if shell_pid is None:
                return
            shells |= {shell_pid} - {_NOBODY}


def _obey(status: socket.socket, covered: tuple[Mount, ...]) -> int | None:
    """Make the shell that is asked for, and return its init; None: the launcher is gone.

    One that cannot be made is nobody: the launcher sees its status socket close.
    """
    try:
        data, descriptors, _, _ = socket.recv_fds(status, PACKET_BYTES, 1)
        order = TO_KEEPER.unpack(data) if data else None
    except (ConnectionResetError, ProtocolError):
        return None
    if not isinstance(order, NewShell):
        return None
    namespaces, operations = shell(order.network, order.ephemeral_disk_mib, covered)
    try:
        pid, pidfd = syscalls.clone3(namespaces) if descriptors else (_NOBODY, -1)
    except OSError:  # no more processes, or namespaces, are permitted: those that live are not to end for it
        pid, pidfd = _NOBODY, -1
    if pid == 0:
        names = SPACES if order.network == "none" else SPACES[:-1]
        _live_in_shell(socket.socket(fileno=descriptors[0]), operations, names)
    for descriptor in (*descriptors, *({pidfd} - {-1})):
        os.close(descriptor)
    return pid


def _live_in_shell(status: socket.socket, operations: tuple[Operation, ...], names: Sequence[str]) -> NoReturn:
    """Be the init of a shell.  Never returns into the keeper, whose copy this process is."""
    try:
        _make_shell(status, operations, names)
    except StepFailed as failure:
        tell(status, InitFailed(reason=str(failure)))
    except BaseException as error:  # noqa: BLE001 - a process's outermost frame: what is not told here is told nowhere
        tell(status, InitFailed(reason=f"its first process failed: {error!r}"))
    finally:
        os._exit(0)


def _make_shell(status: socket.socket, operations: tuple[Operation, ...], names: Sequence[str]) -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    close_strangers({status.fileno()})
    pidfd = os.pidfd_open(os.getpid())
    tell(status, InitHere(), pidfd)
    os.close(pidfd)
    if not wait_go(status):
        return
    trees: Trees = {}
    execute(operations, trees)
    listening = trees.pop(DOOR)
    bell = Bell()
    # By descriptor, and not by our pidfd: to join by that one must be allowed to look into us.
    spaces = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in names]
    tell(status, InitStarted(), listening, *spaces)
    for descriptor in (listening, *spaces):
        os.close(descriptor)
    _wait_for_orphans(status, bell)


def _wait_for_orphans(status: socket.socket, bell: Bell) -> None:
    """Reap until the launcher is gone; its kill ends this process as any other."""
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    poll.register(status, select.POLLIN)
    while status.fileno() not in {descriptor for descriptor, _ in poll.poll()}:
        bell.rung()
        collect()
