"""What the server and a worker that serves the web say to each other: many requests at once, over one byte stream.

    server ─▶ CONFIG, OPEN … BODY* END          worker ─▶ READY, WHOLE
                      GONE, CREDIT, FINISH                       or HEAD, BODY* END, CREDIT, BROKEN; LEAVE

A frame is `[u32 length][u8 kind][u32 request]` and so many bytes.  A request is parsed once, by the gateway; its head
travels as fields with a NUL between them, which no field of HTTP can hold, so neither end needs more than a split.  A
request that is whole, and an answer that is, are one frame each.  Bytes of bodies are sent as far as there is credit:
`WINDOW_BYTES` of each request, each way, and as many more as the other end says that somebody took.

A request that asks for another protocol (a WebSocket) becomes a tunnel once it is answered by 101: bodies are then its
bytes, both ways, and the worker speaks that protocol.

An agent begins the connection, with ATTACH and the session's secret, before it hands it to the worker.

Nothing that a worker says is trusted: frames are bounded, and an unknown kind ends the connection.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import chain
from typing import NamedTuple

from relight.protocol.errors import ProtocolError

Fields = Sequence[tuple[bytes, bytes]]
"""Headers: names in lower case, and values."""

FRAME_BYTES = 1024 * 1024
"""No frame is longer."""

PART_BYTES = 64 * 1024
"""A body is sent in parts of at most so many bytes."""

WINDOW_BYTES = 256 * 1024
"""So much of a body may be on its way, untaken, in each direction."""

SOCKET_BYTES = 1024 * 1024
"""How much the kernel is asked to hold of a connection, each way: all that may be sent without credit goes at once."""

FORMAT = "web"
"""The format of the payload of a call that is no call: to serve the web until told to finish."""

FRAME = struct.Struct("!IBI")
_LENGTH = struct.Struct("!I")
_STATUS = struct.Struct("!H")
_UNSAYABLE = re.compile(rb"[\r\n]")
_NAMES = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")


class Kind(IntEnum):
    """What a frame says."""

    CONFIG = 1
    OPEN = 2
    OPEN_WHOLE = 3
    BODY = 4
    END = 5
    GONE = 6
    CREDIT = 7
    FINISH = 8
    READY = 9
    HEAD = 10
    WHOLE = 11
    BROKEN = 12
    ATTACH = 13
    LEAVE = 14


class RequestHead(NamedTuple):
    """What stands before a request's body.  `root_path` is where the app is mounted, part of neither path."""

    method: bytes
    raw_path: bytes
    query_string: bytes
    root_path: bytes
    scheme: bytes
    host: bytes
    port: bytes
    client: bytes
    client_port: bytes
    version: bytes
    headers: Fields

    @property
    def is_upgrade(self) -> bool:
        """Whether it asks for another protocol."""
        return any(name == b"upgrade" for name, _ in self.headers)


class AnswerHead(NamedTuple):
    """What stands before an answer's body."""

    status: int
    headers: Fields


_FIXED = len(RequestHead._fields) - 1
"""So many fields, and then the headers."""


def frame(kind: Kind, request: int, data: bytes = b"") -> bytes:
    """One frame."""
    return FRAME.pack(len(data), kind, request) + data


def frame_head(kind: Kind, request: int, length: int) -> bytes:
    """The beginning of a frame, after which so many bytes follow."""
    return FRAME.pack(length, kind, request)


def pack_request(head: RequestHead) -> bytes:
    """A head, for a frame of the kind OPEN."""
    *fixed, headers = head
    return b"\0".join([*fixed, *chain.from_iterable(headers)])


def unpack_request(data: bytes) -> RequestHead:
    """The head that `pack_request` made."""
    parts = data.split(b"\0")
    return RequestHead._make([*parts[:_FIXED], list(zip(parts[_FIXED::2], parts[_FIXED + 1 :: 2], strict=False))])


def pack_answer(head: AnswerHead) -> bytes:
    """A head, for a frame of the kind HEAD."""
    return _STATUS.pack(head.status) + b"\0".join(chain.from_iterable(head.headers))


def unpack_answer(data: bytes) -> AnswerHead:
    """The head that a worker says.  Raises ProtocolError when it would be no HTTP."""
    if len(data) < _STATUS.size:
        raise ProtocolError("cannot read an answer: it has no status")
    (status,) = _STATUS.unpack_from(data)
    said = data[_STATUS.size :]
    if not 100 <= status <= 599 or _UNSAYABLE.search(said):
        raise ProtocolError(f"cannot pass an answer of status {status} on: it, or a header, is no HTTP")
    if not said:
        return AnswerHead(status, ())
    parts = said.split(b"\0")
    if len(parts) % 2 or not all(map(_NAMES.match, parts[::2])):
        raise ProtocolError("cannot pass an answer on: a name of its headers is none of HTTP's")
    return AnswerHead(status, list(zip([name.lower() for name in parts[::2]], parts[1::2], strict=True)))


def join(head: bytes, body: bytes) -> bytes:
    """A head and the body it comes with."""
    return _LENGTH.pack(len(head)) + head + body


def part(data: bytes) -> tuple[bytes, bytes]:
    """The head and the body that `join` put together.  Raises ProtocolError when they are not."""
    if len(data) < _LENGTH.size:
        raise ProtocolError("cannot read a message: it is cut off")
    end = _LENGTH.size + int(_LENGTH.unpack_from(data)[0])
    if end > len(data):
        raise ProtocolError("cannot read a message: its head is longer than it is")
    return data[_LENGTH.size : end], data[end:]


def pack_count(count: int) -> bytes:
    """A number of bytes, for a frame of the kind CREDIT."""
    return _LENGTH.pack(count)


def unpack_count(data: bytes) -> int:
    """The number that a frame of the kind CREDIT says.  Raises ProtocolError when it says none."""
    if len(data) != _LENGTH.size:
        raise ProtocolError("cannot read a credit: it is no number")
    return int(_LENGTH.unpack(data)[0])


class Frames:
    """Frames, as their bytes come.  What is whole in the bytes that came is copied once; what spans several, twice."""

    def __init__(self) -> None:
        self._rest = b""  # of a frame whose beginning is not whole
        self._begun = (0, 0)  # the kind and the request of one whose bytes are not all there
        self._parts: list[bytes] = []
        self._missing = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """The frames that are whole now: kind, request and bytes.  Raises ProtocolError when one is too long."""
        at = 0
        if self._missing:
            at = min(self._missing, len(data))
            self._parts.append(data[:at])
            self._missing -= at
            if self._missing:
                return
            whole = b"".join(self._parts)
            self._parts.clear()
            yield (*self._begun, whole)
        elif self._rest:
            data = self._rest + data
            self._rest = b""
        size = len(data)
        while size - at >= FRAME.size:
            length, kind, request = FRAME.unpack_from(data, at)
            if length > FRAME_BYTES:
                raise ProtocolError(f"cannot read a frame of {length} bytes: {FRAME_BYTES} are allowed")
            at += FRAME.size
            if size - at < length:
                self._begun, self._missing = (kind, request), length - (size - at)
                self._parts.append(data[at:])
                return
            yield kind, request, data[at : at + length]
            at += length
        self._rest = data[at:] if at < size else b""
