"""A template: a process that has loaded the user's modules and only forks from then on, each time a worker.

    Load ▶ Frozen ▶ ( Fork ▶ Forked  …  Exited )*
       └ fails ▶ LoadFailed ▶ leave

It holds two capabilities in a user namespace of its own, by which a child enters the shell that was made for it; the
child gives them up before it runs a line of the user's.  What the walls are made of is outside (`sandbox/keeper.py`).
"""

from __future__ import annotations

import atexit
import os
import resource  # noqa: F401 - `os.wait4` imports it, and what is imported after the freeze is written to in every fork
import select
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from relight.protocol.channel import (
    CHANNEL_FD,
    PACKET_BYTES,
    TO_TEMPLATE,
    Exited,
    Fork,
    Forked,
    Frozen,
    Load,
    LoadFailed,
)
from relight.protocol.codec import pack
from relight.protocol.errors import ProtocolError
from relight.protocol.inside import inside
from relight.runtime import freezing
from relight.runtime.channel import Channel
from relight.runtime.forking import fork
from relight.runtime.freezing import freeze, prepare
from relight.runtime.loader import Loaded, RunAwaitable, load, load_failure, preload
from relight.runtime.output import Output
from relight.runtime.rehearsal import Rehearsal
from relight.runtime.thawing import thaw
from relight.runtime.worker import LOAD_FAILED, PYTHON, Worker
from relight.sandbox import syscalls

NOT_FORKED = 72
"""The exit code of a worker that could not be forked."""

_PROC = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
_OWN = 3  # of a worker's descriptors: channel, stdout, stderr; the way into its shell follows
_MOST_DESCRIPTORS = 32


@dataclass(frozen=True, slots=True)
class _Child:
    """A worker that was forked here."""

    worker: str
    pid: int
    pidfd: int


