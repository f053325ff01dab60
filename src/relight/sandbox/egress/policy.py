"""What may be reached: the list that a function has, and what nobody is given unless it is asked for by its own address.

Pure, but for what names have led to, which `Admitted` remembers until it is old.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from relight.protocol.network import Reach

Address = IPv4Address | IPv6Address

NEVER = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "127.0.0.0/8", "::/128", "::1/128"),  # this machine, itself
        *("169.254.0.0/16", "fe80::/10"),  # its neighbours on the wire, and the metadata of most clouds
        *("fd00:ec2::254/128", "fd20:ce::254/128"),  # metadata: AWS, Google
        *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.0/24"),  # metadata: Alibaba, Azure, Oracle
        *("224.0.0.0/4", "240.0.0.0/4", "ff00::/8"),  # nobody in particular
    )
)
"""Only what is listed within one of these is reached there: neither everything, nor a network around it, is enough."""

_NAT64 = ip_network("64:ff9b::/96")

MOST_ADMITTED = 4096
"""So many addresses that names led to are remembered for one sandbox."""

LEAST_SECONDS = 2.0
"""An address may be connected to for so long after it was told, whatever its record says: there must be time to do so."""


class Answer(Enum):
    """To whether an address may be reached.  `ASK`: its name led there once, and has to be asked again."""

    YES = "yes"
    NO = "no"
    ASK = "ask"


def plain_address(packed: bytes) -> Address:
    """An address; one of IPv4 that is written as one of IPv6 is that of IPv4."""
    address = ip_address(packed)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ip_address(packed[-4:])
    return address


class Admitted:
    """The addresses that a sandbox's names led to, and until when."""

    def __init__(self) -> None:
        self._names: dict[Address, dict[str, float]] = {}

    def admit(self, name: str, addresses: Iterable[tuple[Address, float]], now: float) -> None:
        """A name led to these (address, seconds)."""
        for address, seconds in addresses:
            names = self._names.pop(address, {})
            names[name] = now + max(seconds, LEAST_SECONDS)
            self._names[address] = names
        while len(self._names) > MOST_ADMITTED:
            del self._names[next(iter(self._names))]

    def is_fresh(self, address: Address, now: float) -> bool:
        """Whether a name led there not long ago."""
        return any(until >= now for until in self._names.get(address, {}).values())

    def names(self, address: Address) -> tuple[str, ...]:
        """The names that ever led there, but for what was forgotten."""
        return tuple(self._names.get(address, ()))

    def forget(self, address: Address) -> None:
        """No name leads there any more."""
        self._names.pop(address, None)


def judge(reach: Reach, admitted: Admitted, address: Address, *, is_here: bool, now: float) -> Answer:
    """Whether an address may be reached; `is_here`: it is one of this machine's own."""
    listed = [network for network in reach.networks if address in network]
    # What is the machine's own has to be listed by itself, not with all that is around it.
    if is_here and not any(network.num_addresses == 1 for network in listed):
        return Answer.NO
    around = next((network for network in NEVER if address in network), None)
    if around is not None:
        is_asked = any(network.prefixlen >= around.prefixlen for network in listed)
        return Answer.YES if is_asked else Answer.NO
    if reach.is_open or listed or admitted.is_fresh(address, now):
        return Answer.YES
    return Answer.ASK if admitted.names(address) else Answer.NO
