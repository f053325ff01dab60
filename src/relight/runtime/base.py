"""A base: a process that has started Python, and imported what every worker and template needs; it only forks from then on.

    Warm ▶ BaseReady ▶ ( Grow ▶ Forked  …  Exited )*

What it forks becomes a template, or a worker, in a sandbox that was made for it, with mounts and an environment of its
own.  No line of the user's functions runs here: before one does, the fork is in its own namespaces, and holds no more
than it needs.  Packages of its image do, where it is to be warm: an image may have code run here anyway, as Python starts.
"""

from __future__ import annotations

import importlib
import os
import platform
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from relight.protocol.channel import CHANNEL_FD, PACKET_BYTES, TO_BASE, BaseReady, Grow, Warm
from relight.protocol.errors import ProtocolError
from relight.runtime.channel import Channel
from relight.runtime.forks import Forks
from relight.runtime.freezing import Frozen, freeze, prepare
from relight.runtime.locking import Lock
from relight.runtime.maps import Ranges, dense_ranges, read_maps
from relight.runtime.rehearsal import play
from relight.runtime.template import MOST_DESCRIPTORS, OWN, Inherited, Template, leave
from relight.runtime.thawing import thaw
from relight.runtime.worker import Worker, load_afresh
from relight.sandbox import syscalls

_EARLY = ("relight.sdk.app", "relight.sdk.function", "relight.sdk.classes", "relight.sdk.image", "relight.sdk.frames")
"""What nearly every module of a user's imports, by using `relight`."""


class Base:
    """Lives as long as its agent wants it."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._forks = Forks(control)
        self._settled: Ranges = ()
        self._frozen = Frozen()

    def run(self) -> int:
        """Live; the exit code: this process's, or in a child the template's or worker's."""
        for name in _EARLY:
            importlib.import_module(name)
        warm, _ = self._receive()
        if warm is None:
            return 0
        if not isinstance(warm, Warm):
            raise ProtocolError(f"cannot start: a {type(warm).__name__} came where Warm was expected")
        preset = _import(warm)
        play()
        self._frozen = frozen = freeze(preset)
        self._settled = tuple(dense_ranges(read_maps()))
        self._forks.tell(BaseReady(python=platform.python_version(), unsafe=frozen.unsafe))
        while True:
            self._forks.wait_order()
            order, descriptors = self._receive()
            if order is None:
                return 0
            if not isinstance(order, Grow) or order.namespaces < 1 or len(descriptors) < OWN + order.namespaces:
                raise ProtocolError(f"cannot fork: {len(descriptors)} descriptors came with a {type(order).__name__}")
            if self._forks.fork(order.id, descriptors[OWN], descriptors) == 0:
                return self._become(order, descriptors)

    def _receive(self) -> tuple[object, list[int]]:
        """The next packet; None for its message when the agent is gone."""
        data, descriptors, _, _ = socket.recv_fds(self._control, PACKET_BYTES, MOST_DESCRIPTORS)
        return (TO_BASE.unpack(data) if data else None), descriptors

    # -- the child

    def _become(self, order: Grow, descriptors: Sequence[int]) -> int:
        self._enter(order, descriptors[OWN:])
        self._take_over(descriptors)
        _take_environment(order)
        thaw(Frozen(generators=self._frozen.generators), None)
        end = socket.socket(fileno=CHANNEL_FD)
        below = Inherited(settled=self._settled, generators=self._frozen.generators)
        code = Template(end, below).run() if order.is_template else Worker(Channel(end), load_afresh).run()
        leave(code)
        return code

    def _enter(self, order: Grow, entrance: Sequence[int]) -> None:
        """Into the sandbox; a template keeps what its children need to enter a shell."""
        for door in entrance[order.namespaces :]:
            os.write(door, b"0")
        syscalls.unshare(syscalls.CLONE_NEWCGROUP)  # what is seen of groups begins with its own
        for namespace in entrance[1 : order.namespaces]:
            syscalls.setns(namespace)
        if order.is_template:
            syscalls.drop_capabilities((syscalls.CAP_SYS_ADMIN, syscalls.CAP_SYS_CHROOT))
        else:
            Lock().close()
        syscalls.set_dumpable(True)  # as any program is that was executed; entering another user namespace undid it
        with open("/proc/self/comm", "w", encoding="utf-8") as name:
            name.write("template" if order.is_template else "worker")
        os.setsid()
        os.chdir(order.folder)

    def _take_over(self, descriptors: Sequence[int]) -> None:
        """Have its descriptors where it looks for them, and none that is the base's."""
        channel, stdout, stderr = descriptors[:OWN]
        self._forks.leave_behind()
        for target, source in ((1, stdout), (2, stderr), (CHANNEL_FD, channel)):
            os.dup2(source, target, inheritable=target != CHANNEL_FD)
        for descriptor in descriptors:
            if descriptor > CHANNEL_FD:
                os.close(descriptor)


def _import(warm: Warm) -> dict[str, str]:
    """Have packages ready; what was set for that, and is to be undone.  One that cannot be imported here is not needed here."""
    preset = prepare(warm.cpu) if warm.packages else {}
    for name in warm.packages:
        with suppress(Exception):
            importlib.import_module(name)
    return preset


def _take_environment(order: Grow) -> None:
    os.environ.clear()
    os.environ.update(order.env)
    if "TZ" in os.environ:
        time.tzset()


def main() -> None:
    """Be a base on the socket that this process inherited."""
    control = socket.socket(fileno=CHANNEL_FD)
    control.set_inheritable(False)
    sys.exit(Base(control).run())