class Template:
    """Lives as long as its agent wants it."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._poll = select.poll()
        self._children: dict[int, _Child] = {}
        self._order: Load | None = None
        self._loaded: Loaded | None = None
        self._worker: Worker | None = None
        self._frozen = freezing.Frozen()
        self._folder = os.getcwd()

    def run(self) -> int:
        """Live; the exit code: this process's, or in a child the worker's."""
        inside.is_worker = True
        order, _ = self._receive()
        if order is None:
            return 0
        if not isinstance(order, Load):
            raise ProtocolError(f"cannot start: a {type(order).__name__} came where Load was expected")
        output = Output(order.mark)
        preset = prepare(order.cpu)
        try:
            self._loaded = preload(order, _run_awaitable)
        except BaseException as error:  # noqa: BLE001 - the boundary of user code: an import may raise anything, exits too
            output.flush()
            self._send(LoadFailed(failure=load_failure(order, error)))
            return LOAD_FAILED
        output.flush()
        self._order = order
        rehearsal = Rehearsal(self._loaded)
        self._loaded.inputs = rehearsal.inputs
        self._worker = Worker(Channel(self._control), self._load, rehearsal.find_flush)
        self._frozen = frozen = freeze(preset)
        self._send(
            Frozen(
                python=PYTHON,
                import_seconds=self._loaded.import_seconds,
                snap_seconds=self._loaded.snap_seconds,
                freeze_seconds=frozen.seconds,
                unsafe=frozen.unsafe,
            )
        )
        return self._serve()

    def _serve(self) -> int:
        """Fork workers until the agent is gone."""
        self._poll.register(self._control, select.POLLIN)
        while True:
            for descriptor, _ in self._poll.poll():
                child = self._children.get(descriptor)
                if child is not None:
                    self._reap(child)
                    continue
                order, descriptors = self._receive()
                if not isinstance(order, Fork):
                    return 0
                pid = self._fork(order, descriptors)
                if pid == 0:
                    return self._work(order, descriptors)

    def _fork(self, order: Fork, descriptors: Sequence[int]) -> int:
        if order.namespaces < 1 or len(descriptors) < _OWN + order.namespaces:
            raise ProtocolError(f"cannot fork {order.worker}: {len(descriptors)} descriptors came with the order")
        try:
            syscalls.setns(descriptors[_OWN])
            pid = fork()
        except OSError as error:  # the shell is gone, say: that worker was stopped meanwhile
            sys.stderr.write(f"cannot fork {order.worker}: {error.strerror}\n")
            pid = -1
        if pid == 0:
            return 0
        for descriptor in descriptors:
            os.close(descriptor)
        if pid < 0:
            self._send(Exited(worker=order.worker, code=NOT_FORKED))
            return pid
        child = _Child(order.worker, pid, os.pidfd_open(pid))
        self._children[child.pidfd] = child
        self._poll.register(child.pidfd, select.POLLIN)
        self._send(Forked(worker=order.worker), child.pidfd)
        return pid

    def _reap(self, child: _Child) -> None:
        _, status, usage = os.wait4(child.pid, 0)
        self._poll.unregister(child.pidfd)
        del self._children[child.pidfd]
        os.close(child.pidfd)
        is_killed = os.WIFSIGNALED(status)
        self._send(
            Exited(
                worker=child.worker,
                code=None if is_killed else os.WEXITSTATUS(status),
                signal=os.WTERMSIG(status) if is_killed else None,
                peak_memory_bytes=usage.ru_maxrss * 1024,
            )
        )

    # -- the child

    def _work(self, order: Fork, descriptors: Sequence[int]) -> int:
        """Be a worker: in the shell, without capabilities, unlike every sibling."""
        entrance = descriptors[_OWN:]
        self._enter_shell(entrance[1 : order.namespaces], entrance[order.namespaces :])
        self._take_over(descriptors)
        os.environ["RELIGHT_WORKER"] = order.worker
        thaw(self._frozen, order.cpu)
        assert self._worker is not None, "it has loaded"
        code = self._worker.run()
        _leave(code)
        return code

    def _enter_shell(self, namespaces: Sequence[int], doors: Sequence[int]) -> None:
        for door in doors:
            os.write(door, b"0")
        for namespace in namespaces:
            syscalls.setns(namespace)
        syscalls.unshare(syscalls.CLONE_NEWCGROUP)  # what is seen of groups begins with its own
        syscalls.mount("proc", "/proc", _PROC)  # which shows the processes of whoever mounts it
        syscalls.clear_capabilities()
        os.setsid()
        os.chdir(self._folder)

    def _take_over(self, descriptors: Sequence[int]) -> None:
        """Have this worker's descriptors where it looks for them, and none that is the template's.

        What was the template's way to its agent becomes the worker's, for which the worker was made before the fork.
        """
        channel, stdout, stderr = descriptors[:_OWN]
        for child in self._children.values():
            os.close(child.pidfd)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.dup2(channel, self._control.fileno(), inheritable=False)
        for descriptor in descriptors:
            os.close(descriptor)

    def _load(self, order: Load, run_awaitable: RunAwaitable) -> Loaded:
        """What the worker was asked to load, most of which is there."""
        loaded = self._loaded
        assert loaded is not None, "it has loaded"
        if loaded.has_instance or self._is_same(order):
            loaded.import_seconds = loaded.snap_seconds = 0.0  # they were the template's
            loaded.enter(run_awaitable)
            return loaded
        afresh = load(order, run_awaitable)
        afresh.inputs = loaded.inputs
        return afresh

    def _is_same(self, order: Load) -> bool:
        """Whether it is the function that the template was asked to load: a version has several."""
        first = self._order
        if first is None or order.is_class:
            return False
        return (
            order.qualname == first.qualname and order.module == first.module and order.serialized == first.serialized
        )

    # -- the agent

    def _receive(self) -> tuple[object, list[int]]:
        """The next packet; None for its message when the agent is gone."""
        data, descriptors, _, _ = socket.recv_fds(self._control, PACKET_BYTES, _MOST_DESCRIPTORS)
        return (TO_TEMPLATE.unpack(data) if data else None), descriptors

    def _send(self, message: object, *descriptors: int) -> None:
        socket.send_fds(self._control, [pack(message)], list(descriptors))


def _run_awaitable(value: Any) -> Any:
    """Await what an `async def` hook made, on a loop that does not outlive it: none survives a fork."""
    import inspect

    if not inspect.iscoroutine(value):
        return value
    import asyncio

    return asyncio.run(value)


def _leave(code: int) -> None:
    """End as the interpreter would, without taking the template's thousand modules apart."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # the user may have put anything there
            stream.flush()
    os._exit(code)


def main() -> None:
    """Be a template on the socket that this process inherited."""
    control = socket.socket(fileno=CHANNEL_FD)
    control.set_inheritable(False)
    sys.exit(Template(control).run())
