"""Many byte streams and a lane of messages over one connection, decided without I/O.

A frame is `[u32 length][u8 kind][u32 stream][payload]`.  Stream 0 is the lane of messages, and goes first: an order is
never behind a blob.  The other streams take turns, a chunk each.  A stream may send only as many bytes as the other end
has granted (credit), so that a slow reader holds up its own stream and nothing else.

    opened ──data, credit──▶ ended here │ ended there ──▶ both: gone          reset: gone at once, from either end

What the other end does wrong (a frame too long, bytes past their credit, an unknown kind) is a ProtocolError: the
connection ends, and with it every stream.
"""

from __future__ import annotations

import json
import struct
from collections import deque
from dataclasses import dataclass, field

from relight.protocol.errors import ProtocolError

MESSAGE_BYTES = 64 * 1024 * 1024
"""No message is longer: 256 values of the longest kind that travels inline."""

CHUNK_BYTES = 64 * 1024
"""What a stream sends when its turn comes."""

WINDOW_BYTES = 1024 * 1024
"""What a stream may send before the reader has taken any of it."""

MAX_STREAMS = 10_000

_HEAD = struct.Struct("!IBI")
_CREDIT = struct.Struct("!I")
_MESSAGE, _OPEN, _DATA, _GRANT, _END, _RESET = range(6)


@dataclass(frozen=True, slots=True)
class MessageCame:
    """A whole message on the lane."""

    data: bytes


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The other end opened a stream to `service`."""

    stream: int
    service: str
    detail: str


@dataclass(frozen=True, slots=True)
class DataCame:
    """Bytes on a stream; they count against the window until `grant` gives them back."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class CreditCame:
    """A stream may send again."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The other end sends no more on this stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The other end gave the stream up; what was under way is lost."""

    stream: int
    reason: str


Event = MessageCame | StreamOpened | DataCame | CreditCame | StreamEnded | StreamReset


@dataclass(slots=True)
class _Stream:
    send_credit: int = WINDOW_BYTES
    receive_credit: int = WINDOW_BYTES
    waiting: deque[bytes] = field(default_factory=deque)
    waiting_bytes: int = 0
    is_ending: bool = False
    ended_here: bool = False
    ended_there: bool = False


