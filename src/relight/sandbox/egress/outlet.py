"""One sandbox's way out: the packets that begin something, what is done for each outside, and what is told inside.

    SYN        opening ─▶ opened ─▶ (the kernel hands it over) ─▶ relay ─▶ over
                 └ refused, unreachable, forbidden: said by a packet; lost: not said, as outside
    datagram   flow, until nobody used it for a minute
    question   an answer

Nothing that a sandbox sends is believed: what is counted is bounded, and what cannot be read is dropped.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from relight.sandbox.egress import names, packets
from relight.sandbox.egress.border import Border
from relight.sandbox.egress.netlink import read_copies
from relight.sandbox.egress.packets import FORBIDDEN, TCP, UNREACHABLE, Packet, read_packet
from relight.sandbox.egress.relay import Relay, reset
from relight.sandbox.egress.setup import NAMESERVER
from relight.sandbox.egress.tally import Tally

MOST_CONNECTIONS = 1024
"""So many connections a sandbox may have; the next are refused."""

MOST_FLOWS = 256
"""So many conversations by datagrams; the one that was silent longest ends for a new one."""

MOST_QUESTIONS = 128
"""So many names are asked for at a time; further questions are lost, and asked again."""

FLOW_SECONDS = 60.0
"""A conversation by datagrams is over when nobody said anything for so long."""

HANDED_SECONDS = 10.0
"""What was opened, and is not taken inside within this, is closed: whoever wanted it has gone."""

_PACKETS_PER_TURN = 16  # then it is the others' turn
_NAMESERVER = (socket.inet_pton(socket.AF_INET, NAMESERVER), 53)
Key = tuple[bytes, int, bytes, int]


class Outlet:
    """Of a sandbox that reaches what its `border` lets it; the descriptors are those of `PrepareEgress`.

    What it sends is added to its `tally`: all but questions for names.
    """

    def __init__(self, border: Border, descriptors: Sequence[int], tally: Tally) -> None:
        self._border, self._tally = border, tally
        self._copies, self._listener, *raws = (socket.socket(fileno=one) for one in descriptors)
        self._raws = dict(zip((4, 16), raws, strict=False))
        self._opening: set[Key] = set()
        self._opened: dict[Key, socket.socket | None] = {}
        self._relays: set[Relay] = set()
        self._flows: dict[Key, _Flow] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._questions = 0
        self._loop = asyncio.get_running_loop()
        for one in (self._copies, self._listener, *raws):
            one.setblocking(False)
        self._loop.add_reader(self._copies, self._hear)
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """The sandbox is gone."""
        self._loop.remove_reader(self._copies)
        self._loop.remove_reader(self._listener)
        for task in self._tasks:
            task.cancel()
        for relay in tuple(self._relays):
            relay.close()
        for flow in self._flows.values():
            flow.close()
        for one in (self._copies, self._listener, *self._raws.values(), *self._opened.values()):
            if one is not None:
                one.close()
        self._opened.clear()
        self._tally.close()

    # -- what comes from inside

    def _hear(self) -> None:
        for _ in range(_PACKETS_PER_TURN):
            try:
                data = self._copies.recv(1 << 17)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # that says only: some were lost, and will come again
                    raise
                continue
            for raw in read_copies(data):
                packet = read_packet(raw)
                if packet is not None:
                    self._take(packet)

    def _take(self, packet: Packet) -> None:
        is_question = (packet.destination, packet.destination_port) == _NAMESERVER
        if packet.protocol == TCP:
            if packet.key in self._opening or packet.key in self._opened:
                return  # it came again, while it is being seen to
            if len(self._opening) + len(self._opened) + len(self._relays) >= MOST_CONNECTIONS:
                self._inject(packet.source, packets.reset_of(packet))
                return
            self._opening.add(packet.key)
            self._begin(self._open(packet, is_question=is_question))
        elif is_question:
            if self._questions < MOST_QUESTIONS:
                self._questions += 1
                self._begin(self._answer(packet))
        elif (flow := self._flows.get(packet.key)) is not None:
            flow.send(packet.payload)
        elif len(self._tasks) < MOST_CONNECTIONS:
            self._begin(self._open_flow(packet))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _inject(self, destination: bytes, packet: bytes) -> None:
        """Have a packet come in, inside."""
        raw = self._raws.get(len(destination))
        if raw is not None:
            with suppress(OSError):  # as a packet that is lost on its way
                raw.sendto(packet, (_text(destination), 0))

    # -- connections

    async def _open(self, packet: Packet, *, is_question: bool) -> None:
        """Do outside what was asked for inside, and say how it went."""
        outer: socket.socket | None = None
        try:
            if not is_question and not await self._border.may_reach(packet.destination):
                self._inject(packet.source, packets.refusal_of(packet, FORBIDDEN))
                return
            if not is_question:
                outer = await self._connect(packet)
            self._opened[packet.key] = outer
            self._loop.call_later(HANDED_SECONDS, self._give_up, packet.key, outer)
            # To where it was for: the kernel takes that for its own, and hands it to the listener.
            self._inject(packet.destination, packets.once_more(packet))
        except ConnectionRefusedError:
            self._inject(packet.source, packets.reset_of(packet))
        except TimeoutError:
            pass  # nobody said anything outside, so nobody does inside
        except OSError:
            self._inject(packet.source, packets.refusal_of(packet, UNREACHABLE))
        finally:
            self._opening.discard(packet.key)

    async def _connect(self, packet: Packet) -> socket.socket:
        outer = socket.socket(_family(packet.destination), socket.SOCK_STREAM)
        outer.setblocking(False)
        try:
            await self._loop.sock_connect(outer, (_text(packet.destination), packet.destination_port))
        except BaseException:
            outer.close()
            raise
        return outer

    def _give_up(self, key: Key, outer: socket.socket | None) -> None:
        if key in self._opened and self._opened[key] is outer:
            del self._opened[key]
            if outer is not None:
                outer.close()

    def _accept(self) -> None:
        for _ in range(_PACKETS_PER_TURN):
            try:
                inner, peer = self._listener.accept()
            except OSError:
                return
            inner.setblocking(False)
            key = (*_end_of(peer), *_end_of(inner.getsockname()))
            if key not in self._opened:  # it came to the listener by itself
                reset(inner)
                continue
            outer = self._opened.pop(key)
            if outer is None:
                self._begin(self._border.answer_stream(inner))
                continue
            relay = Relay(inner, outer, self._relays.discard, self._tally.add)
            self._relays.add(relay)
            self._begin(relay.begin())

    # -- datagrams

    async def _open_flow(self, packet: Packet) -> None:
        if not await self._border.may_reach(packet.destination):
            self._inject(packet.source, packets.refusal_of(packet, FORBIDDEN))
            return
        if packet.key not in self._flows:
            while len(self._flows) >= MOST_FLOWS:
                min(self._flows.values(), key=lambda flow: flow.used_at).close()
            outer = socket.socket(_family(packet.destination), socket.SOCK_DGRAM)
            outer.setblocking(False)
            try:
                outer.connect((_text(packet.destination), packet.destination_port))
            except OSError:
                outer.close()
                self._inject(packet.source, packets.refusal_of(packet, UNREACHABLE))
                return
            self._flows[packet.key] = _Flow(packet, outer, self._inject, self._tally.add, self._end_flow)
        self._flows[packet.key].send(packet.payload)

    def _end_flow(self, flow: _Flow) -> None:
        self._flows.pop(flow.key, None)

    # -- names

    async def _answer(self, packet: Packet) -> None:
        try:
            answer = await self._border.answer_to(packet.payload, is_stream=False)
            if answer is not None:
                self._inject(packet.source, packets.answer_to(packet, answer))
        finally:
            self._questions -= 1


class _Flow:
    """A conversation by datagrams."""

    def __init__(
        self,
        first: Packet,
        outer: socket.socket,
        inject: Callable[[bytes, bytes], None],
        sends: Callable[[int], None],
        when_over: Callable[[_Flow], None],
    ) -> None:
        self.key = first.key
        self._first, self._outer = first, outer
        self._inject, self._sends, self._when_over = inject, sends, when_over
        self._loop = asyncio.get_running_loop()
        self.used_at = self._loop.time()
        self._loop.add_reader(outer, self._hear)
        self._timer = self._loop.call_later(FLOW_SECONDS, self._look)

    def send(self, payload: bytes) -> None:
        """Pass one on; it may be lost, as any."""
        self.used_at = self._loop.time()
        with suppress(OSError):
            self._sends(self._outer.send(payload))

    def close(self) -> None:
        """It is over."""
        self._timer.cancel()
        self._loop.remove_reader(self._outer)
        self._outer.close()
        self._when_over(self)

    def _hear(self) -> None:
        for _ in range(_PACKETS_PER_TURN):
            try:
                payload = self._outer.recv(names.MOST_BYTES)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                self._inject(self._first.source, packets.refusal_of(self._first, UNREACHABLE))
                return
            except OSError:
                return
            self.used_at = self._loop.time()
            self._inject(self._first.source, packets.answer_to(self._first, payload))

    def _look(self) -> None:
        silent = self._loop.time() - self.used_at
        if silent >= FLOW_SECONDS:
            self.close()
        else:
            self._timer = self._loop.call_later(FLOW_SECONDS - silent, self._look)


def _family(packed: bytes) -> socket.AddressFamily:
    return socket.AF_INET if len(packed) == 4 else socket.AF_INET6


def _text(packed: bytes) -> str:
    return socket.inet_ntop(_family(packed), packed)


def _end_of(address: tuple[Any, ...]) -> tuple[bytes, int]:
    """Address and port, of a socket of either family, as a packet has them."""
    text, port = address[0], address[1]
    packed = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    return (packed[12:] if packed.startswith(bytes(10) + b"\xff\xff") else packed), port
