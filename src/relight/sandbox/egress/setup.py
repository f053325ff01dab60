"""What is done inside a sandbox's network before anyone runs in it: addresses, rules, and the connector's sockets."""

from __future__ import annotations

import socket
import struct
from collections.abc import MutableMapping
from dataclasses import dataclass

from relight.sandbox.egress import netlink
from relight.sandbox.egress.netlink import Attributes, Netlink

OWN = (socket.inet_pton(socket.AF_INET, "192.0.0.8"), socket.inet_pton(socket.AF_INET6, "100::8"))
"""A sandbox's addresses: IPv4's dummy address (RFC 7600), and one of those that lead nowhere (RFC 6666)."""

NAMESERVER = "192.0.0.53"
"""Where a sandbox asks for names: of the same block, and nobody's."""

KEY = "egress/"
"""The sockets are kept among the trees under names that begin so: copies, listener, raw, and raw for IPv6 where it is."""

PROXY = f"http://{NAMESERVER}:3128"
"""What programs are told where only a proxy leads out."""

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")

MARK = struct.pack("=I", 0x72656C67)
PORT = 1
"""Where the connector listens: no port that a worker could take."""

_GROUP = 1
_TABLE, _CHAIN, _PRIORITY = "relight", "ask", -300  # before anything else looks
_V4, _V6 = b"\x02", b"\x0a"  # as the kernel numbers families of packets
_TCP, _UDP = b"\x06", b"\x11"
_FLAGS, _SYN_ACK, _SYN = 13, b"\x12", b"\x02"
_SO_MARK, _IP_TRANSPARENT, _IPV6_TRANSPARENT = 36, 19, 75
_BACKLOG = 1024
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PrepareEgress:
    """A network whose every way leads to the sockets that are kept for the connector."""

    def execute(self, trees: MutableMapping[str, int]) -> None:
        families = _take_all_addresses()
        sockets = [_copies(), _listener(has_v6=len(families) > 1), *map(_raw, families)]
        for number, one in enumerate(sockets):
            trees[f"{KEY}{number}"] = one.detach()

    def describe(self) -> str:
        return "make a network that leads to the connector"


@dataclass(frozen=True, slots=True)
class PrepareProxy:
    """A network that has a name server and a proxy, which are the connector, and no other way."""

    def execute(self, trees: MutableMapping[str, int]) -> None:
        route = Netlink(Netlink.ROUTE)
        try:
            route.ask(netlink.link_up(netlink.LOOPBACK_INDEX), 1)
            route.ask(netlink.add_address(netlink.LOOPBACK_INDEX, socket.inet_pton(socket.AF_INET, NAMESERVER)), 1)
        finally:
            route.close()
        questions = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        questions.bind((NAMESERVER, 53))
        streams, proxy = (socket.create_server((NAMESERVER, port), backlog=_BACKLOG) for port in (53, 3128))
        for number, one in enumerate((questions, streams, proxy)):
            trees[f"{KEY}{number}"] = one.detach()

    def describe(self) -> str:
        return "make a network with a proxy, which leads to the connector"


def take_sockets(trees: MutableMapping[str, int]) -> list[int]:
    """What `PrepareEgress` kept, if it was done, or `PrepareProxy`; the caller's from now on."""
    return [trees.pop(name) for name in sorted(trees) if name.startswith(KEY)]


def _take_all_addresses() -> list[int]:
    """Bring the loopback up and let it be everywhere; the families of addresses there are."""
    families: list[int] = []
    route = Netlink(Netlink.ROUTE)
    try:
        route.ask(netlink.link_up(netlink.LOOPBACK_INDEX), 1)
        for family, own in ((socket.AF_INET, OWN[0]), (socket.AF_INET6, OWN[1])):
            try:
                route.ask(netlink.add_address(netlink.LOOPBACK_INDEX, own), 1)
                route.ask(netlink.add_local_default(netlink.LOOPBACK_INDEX, own), 1)
            except OSError:
                if family == socket.AF_INET:
                    raise
                continue  # a machine without IPv6
            families.append(family)
    finally:
        route.close()
    return families


def _copies() -> socket.socket:
    """The socket that copies of packets come to, with the rules that send them."""
    rules = Netlink(Netlink.NETFILTER)
    try:
        messages = _rules()
        rules.ask(netlink.batch(messages), len(messages))
        rules.ask(netlink.listen_to_copies(_GROUP), 1)
        rules.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    except OSError:
        rules.close()
        raise
    return rules.socket


def _rules() -> list[bytes]:
    """What is a sandbox's own passes; beginnings and datagrams are copied and dropped; all else has no way."""
    tcp, copied = _meta(netlink.META_L4PROTO, _TCP), (netlink.copy_to(_GROUP), netlink.verdict(netlink.DROP))
    passes = netlink.verdict(netlink.ACCEPT)
    rules = (
        (*_destination(_V4, 16, b"\x7f"), passes),
        (*_destination(_V4, 16, OWN[0]), passes),
        (*_destination(_V6, 24, socket.inet_pton(socket.AF_INET6, "::1")), passes),
        (*_destination(_V6, 24, OWN[1]), passes),
        (*tcp, *_meta(netlink.META_MARK, MARK), *netlink.hand_to(PORT), passes),
        (*tcp, *_flags(_SYN_ACK, _SYN), *copied),
        (*tcp, passes),
        (*_meta(netlink.META_L4PROTO, _UDP), *copied),
        (netlink.verdict(netlink.DROP),),
    )
    chain = netlink.new_chain(_TABLE, _CHAIN, _PRIORITY)
    return [netlink.new_table(_TABLE), chain, *(netlink.new_rule(_TABLE, _CHAIN, *rule) for rule in rules)]


def _meta(key: int, value: bytes) -> tuple[Attributes, Attributes]:
    return netlink.load_meta(key), netlink.equals(value)


def _destination(family: bytes, offset: int, address: bytes) -> tuple[Attributes, ...]:
    look = netlink.load_payload(netlink.NETWORK_HEADER, offset, len(address))
    return *_meta(netlink.META_NFPROTO, family), look, netlink.equals(address)


def _flags(among: bytes, value: bytes) -> tuple[Attributes, ...]:
    look = netlink.load_payload(netlink.TRANSPORT_HEADER, _FLAGS, 1)
    return look, netlink.mask(among), netlink.equals(value)


def _listener(*, has_v6: bool) -> socket.socket:
    """What every connection is handed to that was sent once more."""
    listener = socket.socket(socket.AF_INET6 if has_v6 else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
    if has_v6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    listener.bind(("::" if has_v6 else "0.0.0.0", PORT))
    listener.listen(_BACKLOG)
    return listener


def _raw(family: int) -> socket.socket:
    """What packets are sent by that are made by hand; they are marked."""
    raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw.setsockopt(socket.SOL_SOCKET, _SO_MARK, MARK)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # it never reads
    return raw
