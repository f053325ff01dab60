"""The launcher's end of the connector: started when it is first needed, and again when it has died.

The sockets of each sandbox, and the tally of what it sent, are kept here, too, so that a connector which comes after
another finds all of them.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import relight
from relight.protocol.codec import pack
from relight.sandbox.egress.tally import make_tally
from relight.sandbox.messages import CloseEgress, OpenEgress

_SEND_SECONDS = 2.0
_MOST_DEATHS = 20  # of one launcher's connectors: then something is broken, and sandboxes have no way out
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from relight.sandbox.egress.connector import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
_DESCRIPTOR = 3


@dataclass(frozen=True, slots=True)
class _Kept:
    order: OpenEgress
    sockets: tuple[int, ...]
    tally: int

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What goes with the order."""
        return (*self.sockets, self.tally)


class Gate:
    """The connector of one launcher, as the user `uid` (-1: the launcher's own); where `is_proxy`, by `proxy.py`."""

    def __init__(self, uid: int, *, is_proxy: bool) -> None:
        self._uid, self._is_proxy = uid, is_proxy
        self._pid = 0
        self._socket: socket.socket | None = None
        self._kept: dict[str, _Kept] = {}
        self._deaths = 0

    @property
    def pid(self) -> int:
        """The connector's; 0 when there is none."""
        return self._pid

    @property
    def watched(self) -> socket.socket | None:
        """What is readable when the connector has died (`renew`); None when there is none."""
        return self._socket

    def open(self, name: str, network: str, sockets: Sequence[int]) -> None:
        """Connect for a sandbox from now on; the sockets are the gate's."""
        order = OpenEgress(id=name, network=network, is_proxy=self._is_proxy)
        kept = self._kept[name] = _Kept(order, tuple(sockets), make_tally())
        if self._socket is None and self._deaths < _MOST_DEATHS:
            self._start()
        self._send(kept.order, kept.descriptors)

    def tally(self, name: str) -> tuple[int, ...]:
        """The descriptor of what says how much a sandbox sent outward; none for one that has no way out."""
        kept = self._kept.get(name)
        return () if kept is None else (kept.tally,)

    def close(self, name: str) -> None:
        """A sandbox is gone; nothing happens when it had no way out."""
        kept = self._kept.pop(name, None)
        if kept is not None:
            for descriptor in kept.descriptors:
                os.close(descriptor)
            self._send(CloseEgress(id=name), ())

    def renew(self) -> None:
        """The connector has died: start another, which finds what there is."""
        self.leave()
        self._deaths += 1
        if self._kept and self._deaths < _MOST_DEATHS:
            self._start()
            for kept in self._kept.values():
                self._send(kept.order, kept.descriptors)

    def leave(self) -> None:
        """Have the connector end, and wait until it has."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            with suppress(ProcessLookupError):
                os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_SEND_SECONDS)
        source = str(Path(relight.__file__).parent.parent)
        with theirs:
            arguments = [sys.executable, "-I", "-S", "-c", _PROGRAM, source, str(_DESCRIPTOR), str(self._uid)]
            actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), _DESCRIPTOR)]
            self._pid = os.posix_spawn(sys.executable, arguments, {}, file_actions=actions)

    def _send(self, message: object, descriptors: Sequence[int]) -> None:
        if self._socket is not None:
            try:
                socket.send_fds(self._socket, [pack(message)], list(descriptors))
            except TimeoutError:
                os.kill(self._pid, 9)  # it hangs; who watches sees its end, and the next is told all again
            except OSError:
                pass  # it is dead, which is seen as well
