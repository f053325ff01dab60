"""What a function may reach, as one text: `egress`, `none`, `host`, or a list of names and addresses, `example.net,10.0.0.0/8`.

Pure.  The canonical text is what travels, and part of the keys of templates and queues; `reach_of` opens it again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    Network = IPv4Network | IPv6Network

EGRESS, NONE, HOST = "egress", "none", "host"
MOST_ENTRIES = 200
"""So many names and networks may be listed."""

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})+")
_ADDRESS = re.compile(r"[0-9a-f.:/]*[:./][0-9a-f.:/]*")


@dataclass(frozen=True, slots=True)
class Reach:
    """An allow-list: exact `names`, `suffixes` (`.example.com` is for all below it), and `networks`.

    `is_open`: there is none, and everything that is not forbidden may be reached.
    """

    is_open: bool
    names: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    def has_name(self, name: str) -> bool:
        """Whether a name (in lower case, without a dot at its end) is listed."""
        return self.is_open or name in self.names or any(name.endswith(suffix) for suffix in self.suffixes)


def canonical(said: str | Sequence[str]) -> str:
    """The text for what was said: a word, or names, addresses and networks.  Raises ValueError saying what of it cannot be."""
    if said in (EGRESS, NONE, HOST):
        return str(said)
    entries = said.split(",") if isinstance(said, str) else list(said)
    if not all(isinstance(entry, str) for entry in entries):
        raise ValueError("its entries are not all texts")
    if not entries:
        raise ValueError("an empty list reaches nothing; say 'none'")
    if len(entries) > MOST_ENTRIES:
        raise ValueError(f"it lists {len(entries)} names and networks, and {MOST_ENTRIES} are the most")
    return ",".join(sorted({_entry(entry.strip().lower().rstrip(".")) for entry in entries}))


def reach_of(network: str) -> Reach:
    """What a canonical text permits; of `egress`, everything that is not forbidden."""
    if network == EGRESS:
        return Reach(is_open=True)
    from ipaddress import ip_network

    entries = network.split(",")
    return Reach(
        is_open=False,
        names=frozenset(entry for entry in entries if "/" not in entry and not entry.startswith("*.")),
        suffixes=tuple(entry[1:] for entry in entries if entry.startswith("*.")),
        networks=tuple(ip_network(entry) for entry in entries if "/" in entry),
    )


def _entry(entry: str) -> str:
    if _ADDRESS.fullmatch(entry):
        return _network(entry)
    if not _NAME.fullmatch(entry) or len(entry) > 253:
        raise ValueError(
            f"{entry[:80]!r} is none of 'egress', 'none', 'host', nor a name (example.net, *.example.com)"
            " or network (10.0.0.0/8) to allow"
        )
    return entry


def _network(entry: str) -> str:
    from ipaddress import ip_network

    try:
        network = ip_network(entry)
    except ValueError as error:
        raise ValueError(f"{entry[:80]!r} is no network: {error}") from None
    if network.is_loopback:
        raise ValueError(f"{entry!r} is a sandbox's own loopback; say 'host' to reach the machine's")
    return str(network)
