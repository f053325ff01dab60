"""Who may ask: by the local socket the server's own user, by TCP whoever shows a token.

A page in a browser can make its visitor's machine talk to 127.0.0.1 (by a foreign Origin, or by a name that is made to
lead there): so a TCP request must name this server in Host, and an Origin must be this server's own.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

from relight.gateway.exchange import Ask
from relight.gateway.platform import Tokens
from relight.gateway.problems import HttpProblem
from relight.gateway.routes import Route
from relight.protocol.errors import Forbidden, Unauthenticated
from relight.protocol.views import Principal

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_ANY_ADDRESS = frozenset({"0.0.0.0", "::", "[::]"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """The names under which this server may be asked.

    `takes_addresses`: it listens on every address, and a Host that is an address cannot be a name led astray.
    """

    names: frozenset[str]
    takes_addresses: bool = False

    @classmethod
    def of(cls, host: str, allowed: tuple[str, ...]) -> Hosts:
        """The names of a server that listens on `host`, and those that its settings allow."""
        own = f"[{host}]" if ":" in host and not host.startswith("[") else host
        names = LOCAL_NAMES | {own.lower()} | {name.lower() for name in allowed}
        return cls(names=frozenset(names) - _ANY_ADDRESS, takes_addresses=host in _ANY_ADDRESS)

    def take(self, host: str) -> bool:
        """Whether a Host header names this server; its port does not matter."""
        name = _without_port(host.lower())
        return name in self.names or (self.takes_addresses and _is_address(name))


def check_source(ask: Ask, hosts: Hosts) -> None:
    """Refuse what a browser was tricked into sending.  Raises a problem."""
    if ask.peer.uid is not None or ask.peer.principal is not None:
        return
    host, origin = ask.header(b"host"), ask.header(b"origin")
    if not hosts.take(host):
        raise HttpProblem(
            421,
            Forbidden(
                f"cannot answer for host {host[:100]!r}: it is not a name of this server; add it to allowed_hosts"
            ),
        )
    if origin and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
        raise Forbidden(
            f"cannot answer a page of {origin[:100]!r}: only pages of this server may ask; call from a program instead"
        )


def authenticate(ask: Ask, tokens: Tokens) -> Principal:
    """Who asks.  Raises a problem (401) with the challenge that HTTP wants, or Forbidden."""
    if ask.peer.principal is not None:
        return ask.peer.principal
    uid = ask.peer.uid
    if uid is not None:
        if uid not in (os.geteuid(), 0):
            raise Forbidden(
                f"cannot let uid {uid} in: this socket is that of uid {os.geteuid()}; use its URL and a token"
            )
        return tokens.local()
    scheme, _, token = ask.header(b"authorization").partition(" ")
    try:
        return tokens.verify(token.strip() if scheme.lower() == "bearer" else "")
    except Unauthenticated as error:
        raise HttpProblem(401, error, (("www-authenticate", 'Bearer realm="relight"'),)) from error


def authorize(ask: Ask, route: Route) -> None:
    """Whether they may.  Raises Forbidden that says what is missing."""
    principal = ask.principal
    what = f"{route.method} {route.path}"
    if principal.worker:
        if not route.for_workers:
            raise Forbidden(
                f"cannot {what}: it was asked from inside a worker, which may only call functions and read calls in its "
                "own environment; ask from outside"
            )
        return
    if not principal.scope.includes(route.scope):
        raise Forbidden(
            f"cannot {what}: it needs a token of scope {route.scope.value!r}, and this one is of scope "
            f"{principal.scope.value!r}; make one with `relight token create --scope {route.scope.value}`"
        )
    if not principal.app or route.knows_apps:
        return
    if "app" not in ask.params:
        raise Forbidden(
            f"cannot {what}: it is about all apps, and this token is for app {principal.app!r} alone; "
            "use a token for all apps"
        )
    ask.check_app(ask.params["app"])


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
