"""Talk with the kernel about a network: messages made and read by hand, a few of each family, without a program to run.

Only what `setup.py` and `outlet.py` need is here: an interface that is up, addresses, routes, one table of packet
rules, and copies of packets.  All but `ask` and `Netlink` are pure.  Attributes are `(number, value)`; a value of
attributes is nested.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Union

Value = Union[bytes, "Attributes"]
Attributes = Sequence[tuple[int, Value]]

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, sender
_ATTRIBUTE = struct.Struct("=HH")
_NESTED = 1 << 15
_REQUEST, _ACK, _CREATE, _EXCLUSIVE, _APPEND = 1, 4, 0x400, 0x200, 0x800
_ERROR = 2

# Interfaces, addresses and routes (linux/rtnetlink.h).
_ROUTE = 0
_NEWLINK, _NEWADDR, _NEWROUTE, _GETROUTE = 16, 20, 24, 26
_IFF_UP = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_NODAD = 2
_RTA_DST, _RTA_OIF, _RTA_PREFSRC = 1, 4, 7
_RT_TABLE_LOCAL, _RTPROT_STATIC, _RT_SCOPE_HOST = 255, 4, 254
RTN_UNICAST, RTN_LOCAL = 1, 2

# Packet rules (linux/netfilter/nf_tables.h).
_NETFILTER = 12
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NFTABLES, _ULOG = 10, 4
_NEWTABLE, _NEWCHAIN, _NEWRULE = 0, 3, 6
_NFPROTO_INET = 1
_PRE_ROUTING = 0
_VERDICT_REGISTER, _REGISTER = 0, 1
DROP, ACCEPT = 0, 1
_EQUAL = 0
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
META_MARK, META_NFPROTO, META_L4PROTO = 3, 15, 16

_CONFIGURE = 1
_COPY_PACKET = 2
_PAYLOAD = 9

LOOPBACK_INDEX = 1
"""The number of `lo` in every network namespace: it is the first that is there."""


def pack_attributes(attributes: Attributes) -> bytes:
    """As the kernel reads them, each padded to four bytes."""
    packed = bytearray()
    for number, value in attributes:
        body = value if isinstance(value, bytes) else pack_attributes(value)
        kind = number if isinstance(value, bytes) else number | _NESTED
        packed += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(body), kind) + body + bytes(-len(body) % 4)
    return bytes(packed)


def read_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The outermost attributes; ends where one says to be longer than what is there."""
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            return
        yield kind & ~_NESTED, data[_ATTRIBUTE.size : length]
        data = data[length + -length % 4 :]


