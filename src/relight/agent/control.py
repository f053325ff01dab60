"""The agent's end of the socket to a process that forks others: packets both ways, with descriptors."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence

from relight.protocol.channel import PACKET_BYTES
from relight.protocol.codec import Kinds, pack
from relight.protocol.errors import ProtocolError

PACKETS = 32
"""So many packets are heard before the event loop has its turn again."""

_DESCRIPTORS = 4  # the most that come with one packet

Hear = Callable[[object, Sequence[int]], None]
"""Takes a message, and the descriptors that came with it, which are closed then.  Raises ProtocolError, OSError."""


class Control:
    """Open until the process ends, or says what has no meaning; `ended` is called once then, and told why ("": it ended)."""

    def __init__(self, kinds: Kinds, hear: Hear, ended: Callable[[str], None]) -> None:
        self._kinds = kinds
        self._hear = hear
        self._ended = ended
        self._socket, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._is_open = True

    @property
    def theirs(self) -> socket.socket:
        """The process's end, to be handed over before `listen`."""
        return self._theirs

    def listen(self) -> None:
        """The process is there: hear it from now on."""
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def hand_over(self) -> None:
        """The process has its end, or never will."""
        self._theirs.close()

    def try_send(self, message: object, descriptors: Sequence[int] = ()) -> bool:
        """False: the process is gone, as the reader finds out, or has not read for long, or the message is too long."""
        packet = pack(message)
        if not self._is_open or len(packet) > PACKET_BYTES:
            return False
        try:
            socket.send_fds(self._socket, [packet], list(descriptors))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Hear no more of it."""
        if self._is_open:
            self._is_open = False
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._theirs.close()

    def _receive(self) -> None:
        for _ in range(PACKETS):
            if not self._is_open:
                return
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, PACKET_BYTES, _DESCRIPTORS)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it left with something unread; what it said before is still to be had
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._end("")
                return
            try:
                self._hear(self._kinds.unpack(data), descriptors)
            except (ProtocolError, OSError) as error:
                self._end(str(error))
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _end(self, why: str) -> None:
        self.close()
        self._ended(why)
