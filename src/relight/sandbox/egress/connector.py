"""The process that connects for all sandboxes of one agent: outside of each of them, and with no right of its own.

The launcher starts it with the first sandbox that needs it, and hands it that one's sockets.  As root's, it becomes a user
that owns nothing.  It ends when the launcher does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Sequence

from relight.protocol.errors import ProtocolError
from relight.sandbox import syscalls
from relight.sandbox.egress.border import Border
from relight.sandbox.egress.names import Resolver
from relight.sandbox.egress.netlink import Netlink
from relight.sandbox.egress.outlet import Outlet
from relight.sandbox.egress.proxy import ProxyOutlet
from relight.sandbox.egress.tally import Tally
from relight.sandbox.messages import PACKET_BYTES, TO_CONNECTOR, CloseEgress, OpenEgress

_DESCRIPTORS = 8


class Connector:
    """All outlets; `launcher` says which there are."""

    def __init__(self, launcher: socket.socket) -> None:
        self._launcher = launcher
        self._outlets: dict[str, Outlet | ProxyOutlet] = {}
        self._resolver, self._ways = Resolver(), Netlink(Netlink.ROUTE)

    async def serve(self) -> None:
        """Until the launcher is gone."""
        loop = asyncio.get_running_loop()
        gone = loop.create_future()
        self._launcher.setblocking(False)
        loop.add_reader(self._launcher, self._hear, gone)
        await gone

    def _hear(self, gone: asyncio.Future[None]) -> None:
        while not gone.done():
            try:
                data, descriptors, _, _ = socket.recv_fds(self._launcher, PACKET_BYTES, _DESCRIPTORS)
                message = TO_CONNECTOR.unpack(data) if data else None
            except BlockingIOError:
                return
            except (ConnectionResetError, ProtocolError):
                message = None
            if isinstance(message, OpenEgress):
                self._open(message, descriptors)
            elif isinstance(message, CloseEgress):
                outlet = self._outlets.pop(message.id, None)
                if outlet is not None:
                    outlet.close()
            else:
                gone.set_result(None)

    def _open(self, order: OpenEgress, descriptors: Sequence[int]) -> None:
        border = Border(order.network, self._resolver, self._ways)
        kind = ProxyOutlet if order.is_proxy else Outlet
        *sockets, tally = descriptors
        self._outlets[order.id] = kind(border, sockets, Tally(tally))


def main(descriptor: int, uid: int) -> None:
    """Be the connector: `descriptor` is its end of the launcher's socket; `uid` whom to become, -1 for nobody else."""
    if uid >= 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    syscalls.set_no_new_privileges()
    syscalls.drop_capabilities()
    syscalls.set_parent_death_signal(signal.SIGKILL)
    launcher = socket.socket(fileno=descriptor)
    launcher.set_inheritable(False)
    gc.freeze()
    asyncio.run(Connector(launcher).serve())
