"""Packets, read and made by hand: what a sandbox sent, and what it is answered.  Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

TCP, UDP = 6, 17
_ICMP, _ICMP6 = 1, 58
_TTL = 64
_RST_ACK = 0x14
_QUOTED_BYTES = 512  # of the packet that an ICMP message is about

FORBIDDEN, UNREACHABLE = "forbidden", "unreachable"
_CODES = {  # of an ICMP message, of an ICMPv6 message: the numbers that `connect` tells apart
    FORBIDDEN: ((3, 13), (1, 1)),
    UNREACHABLE: ((3, 1), (1, 3)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One of TCP or UDP; addresses are packed, 4 or 16 bytes.  `raw` is all of it, `header_bytes` the network's part."""

    protocol: int
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    header_bytes: int
    raw: bytes

    @property
    def key(self) -> tuple[bytes, int, bytes, int]:
        """What tells a conversation from all others."""
        return self.source, self.source_port, self.destination, self.destination_port

    @property
    def payload(self) -> bytes:
        """Of a datagram, what it carries."""
        length = struct.unpack_from(">H", self.raw, self.header_bytes + 4)[0]
        return self.raw[self.header_bytes + 8 : self.header_bytes + max(8, length)]


def read_packet(raw: bytes) -> Packet | None:
    """What came; None for what is neither TCP nor UDP, or is cut off."""
    version = raw[0] >> 4 if raw else 0
    if version == 4 and len(raw) >= 20:
        header_bytes, protocol, source, destination = (raw[0] & 15) * 4, raw[9], raw[12:16], raw[16:20]
    elif version == 6 and len(raw) >= 40:
        header_bytes, protocol, source, destination = 40, raw[6], raw[8:24], raw[24:40]
    else:
        return None
    if protocol not in (TCP, UDP) or len(raw) < header_bytes + (20 if protocol == TCP else 8):
        return None
    ports = struct.unpack_from(">HH", raw, header_bytes)
    return Packet(
        protocol=protocol,
        source=source,
        destination=destination,
        source_port=ports[0],
        destination_port=ports[1],
        header_bytes=header_bytes,
        raw=raw,
    )


def once_more(packet: Packet) -> bytes:
    """A TCP packet as it came, with the checksum that was left to a network card."""
    segment = bytearray(packet.raw[packet.header_bytes :])
    segment[16:18] = b"\0\0"
    struct.pack_into(">H", segment, 16, _checksum_of(packet.source, packet.destination, TCP, bytes(segment)))
    return packet.raw[: packet.header_bytes] + bytes(segment)


def reset_of(packet: Packet) -> bytes:
    """The answer to a first packet that says: nobody listens there."""
    sequence = struct.unpack_from(">I", packet.raw, packet.header_bytes + 4)[0]
    ports = packet.destination_port, packet.source_port
    segment = bytearray(struct.pack(">HHIIBBHHH", *ports, 0, sequence + 1 & 0xFFFFFFFF, 5 << 4, _RST_ACK, 0, 0, 0))
    struct.pack_into(">H", segment, 16, _checksum_of(packet.destination, packet.source, TCP, bytes(segment)))
    return _headed(packet.destination, packet.source, TCP, bytes(segment))


def refusal_of(packet: Packet, why: str) -> bytes:
    """The answer to any packet that says: that is `FORBIDDEN`, or `UNREACHABLE`."""
    is_v4 = len(packet.source) == 4
    kind, code = _CODES[why][0 if is_v4 else 1]
    protocol = _ICMP if is_v4 else _ICMP6
    message = bytearray(struct.pack(">BBHI", kind, code, 0, 0) + packet.raw[:_QUOTED_BYTES])
    if is_v4:
        checksum = _checksum(bytes(message))
    else:
        checksum = _checksum_of(packet.destination, packet.source, protocol, bytes(message))
    struct.pack_into(">H", message, 2, checksum)
    return _headed(packet.destination, packet.source, protocol, bytes(message))


def answer_to(packet: Packet, payload: bytes) -> bytes:
    """A datagram back, from where `packet` was for to where it came from."""
    length = 8 + len(payload)
    datagram = bytearray(struct.pack(">HHHH", packet.destination_port, packet.source_port, length, 0) + payload)
    checksum = _checksum_of(packet.destination, packet.source, UDP, bytes(datagram)) or 0xFFFF
    struct.pack_into(">H", datagram, 6, checksum)
    return _headed(packet.destination, packet.source, UDP, bytes(datagram))


def _headed(source: bytes, destination: bytes, protocol: int, body: bytes) -> bytes:
    if len(source) == 4:  # the kernel makes the checksum of this header
        return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, _TTL, protocol, 0) + source + destination + body
    return struct.pack(">IHBB", 6 << 28, len(body), protocol, _TTL) + source + destination + body


def _checksum_of(source: bytes, destination: bytes, protocol: int, body: bytes) -> int:
    """With the addresses, which belong to it."""
    return _checksum(source + destination + struct.pack(">II", len(body), protocol) + body)


def _checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