class Mux:
    """One end of a connection.  Bytes come in by `feed` and go out by `take`; nothing else touches the wire."""

    def __init__(self, *, is_dialer: bool) -> None:
        self._next_stream = 1 if is_dialer else 2
        self._peer_parity = 0 if is_dialer else 1
        self._streams: dict[int, _Stream] = {}
        self._turns: deque[int] = deque()
        self._lane: deque[bytes] = deque()
        self._input = bytearray()
        self._over: list[int] = []

    # -- in

    def feed(self, data: bytes) -> list[Event]:
        """What these bytes mean.  Raises ProtocolError when the other end broke the rules."""
        self._input += data
        events: list[Event] = []
        start = 0
        while len(self._input) - start >= _HEAD.size:
            length, kind, stream = _HEAD.unpack_from(self._input, start)
            if length > (MESSAGE_BYTES if kind == _MESSAGE else CHUNK_BYTES):
                raise ProtocolError(f"cannot read a frame of kind {kind}: its {length} bytes are more than allowed")
            end = start + _HEAD.size + length
            if len(self._input) < end:
                break
            event = self._read(kind, stream, bytes(self._input[start + _HEAD.size : end]))
            if event is not None:
                events.append(event)
            start = end
        del self._input[:start]
        return events

    def _read(self, kind: int, number: int, payload: bytes) -> Event | None:
        if kind == _MESSAGE:
            return MessageCame(payload)
        if kind == _OPEN:
            return self._read_open(number, payload)
        stream = self._streams.get(number)
        if kind not in (_DATA, _GRANT, _END, _RESET):
            raise ProtocolError(f"cannot read a frame: kind {kind} is unknown")
        if stream is None:
            return None  # it was reset here while this was under way
        if kind == _DATA:
            return self._read_data(number, stream, payload)
        if kind == _GRANT:
            stream.send_credit += _CREDIT.unpack(payload)[0]
            self._take_turn(number, stream)
            return CreditCame(number)
        if kind == _END:
            stream.ended_there = True
            self._forget_if_over(number, stream)
            return StreamEnded(number)
        del self._streams[number]
        self._over.append(number)
        return StreamReset(number, payload.decode(errors="replace"))

    def _read_open(self, number: int, payload: bytes) -> Event:
        if number in self._streams or number % 2 != self._peer_parity or number == 0:
            raise ProtocolError(f"cannot open stream {number}: it is taken, or not the other end's to name")
        if len(self._streams) >= MAX_STREAMS:
            raise ProtocolError(f"cannot open stream {number}: {MAX_STREAMS} are open")
        try:
            service, detail = json.loads(payload)
        except ValueError as error:
            raise ProtocolError(f"cannot open stream {number}: {error}") from error
        self._streams[number] = _Stream()
        return StreamOpened(number, str(service), str(detail))

    def _read_data(self, number: int, stream: _Stream, payload: bytes) -> Event:
        stream.receive_credit -= len(payload)
        if stream.receive_credit < 0 or stream.ended_there:
            raise ProtocolError(f"cannot read stream {number}: bytes came past its credit or its end")
        return DataCame(number, payload)

    # -- out

    def send_message(self, data: bytes) -> None:
        """Put a message on the lane.  Raises ProtocolError when it is longer than `MESSAGE_BYTES`."""
        if len(data) > MESSAGE_BYTES:
            raise ProtocolError(f"cannot send a message of {len(data)} bytes: {MESSAGE_BYTES} are allowed")
        self._lane.append(_frame(_MESSAGE, 0, data))

    def open(self, service: str, detail: str) -> int:
        """Open a stream to what the other end calls `service`; its number."""
        number = self._next_stream
        self._next_stream += 2
        self._streams[number] = _Stream()
        self._lane.append(_frame(_OPEN, number, json.dumps([service, detail]).encode()))
        return number

    def send(self, number: int, data: bytes) -> None:
        """Queue bytes on a stream; `room` says how many are wise.  Nothing happens on a stream that is gone."""
        stream = self._streams.get(number)
        if stream is None or stream.is_ending or not data:
            return
        stream.waiting.append(data)
        stream.waiting_bytes += len(data)
        self._take_turn(number, stream)

    def room(self, number: int) -> int:
        """How many more bytes a stream could send now without waiting for credit; below 0 when it has too many."""
        stream = self._streams.get(number)
        return 0 if stream is None else stream.send_credit - stream.waiting_bytes

    def grant(self, number: int, count: int) -> None:
        """Give back `count` bytes that a reader has taken."""
        stream = self._streams.get(number)
        if stream is not None and not stream.ended_there:
            stream.receive_credit += count
            self._lane.append(_frame(_GRANT, number, _CREDIT.pack(count)))

    def end(self, number: int) -> None:
        """Send no more on a stream; what is queued still goes."""
        stream = self._streams.get(number)
        if stream is not None and not stream.is_ending:
            stream.is_ending = True
            self._take_turn(number, stream)

    def reset(self, number: int, reason: str) -> None:
        """Give a stream up; what is queued is dropped."""
        if self._streams.pop(number, None) is not None:
            self._lane.append(_frame(_RESET, number, reason.encode()[:1024]))

    def pop_over(self) -> list[int]:
        """The streams that have come to their end, both ways or by reset, since this was last asked."""
        over, self._over = self._over, []
        return over

    def take(self, limit: int) -> bytes:
        """The next bytes for the wire, about `limit` of them: the lane first, then each stream in turn."""
        frames: list[bytes] = []
        size = 0
        while size < limit:
            frame = self._lane.popleft() if self._lane else self._next_chunk()
            if frame is None:
                break
            frames.append(frame)
            size += len(frame)
        return b"".join(frames)

    def _next_chunk(self) -> bytes | None:
        while self._turns:
            number = self._turns.popleft()
            stream = self._streams.get(number)
            if stream is None:
                continue
            if stream.waiting and stream.send_credit > 0:
                data = self._cut(stream)
                self._take_turn(number, stream)
                return _frame(_DATA, number, data)
            if stream.is_ending and not stream.waiting and not stream.ended_here:
                stream.ended_here = True
                self._forget_if_over(number, stream)
                return _frame(_END, number, b"")
        return None

    def _cut(self, stream: _Stream) -> bytes:
        most = min(CHUNK_BYTES, stream.send_credit)
        data = stream.waiting.popleft()
        if len(data) > most:
            stream.waiting.appendleft(data[most:])
            data = data[:most]
        stream.send_credit -= len(data)
        stream.waiting_bytes -= len(data)
        return data

    def _take_turn(self, number: int, stream: _Stream) -> None:
        can_send = stream.waiting and stream.send_credit > 0
        can_end = stream.is_ending and not stream.waiting and not stream.ended_here
        if (can_send or can_end) and number not in self._turns:
            self._turns.append(number)

    def _forget_if_over(self, number: int, stream: _Stream) -> None:
        if stream.ended_here and stream.ended_there:
            del self._streams[number]
            self._over.append(number)


def _frame(kind: int, stream: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), kind, stream) + payload
