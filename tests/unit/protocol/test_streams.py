"""The multiplexer: order, priority, credit, ends; and what a liar gets."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.protocol.errors import ProtocolError
from relight.protocol.streams import (
    CHUNK_BYTES,
    MESSAGE_BYTES,
    WINDOW_BYTES,
    CreditCame,
    DataCame,
    Event,
    MessageCame,
    Mux,
    StreamEnded,
    StreamOpened,
    StreamReset,
)


def pair() -> tuple[Mux, Mux]:
    return Mux(is_dialer=True), Mux(is_dialer=False)


def carry(source: Mux, target: Mux, limit: int = 1 << 30) -> list[Event]:
    return target.feed(source.take(limit))


def test_messages_arrive_whole_and_in_order_however_the_bytes_are_cut() -> None:
    dialer, listener = pair()
    for n in range(5):
        dialer.send_message(bytes([n]) * n * 100)
    wire = dialer.take(1 << 20)

    events = [event for at in range(0, len(wire), 7) for event in listener.feed(wire[at : at + 7])]

    assert events == [MessageCame(bytes([n]) * n * 100) for n in range(5)]


def test_a_message_overtakes_the_bytes_of_a_stream() -> None:
    dialer, listener = pair()
    stream = dialer.open("blob", "x")
    dialer.send(stream, b"a" * 3 * CHUNK_BYTES)
    first = carry(dialer, listener, CHUNK_BYTES)
    dialer.send_message(b"order")

    events = carry(dialer, listener, CHUNK_BYTES)

    assert first[0] == StreamOpened(stream, "blob", "x")
    assert events[0] == MessageCame(b"order")


def test_streams_take_turns() -> None:
    dialer, listener = pair()
    one, two = dialer.open("a", ""), dialer.open("b", "")
    dialer.send(one, b"1" * 2 * CHUNK_BYTES)
    dialer.send(two, b"2" * 2 * CHUNK_BYTES)

    order = [event.stream for event in carry(dialer, listener) if isinstance(event, DataCame)]

    assert order == [one, two, one, two]


def test_a_stream_sends_no_more_than_its_credit_until_the_reader_grants_more() -> None:
    dialer, listener = pair()
    stream = dialer.open("a", "")
    dialer.send(stream, b"x" * (WINDOW_BYTES + 10))

    before = sum(len(event.data) for event in carry(dialer, listener) if isinstance(event, DataCame))
    listener.grant(stream, WINDOW_BYTES)
    granted = carry(listener, dialer)
    after = sum(len(event.data) for event in carry(dialer, listener) if isinstance(event, DataCame))

    assert (before, after) == (WINDOW_BYTES, 10)
    assert granted == [CreditCame(stream)]
    assert dialer.room(stream) == WINDOW_BYTES - 10


def test_a_stream_that_ended_both_ways_is_forgotten_by_both() -> None:
    dialer, listener = pair()
    stream = dialer.open("a", "")
    dialer.send(stream, b"question")
    dialer.end(stream)
    asked = carry(dialer, listener)
    listener.send(stream, b"answer")
    listener.end(stream)

    answered = carry(listener, dialer)

    assert asked[1:] == [DataCame(stream, b"question"), StreamEnded(stream)]
    assert answered == [DataCame(stream, b"answer"), StreamEnded(stream)]
    assert (dialer.pop_over(), listener.pop_over()) == ([stream], [stream])


def test_a_reset_drops_what_was_queued_and_tells_why() -> None:
    dialer, listener = pair()
    stream = dialer.open("a", "")
    carry(dialer, listener)
    dialer.send(stream, b"x")
    dialer.reset(stream, "changed my mind")

    assert carry(dialer, listener) == [StreamReset(stream, "changed my mind")]
    assert listener.pop_over() == [stream]
    listener.send(stream, b"late")
    assert listener.take(1 << 20) == b""


def test_frames_for_a_stream_that_was_reset_here_are_let_pass() -> None:
    dialer, listener = pair()
    stream = dialer.open("a", "")
    carry(dialer, listener)
    dialer.send(stream, b"under way")
    listener.reset(stream, "no")

    assert carry(dialer, listener) == []


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack("!IBI", CHUNK_BYTES + 1, 2, 1),
        struct.pack("!IBI", MESSAGE_BYTES + 1, 0, 0),
        struct.pack("!IBI", 0, 9, 1),
        struct.pack("!IBI", 2, 1, 2) + b"[]",
        struct.pack("!IBI", 9, 1, 1) + b'["a", "b"',
    ],
    ids=["long data", "long message", "unknown kind", "a number not its own", "a name that is not JSON"],
)
def test_a_frame_against_the_rules_is_a_protocol_error(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        Mux(is_dialer=False).feed(frame)


def test_bytes_past_the_credit_are_a_protocol_error() -> None:
    dialer, listener = pair()
    stream = dialer.open("a", "")
    carry(dialer, listener)
    chunk = struct.pack("!IBI", CHUNK_BYTES, 2, stream) + b"x" * CHUNK_BYTES

    with pytest.raises(ProtocolError, match="credit"):
        listener.feed(chunk * (WINDOW_BYTES // CHUNK_BYTES + 1))


def test_a_message_that_is_too_long_is_refused_where_it_is_made() -> None:
    with pytest.raises(ProtocolError, match="allowed"):
        Mux(is_dialer=True).send_message(bytes(MESSAGE_BYTES + 1))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 200_000)), max_size=30), st.integers(1, 100_000))
def test_every_stream_delivers_its_bytes_in_order_and_none_twice(writes: list[tuple[int, int]], step: int) -> None:
    dialer, listener = pair()
    streams = [dialer.open("s", str(n)) for n in range(4)]
    sent: dict[int, bytes] = dict.fromkeys(streams, b"")
    got: dict[int, bytes] = dict.fromkeys(streams, b"")
    for at, (which, size) in enumerate(writes):
        data = bytes([at % 251]) * size
        dialer.send(streams[which], data)
        sent[streams[which]] += data

    while wire := dialer.take(step):
        for event in listener.feed(wire):
            if isinstance(event, DataCame):
                got[event.stream] += event.data
                listener.grant(event.stream, len(event.data))
        dialer.feed(listener.take(1 << 20))

    assert got == sent
