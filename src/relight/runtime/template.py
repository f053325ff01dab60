"""A template: a process that has loaded the user's modules and only forks from then on, each time a worker.

    Load ▶ Frozen ▶ ( Fork ▶ Forked  …  Exited )*
       └ fails ▶ LoadFailed ▶ leave

It holds two capabilities in a user namespace of its own, by which a child enters the shell that was made for it; the
child gives them up before it runs a line of the user's.  What the walls are made of is outside (`sandbox/keeper.py`).
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from relight.protocol.channel import (
    CHANNEL_FD,
    PACKET_BYTES,
    TO_TEMPLATE,
    Fork,
    Frozen,
    Load,
    LoadFailed,
)
from relight.protocol.codec import pack
from relight.protocol.errors import ProtocolError
from relight.protocol.inside import inside
from relight.runtime import freezing
from relight.runtime.channel import Channel
from relight.runtime.cpus import show_cpus
from relight.runtime.expectations import ExpectedGpus
from relight.runtime.forks import Forks
from relight.runtime.freezing import BitGenerator, freeze, prepare
from relight.runtime.loader import Loaded, RunAwaitable, load, load_failure, packages, preload
from relight.runtime.locking import Lock
from relight.runtime.maps import Ranges
from relight.runtime.output import Output
from relight.runtime.rehearsal import Rehearsal, replay
from relight.runtime.thawing import thaw
from relight.runtime.worker import LOAD_FAILED, PYTHON, Worker
from relight.sandbox import syscalls

OWN = 3
"""So many of the descriptors of what is forked are its own: channel, stdout, stderr; the way into its sandbox follows."""

MOST_DESCRIPTORS = 32

_RUN = "run-"
"""The environments of runs begin so: what is in them is likely to be deployed anew soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What a template has from its base: memory that they share, and numpy's generators that were made there."""

    settled: Ranges = ()
    generators: tuple[BitGenerator, ...] = ()


class Template:
    """Lives as long as its agent wants it."""

    def __init__(self, control: socket.socket, base: Inherited | None = None) -> None:
        self._control = control
        self._forks = Forks(control)
        self._has_base = base is not None
        self._base = base or Inherited()
        self._order: Load | None = None
        self._loaded: Loaded | None = None
        self._worker: Worker | None = None
        self._frozen = freezing.Frozen()
        self._lock: Lock | None = None
        self._expected: ExpectedGpus | None = None
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
        show_cpus(order.cpu)
        preset = prepare(order.cpu)
        if order.gpus:
            self._expected = ExpectedGpus(order.gpus)
            self._expected.install()
        try:
            self._loaded = preload(order, _run_awaitable)
        except BaseException as error:  # noqa: BLE001 - the boundary of user code: an import may raise anything, exits too
            output.flush()
            self._send(LoadFailed(failure=load_failure(order, error)))
            return LOAD_FAILED
        output.flush()
        self._order = order
        rehearsal = Rehearsal(self._loaded, was_played=self._has_base)
        self._loaded.inputs = rehearsal.inputs
        self._worker = Worker(Channel(self._control), self._load, rehearsal.find_flush)
        self._lock = Lock()
        frozen = freeze(preset, self._base.settled)
        self._frozen = replace(frozen, generators=(*self._base.generators, *frozen.generators))
        self._send(
            Frozen(
                python=PYTHON,
                import_seconds=self._loaded.import_seconds,
                snap_seconds=self._loaded.snap_seconds,
                freeze_seconds=frozen.seconds,
                unsafe=frozen.unsafe,
                packages=tuple(packages()) if order.environment.startswith(_RUN) else (),
            )
        )
        return self._serve()

    def _serve(self) -> int:
        """Fork workers until the agent is gone."""
        while True:
            self._forks.wait_order()
            order, descriptors = self._receive()
            if not isinstance(order, Fork):
                return 0
            if order.namespaces < 1 or len(descriptors) < OWN + order.namespaces:
                raise ProtocolError(f"cannot fork {order.worker}: {len(descriptors)} descriptors came with the order")
            if self._forks.fork(order.worker, descriptors[OWN], descriptors) == 0:
                return self._work(order, descriptors)

    # -- the child

    def _work(self, order: Fork, descriptors: Sequence[int]) -> int:
        """Be a worker: in the shell, without capabilities, unlike every sibling."""
        entrance = descriptors[OWN:]
        self._enter_shell(entrance[1 : order.namespaces], entrance[order.namespaces :])
        self._take_over(descriptors)
        for name, value in order.env:
            os.environ[name] = value
        if self._expected is not None:
            self._expected.arrive()
        if order.is_ahead:
            replay()
        thaw(self._frozen, order.cpu)
        assert self._worker is not None, "it has loaded"
        code = self._worker.run()
        leave(code)
        return code

    def _enter_shell(self, namespaces: Sequence[int], doors: Sequence[int]) -> None:
        for door in doors:
            os.write(door, b"0")
        for namespace in namespaces:
            syscalls.setns(namespace)
        syscalls.unshare(syscalls.CLONE_NEWCGROUP)  # what is seen of groups begins with its own
        assert self._lock is not None, "it has loaded"
        self._lock.close()
        os.setsid()
        os.chdir(self._folder)

    def _take_over(self, descriptors: Sequence[int]) -> None:
        """Have this worker's descriptors where it looks for them, and none that is the template's.

        What was the template's way to its agent becomes the worker's, for which the worker was made before the fork.
        """
        channel, stdout, stderr = descriptors[:OWN]
        self._forks.leave_behind()
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
        data, descriptors, _, _ = socket.recv_fds(self._control, PACKET_BYTES, MOST_DESCRIPTORS)
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


def leave(code: int) -> None:
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