def read_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages of one datagram: type and body."""
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            return
        yield kind, data[_HEADER.size : length]
        data = data[length + -length % 4 :]


# -- interfaces, addresses, routes


def link_up(index: int) -> bytes:
    """Bring an interface up."""
    return _message(_NEWLINK, struct.pack("=BxHiII", 0, 0, index, _IFF_UP, _IFF_UP), ())


def add_address(index: int, address: bytes) -> bytes:
    """Give an interface this one address, packed as `inet_pton` does."""
    family, bits = (socket.AF_INET, 32) if len(address) == 4 else (socket.AF_INET6, 128)
    header = struct.pack("=BBBBi", family, bits, 0, _RT_SCOPE_HOST, index)
    attributes = ((_IFA_LOCAL, address), (_IFA_ADDRESS, address), (_IFA_FLAGS, struct.pack("=I", _IFA_F_NODAD)))
    return _message(_NEWADDR, header, attributes, create=True)


def add_local_default(index: int, source: bytes) -> bytes:
    """Take every address of the source's family for this machine's own; what asks for none has `source`."""
    family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
    header = struct.pack("=BBBBBBBBI", family, 0, 0, 0, _RT_TABLE_LOCAL, _RTPROT_STATIC, _RT_SCOPE_HOST, RTN_LOCAL, 0)
    return _message(_NEWROUTE, header, ((_RTA_OIF, struct.pack("=i", index)), (_RTA_PREFSRC, source)), create=True)


def get_route(address: bytes) -> bytes:
    """Ask which way an address is."""
    family, bits = (socket.AF_INET, 32) if len(address) == 4 else (socket.AF_INET6, 128)
    header = struct.pack("=BBBBBBBBI", family, bits, 0, 0, 0, 0, 0, 0, 0)
    return _message(_GETROUTE, header, ((_RTA_DST, address),), acknowledge=False)


def read_route_kind(body: bytes) -> int:
    """What kind of way the answer to `get_route` tells: `RTN_UNICAST`, say."""
    return body[7]


# -- packet rules


def new_table(name: str) -> bytes:
    """A table of rules for both families."""
    return _rules(_NEWTABLE, ((1, _text(name)),))


def new_chain(table: str, name: str, priority: int) -> bytes:
    """A chain of rules for what arrives, before it is routed."""
    hook = ((1, struct.pack(">I", _PRE_ROUTING)), (2, struct.pack(">i", priority)))
    return _rules(_NEWCHAIN, ((1, _text(table)), (3, _text(name)), (4, hook), (7, _text("filter"))))


def new_rule(table: str, chain: str, *expressions: Value) -> bytes:
    """A rule: what it looks at, then what it does."""
    listed = tuple((1, expression) for expression in expressions)
    return _rules(_NEWRULE, ((1, _text(table)), (2, _text(chain)), (4, listed)))


def load_meta(key: int) -> Attributes:
    """Look at something about the packet."""
    return _expression("meta", (1, _number(_REGISTER)), (2, _number(key)))


def load_payload(base: int, offset: int, length: int) -> Attributes:
    """Look at bytes of its network or transport header."""
    place = ((2, _number(base)), (3, _number(offset)), (4, _number(length)))
    return _expression("payload", (1, _number(_REGISTER)), *place)


def mask(bits: bytes) -> Attributes:
    """Of what was looked at, these bits."""
    registers = ((1, _number(_REGISTER)), (2, _number(_REGISTER)), (3, _number(len(bits))))
    return _expression("bitwise", *registers, (4, ((1, bits),)), (5, ((1, bytes(len(bits))),)))


def equals(value: bytes) -> Attributes:
    """Go on only if what was looked at is this."""
    return _expression("cmp", (1, _number(_REGISTER)), (2, _number(_EQUAL)), (3, ((1, value),)))


def verdict(code: int) -> Attributes:
    """`ACCEPT` or `DROP`."""
    return _expression("immediate", (1, _number(_VERDICT_REGISTER)), (2, ((2, ((1, _number(code)),)),)))


def copy_to(group: int) -> Attributes:
    """Send a copy to whoever listens to `group` (`listen_to_copies`)."""
    return _expression("log", (1, struct.pack(">H", group)))


def hand_to(port: int) -> tuple[Attributes, Attributes]:
    """Give it to the transparent socket that listens at `port`, whatever port it was for."""
    load = _expression("immediate", (1, _number(_REGISTER)), (2, ((1, struct.pack(">H", port)),)))
    return load, _expression("tproxy", (1, _number(0)), (3, _number(_REGISTER)))


def batch(messages: Sequence[bytes]) -> bytes:
    """Rules that come into force together, or not at all."""
    around = struct.pack(">BBH", 0, 0, _NFTABLES)
    begin = _HEADER.pack(_HEADER.size + len(around), _BATCH_BEGIN, _REQUEST, 0, 0) + around
    end = _HEADER.pack(_HEADER.size + len(around), _BATCH_END, _REQUEST, 0, 0) + around
    return begin + b"".join(messages) + end


# -- copies of packets


def listen_to_copies(group: int) -> bytes:
    """Have what `copy_to(group)` copies sent to this socket, each packet at once, whole."""
    header = struct.pack(">BBH", 0, 0, group)
    settings = (
        (1, struct.pack("=B", 1)),  # bind
        (2, struct.pack(">IBx", 0xFFFF, _COPY_PACKET)),
        (5, struct.pack(">I", 1)),  # do not wait for more
    )
    return _message(_ULOG << 8 | _CONFIGURE, header, settings)


def read_copies(data: bytes) -> Iterator[bytes]:
    """The packets of one datagram."""
    for kind, body in read_messages(data):
        if kind == _ULOG << 8:
            yield from (value for number, value in read_attributes(body[4:]) if number == _PAYLOAD)


class Netlink:
    """A socket to the kernel's `family` of messages, in the network that this process is in."""

    ROUTE, NETFILTER = _ROUTE, _NETFILTER

    def __init__(self, family: int) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)

    def ask(self, messages: bytes, answers: int) -> None:
        """Send, and wait until so many were answered.  Raises OSError with the first that was refused."""
        self.socket.send(messages)
        while answers > 0:
            for kind, body in read_messages(self.socket.recv(65_536)):
                if kind != _ERROR:
                    continue
                answers -= 1
                number = -struct.unpack_from("=i", body)[0]
                if number:
                    raise OSError(number, os.strerror(number))

    def route_kind(self, address: bytes) -> int:
        """Which kind of way there is to an address; 0: none."""
        self.socket.send(get_route(address))
        for kind, body in read_messages(self.socket.recv(65_536)):
            if kind == _NEWROUTE:
                return read_route_kind(body)
            if kind == _ERROR and -struct.unpack_from("=i", body)[0] not in (errno.ENETUNREACH, errno.EHOSTUNREACH):
                number = -struct.unpack_from("=i", body)[0]
                raise OSError(number, os.strerror(number))
        return 0

    def close(self) -> None:
        """Let it go."""
        self.socket.close()


def _message(
    kind: int, header: bytes, attributes: Attributes, *, create: bool = False, acknowledge: bool = True
) -> bytes:
    body = header + bytes(-len(header) % 4) + pack_attributes(attributes)
    flags = _REQUEST | (_ACK if acknowledge else 0) | (_CREATE | _EXCLUSIVE if create else 0)
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def _rules(kind: int, attributes: Attributes) -> bytes:
    body = struct.pack(">BBH", _NFPROTO_INET, 0, 0) + pack_attributes(attributes)
    flags = _REQUEST | _ACK | _CREATE | (_APPEND if kind == _NEWRULE else 0)
    return _HEADER.pack(_HEADER.size + len(body), _NFTABLES << 8 | kind, flags, 0, 0) + body


def _expression(name: str, *attributes: tuple[int, Value]) -> Attributes:
    return ((1, _text(name)), (2, attributes))


def _text(text: str) -> bytes:
    return text.encode() + b"\0"


def _number(value: int) -> bytes:
    return struct.pack(">I", value)
