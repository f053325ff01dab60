"""The init of a base's sandbox: the maker of sandboxes below it, into which the base's process forks theirs.

    base's sandbox                     a nested sandbox
    nest (pid 1)     ─clones▶          its pid 1 (`keeper.py`, for the shells of a template)
      └ base process ────fork──▶         └ template, or worker: the base's child

A nested sandbox shows what the base shows of the image, and mounts of its own, which the launcher took: nobody else
sees the machine's folders.  Its process is in a user namespace below the base's, one of those that were made before any
stranger's code ran; so the base enters each, and nobody can make another.  When this process ends, so do all sandboxes
below it: their namespaces of processes are within its own.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from contextlib import suppress
from typing import NoReturn

from relight.protocol.errors import ProtocolError
from relight.protocol.network import HOST
from relight.sandbox import syscalls
from relight.sandbox.egress.setup import take_sockets
from relight.sandbox.keeper import keep, open_space
from relight.sandbox.messages import PACKET_BYTES, TO_NEST, InitFailed, NestedMade, NewNested
from relight.sandbox.operations import Operation, Trees, users_key
from relight.sandbox.pid1 import Bell, StepFailed, close_strangers, collect, execute, tell, wait_go
from relight.sandbox.plan import NESTED, Nest, covered_mounts, nested
from relight.sandbox.spec import SandboxSpec

_DESCRIPTORS = 64  # the most that come with an order: its status socket, and mounts


def tend(nest: Nest, base: int, status: socket.socket, bell: Bell, users: Trees) -> None:
    """Make sandboxes until the base and all of them are gone, or the launcher is."""
    below: dict[int, int | None] = {}  # by pid 1, the number of its user namespace
    is_alive = True
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    poll.register(status, select.POLLIN)
    while is_alive or below:
        ready = {descriptor for descriptor, _ in poll.poll()}
        bell.rung()
        for pid, ended in collect():
            below.pop(pid, None)
            if pid == base:
                is_alive = False
                tell(status, ended)
        if status.fileno() in ready:
            order, descriptors = _receive(status)
            if order is None:
                return
            free = next((number for number in range(NESTED) if number not in below.values()), None)
            made = _make(nest, order, descriptors, users, free)
            if made is not None:
                below[made] = free if order.spec.is_template else None


def _make(nest: Nest, order: NewNested, descriptors: list[int], users: Trees, free: int | None) -> int | None:
    """Clone the pid 1 of a nested sandbox, which makes it and tells; returns it, if it is there."""
    own, *taken = descriptors
    status = socket.socket(fileno=own)
    try:
        if free is None and order.spec.is_template:
            tell(status, InitFailed(reason=f"its base has {NESTED} templates; end one"))
            return None
        number = free if order.spec.is_template else None
        namespaces, operations = nested(order.spec, nest, number)
        pid, pidfd = syscalls.clone3(namespaces)
        if pid == 0:
            trees = dict(zip(order.targets, taken, strict=True))
            if number is not None:
                trees[users_key(number)] = users[users_key(number)]
            _live(order.spec, operations, status, trees)
        os.close(pidfd)
        return pid
    except OSError as error:
        tell(status, InitFailed(reason=f"no process can be made: {error.strerror}"))
        return None
    finally:
        status.close()
        for tree in taken:
            os.close(tree)


def _live(spec: SandboxSpec, operations: tuple[Operation, ...], status: socket.socket, trees: Trees) -> NoReturn:
    """Be the pid 1 of a nested sandbox.  Never returns into the nest, whose copy this process is."""
    try:
        signal.set_wakeup_fd(-1)
        close_strangers({status.fileno(), *trees.values()})
        if not wait_go(status):
            os._exit(0)  # the launcher is gone
        bell = Bell()
        execute(operations, trees)
        names = ("pid", *(("user",) if spec.is_template else ()), "mnt", "ipc", *(("net",) * (spec.network != HOST)))
        egress = take_sockets(trees)
        told = [os.pidfd_open(os.getpid()), *(open_space(name) for name in names), *egress]
        tell(status, NestedMade(egress=len(egress)), *told)
        for descriptor in told:
            os.close(descriptor)
        keep(None, status, bell, covered_mounts(spec))
    except StepFailed as failure:
        tell(status, InitFailed(reason=str(failure)))
    except BaseException as error:  # noqa: BLE001 - a process's outermost frame: what is not told here is told nowhere
        tell(status, InitFailed(reason=f"its first process failed: {error!r}"))
    finally:
        os._exit(0)


def _receive(status: socket.socket) -> tuple[NewNested | None, list[int]]:
    """The launcher's next order, and what came with it; None: it is gone."""
    with suppress(ConnectionResetError, ProtocolError):
        data, descriptors, _, _ = socket.recv_fds(status, PACKET_BYTES, _DESCRIPTORS)
        order = TO_NEST.unpack(data) if data else None
        if isinstance(order, NewNested):
            return order, descriptors
    return None, []
