"""The worker's end of the channel: `[u32 length][message]`, with file descriptors for values too large for a message.

Descriptors come with or before the message they belong to, so they wait in a queue until that message is whole.
Grants are noted as they are read, so that one overtakes the calls that wait to be received.
"""

from __future__ import annotations

import array
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from relight.protocol.channel import MESSAGE_BYTES, TO_WORKER, Grant, Recall, Run
from relight.protocol.codec import pack
from relight.protocol.errors import ProtocolError

_LENGTH = struct.Struct("!I")
_READ_BYTES = 64 * 1024  # more would be mapped and unmapped for each read
_MAX_DESCRIPTORS = 8
_WAIT = int(socket.MSG_CMSG_CLOEXEC)  # as an enum, it would be joined to others by code that is Python's
_LOOK = int(socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
_ROOM = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)


class ChannelClosed(Exception):
    """The agent is gone."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message, and the descriptor of the value that came with it, if one did."""

    message: object
    descriptor: int | None = None


class Channel:
    """Blocking both ways; `poll` alone takes only what has come."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._input = bytearray()
        self._descriptors: deque[int] = deque()
        self._received: deque[Received] = deque()
        self._looked_at = 0.0
        self.has_recall = False
        """Whether what has come says of some calls that they are to be given back."""
        self._granted: dict[str, int] = {}  # of the calls that are not over: how many items may be made

    def receive(self) -> Received:
        """The next message.  Raises ChannelClosed when none can come, ProtocolError when it has no meaning."""
        self.wait_waiting()
        return self._received.popleft()

    def wait_waiting(self) -> None:
        """Return when there is a message to receive.  Raises as `receive` does."""
        while not self._received:
            self._read(_WAIT)

    @property
    def age_seconds(self) -> float:
        """How long ago it was looked for what has come: there may be more."""
        return time.monotonic() - self._looked_at

    def poll(self) -> None:
        """Read what has come; it stays to be received."""
        self._looked_at = time.monotonic()
        try:
            while True:
                self._read(_LOOK)
        except (BlockingIOError, ChannelClosed):
            return

    def take(self) -> Sequence[Received]:
        """All that has come, received.  Raises ChannelClosed when nothing more can."""
        with suppress(BlockingIOError):
            while True:
                self._read(_LOOK)
        taken, self._received = self._received, deque()
        return taken

    def fileno(self) -> int:
        """The descriptor that is readable when something has come."""
        return self._socket.fileno()

    @property
    def waiting(self) -> Sequence[Received]:
        """What was read and is to be received."""
        return tuple(self._received)

    @property
    def has_waiting(self) -> bool:
        """Whether a message has come that was not received yet."""
        return bool(self._received)

    @property
    def has_waiting_call(self) -> bool:
        """Whether a call has come that was not received yet."""
        return any(isinstance(one.message, Run) for one in self._received)

    def take_recalled(self) -> tuple[str, ...]:
        """Drop the calls that are to be given back and were not received yet; which they are.

        One that comes after such a word is another attempt, and stays.
        """
        self.has_recall = False
        recalls = [at for at, one in enumerate(self._received) if isinstance(one.message, Recall)]
        if not recalls:
            return ()
        kept: deque[Received] = deque()
        dropped: list[str] = []
        for at, one in enumerate(self._received):
            message = one.message
            if isinstance(message, Run) and self._is_recalled(message.call, [later for later in recalls if later > at]):
                dropped.append(message.call)
                self.forget(message.call)
                if one.descriptor is not None:
                    os.close(one.descriptor)
            elif not isinstance(message, Recall):
                kept.append(one)
        self._received = kept
        return tuple(dropped)

    def _is_recalled(self, call: str, recalls: Sequence[int]) -> bool:
        messages = (self._received[at].message for at in recalls)
        return any(isinstance(message, Recall) and call in message.calls for message in messages)

    def wait(self) -> None:
        """Return when something more has come.  Raises ChannelClosed when nothing can."""
        self._read(_WAIT)

    def granted(self, call: str) -> int:
        """How many items a call may make."""
        return self._granted.get(call, 1)

    def forget(self, call: str) -> None:
        """A call is over: nothing is granted to it any more."""
        self._granted.pop(call, None)

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Send a message whole.  Raises ChannelClosed when nobody can hear it."""
        data = pack(message)
        if len(data) > MESSAGE_BYTES:
            raise ProtocolError(f"cannot send a message of {len(data)} bytes: {MESSAGE_BYTES} are allowed")
        frame = memoryview(_LENGTH.pack(len(data)) + data)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            sent = self._socket.sendmsg([frame], rights)
            if sent < len(frame):
                self._socket.sendall(frame[sent:])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosed from error

    def _read(self, flags: int) -> None:
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_READ_BYTES, _ROOM, flags)
        except ConnectionResetError as error:
            raise ChannelClosed from error
        for level, kind, rights in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(rights[: len(rights) - len(rights) % numbers.itemsize])
                self._descriptors.extend(numbers)
        if not data:
            raise ChannelClosed
        self._looked_at = time.monotonic()
        self._input += data
        while len(self._input) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._input)[0]
            if end > MESSAGE_BYTES:
                raise ProtocolError(f"cannot read a message of {end} bytes: {MESSAGE_BYTES} are allowed")
            if len(self._input) < end:
                return
            message = TO_WORKER.unpack(bytes(self._input[_LENGTH.size : end]))
            del self._input[:end]
            if isinstance(message, Grant):
                self._grant(message)
            else:
                self._received.append(Received(message, self._descriptor_of(message)))
                self.has_recall = self.has_recall or isinstance(message, Recall)

    def _grant(self, grant: Grant) -> None:
        known = self._granted.get(grant.call)
        if known is not None:
            self._granted[grant.call] = max(known, grant.items)

    def _descriptor_of(self, message: object) -> int | None:
        if not isinstance(message, Run):
            return None
        self._granted[message.call] = 1
        if message.payload.data is not None:
            return None
        if not self._descriptors:
            raise ProtocolError(f"cannot read call {message.call}: the descriptor of its arguments did not come")
        return self._descriptors.popleft()
