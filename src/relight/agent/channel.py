"""The agent's end of a worker's channel: messages with descriptors, without blocking, and trusting nothing that comes.

Descriptors come before or with the message they belong to (the kernel keeps that order on a stream), so they wait in a
queue until a message that speaks of them is whole.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice

from relight.protocol.channel import MESSAGE_BYTES, TO_AGENT, Ended, Item
from relight.protocol.codec import pack
from relight.protocol.errors import ProtocolError
from relight.protocol.payload import Payload

MAX_DESCRIPTORS = 8
"""More than these in one message, or waiting for theirs, are an attack: an end speaks of two at most."""

_READ_BYTES = 64 * 1024  # more would be mapped and unmapped for each read
_MAX_PARTS = 64
_LENGTH = struct.Struct("!I")
_ROOM = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)

OnMessage = Callable[[object, Sequence[int]], None]
OnClosed = Callable[[str], None]


class Channel:
    """One worker's channel.  `on_message` is handed each message and owns the descriptors that come with it;
    `on_closed` is called once, with what went wrong or "" for a plain end.
    """

    def __init__(self, end: socket.socket, *, on_message: OnMessage, on_closed: OnClosed) -> None:
        end.setblocking(False)
        self._socket = end
        self._on_message = on_message
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._input = bytearray()
        self._descriptors: deque[int] = deque()
        self._output: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._is_open = True
        self._is_blocked = False
        self.reads = 0
        """How often something was read: what was heard in one go has the same number."""
        self._loop.add_reader(end.fileno(), self._read_some)

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Send a message and, with it, descriptors, which are closed here once they are on their way."""
        self.queue(message, descriptors)
        self.flush()

    def queue(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """As `send`, but the message waits for `flush`."""
        data = pack(message)
        if not self._is_open:
            _close_all(descriptors)
            return
        self._output.append((memoryview(_LENGTH.pack(len(data)) + data), tuple(descriptors)))

    def flush(self) -> None:
        """Send what was queued."""
        if self._output and not self._is_blocked:
            self._write_some()

    def hear(self) -> None:
        """Hear now what has come, rather than when the loop gets to it."""
        if self._is_open:
            self._read_once()

    def drain(self) -> None:
        """Hear what has come already; for the moment when the other end is gone."""
        while self._is_open and self._read_once():
            pass

    def close(self) -> None:
        """Let go of it.  No callback is called after this."""
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        _close_all(self._descriptors)
        for _, descriptors in self._output:
            _close_all(descriptors)
        self._output.clear()

    # -- in

    def _read_some(self) -> None:
        self._read_once()

    def _read_once(self) -> bool:
        """Read and hear once; false when nothing more is to be had now."""
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(_READ_BYTES, _ROOM, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self._end("")  # reset: it died with something unread
            return False
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                self._descriptors.extend(numbers)
        if not data:
            self._end("")
            return False
        try:
            self._input += data
            self.reads += 1
            self._hear()  # what was said before counts, whatever comes after it
            if flags & socket.MSG_CTRUNC or len(self._descriptors) > MAX_DESCRIPTORS:
                raise ProtocolError(f"cannot read a message: more than {MAX_DESCRIPTORS} descriptors came with it")
        except ProtocolError as error:
            self._end(str(error))
            return False
        return self._is_open

    def _hear(self) -> None:
        start = 0
        while self._is_open and len(self._input) - start >= _LENGTH.size:
            length = _LENGTH.unpack_from(self._input, start)[0]
            if length > MESSAGE_BYTES:
                raise ProtocolError(f"cannot read a message of {length} bytes: {MESSAGE_BYTES} are allowed")
            end = start + _LENGTH.size + length
            if len(self._input) < end:
                break
            message = TO_AGENT.unpack(bytes(self._input[start + _LENGTH.size : end]))
            self._on_message(message, self._descriptors_of(message))
            start = end
        del self._input[:start]

    def _descriptors_of(self, message: object) -> list[int]:
        count = sum(payload.data is None for payload in payloads_of(message))
        if count > len(self._descriptors):
            raise ProtocolError(f"cannot read a message: it speaks of {count} descriptors that did not come")
        return [self._descriptors.popleft() for _ in range(count)]

    def _end(self, reason: str) -> None:
        if self._is_open:
            self.close()
            self._on_closed(reason)

    # -- out

    def _write_some(self) -> None:
        while self._output:
            parts, descriptors = self._next_parts()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            try:
                sent = self._socket.sendmsg(parts, rights)
            except (BlockingIOError, InterruptedError):
                self._is_blocked = True
                self._loop.add_writer(self._socket.fileno(), self._write_some)
                return
            except OSError:
                break  # it is gone; the reader tells
            _close_all(descriptors)
            self._drop_sent(sent)
        if self._is_blocked:
            self._is_blocked = False
            self._loop.remove_writer(self._socket.fileno())

    def _next_parts(self) -> tuple[list[memoryview], tuple[int, ...]]:
        """As many messages as can go at once: a message with descriptors begins a new lot."""
        first, descriptors = self._output[0]
        parts = [first]
        for data, others in islice(self._output, 1, _MAX_PARTS):
            if others:
                break
            parts.append(data)
        return parts, descriptors

    def _drop_sent(self, sent: int) -> None:
        while sent:
            data = self._output[0][0]
            if sent < len(data):
                self._output[0] = (data[sent:], ())
                return
            sent -= len(data)
            self._output.popleft()


def payloads_of(message: object) -> list[Payload]:
    """The values that a message holds, in the order in which their descriptors come."""
    if isinstance(message, Item):
        return [message.payload]
    if not isinstance(message, Ended):
        return []
    exception = message.failure.exception if message.failure is not None else None
    return [payload for payload in (message.result, exception) if payload is not None]


def _close_all(descriptors: Sequence[int] | deque[int]) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
