"""The way out where the kernel has no rules for packets: a proxy that programs are told of, at an address inside.

    HTTPS_PROXY ─ CONNECT name:port ─▶ proxy  ─ connect() ─▶ the world
    HTTP_PROXY  ─ GET http://name/ ──▶   │
    questions   ─────────────────────▶ names

Only what asks a proxy gets out, so HTTP does, and most libraries for it.  What may be reached is the same.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from relight.sandbox.egress import names
from relight.sandbox.egress.border import Border
from relight.sandbox.egress.relay import Relay, reset
from relight.sandbox.egress.tally import Tally

MOST_CONNECTIONS = 1024
HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0
CONNECT_SECONDS = 30.0

_CONNECT = re.compile(rb"CONNECT (\S+):(\d{1,5}) HTTP/1\.[01]\r\n")
_PLAIN = re.compile(rb"([A-Z]+) http://([^/\s:]+|\[[^\]\s]+\])(?::(\d{1,5}))?(/\S*)? (HTTP/1\.[01])\r\n", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,8}\.?")
_HOP = re.compile(rb"(?im)^(proxy-connection|proxy-authorization|connection|keep-alive):[^\r]*\r\n")
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Refused(Exception):
    """A status and why."""


class ProxyOutlet:
    """As `Outlet`; the descriptors are those of `PrepareProxy`."""

    def __init__(self, border: Border, descriptors: Sequence[int], tally: Tally) -> None:
        self._border, self._tally = border, tally
        self._questions, self._streams, self._proxy = (socket.socket(fileno=one) for one in descriptors)
        self._relays: set[Relay] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        for one, hear in (
            (self._questions, self._hear),
            (self._streams, self._take_stream),
            (self._proxy, self._take_request),
        ):
            one.setblocking(False)
            self._loop.add_reader(one, hear)

    def close(self) -> None:
        """The sandbox is gone."""
        for one in (self._questions, self._streams, self._proxy):
            self._loop.remove_reader(one)
            one.close()
        for task in self._tasks:
            task.cancel()
        for relay in tuple(self._relays):
            relay.close()
        self._tally.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hear(self) -> None:
        with suppress(OSError):
            query, sender = self._questions.recvfrom(names.MOST_BYTES)
            if len(self._tasks) < MOST_CONNECTIONS:
                self._begin(self._answer(query, sender))

    async def _answer(self, query: bytes, sender: tuple[str, int]) -> None:
        answer = await self._border.answer_to(query, is_stream=False)
        if answer is not None:
            with suppress(OSError):
                self._questions.sendto(answer, sender)

    def _take_stream(self) -> None:
        inner = self._accept(self._streams)
        if inner is not None:
            self._begin(self._border.answer_stream(inner))

    def _take_request(self) -> None:
        inner = self._accept(self._proxy)
        if inner is not None:
            self._begin(self._serve(inner))

    def _accept(self, listener: socket.socket) -> socket.socket | None:
        try:
            inner, _ = listener.accept()
        except OSError:
            return None
        if len(self._tasks) + len(self._relays) >= MOST_CONNECTIONS:
            reset(inner)
            return None
        inner.setblocking(False)
        return inner

    async def _serve(self, inner: socket.socket) -> None:
        """One request: then the connection is a relay, or over."""
        outer: socket.socket | None = None
        try:
            head = await asyncio.wait_for(self._read_head(inner), HEAD_SECONDS)
            host, port, first, answer = read_head(head)
            outer = await self._reach(host, port)
            await self._loop.sock_sendall(outer, first)
            self._tally.add(len(first))
            await self._loop.sock_sendall(inner, answer)
            relay = Relay(inner, outer, self._relays.discard, self._tally.add)
            self._relays.add(relay)
            await relay.begin()
            return
        except Refused as refused:
            status, why = refused.args
            text = f"{why}\n".encode()
            with suppress(OSError):
                await self._loop.sock_sendall(
                    inner,
                    b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s"
                    % (status.encode(), len(text), text),
                )
        except (OSError, asyncio.TimeoutError):
            pass  # whoever asked, or was asked, is gone
        inner.close()
        if outer is not None:
            outer.close()

    async def _read_head(self, inner: socket.socket) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head:
            part = await self._loop.sock_recv(inner, HEAD_BYTES)
            head += part
            if not part or len(head) > HEAD_BYTES:
                raise ConnectionAbortedError
        return head

    async def _reach(self, host: str, port: int) -> socket.socket:
        addresses = _literal(host)
        if not addresses and _NAME.fullmatch(host):
            addresses = await self._border.addresses_of(host.lower().rstrip("."))
        if not addresses:
            raise Refused("502 Bad Gateway", f"cannot reach {host}: there is no such name, or it is not allowed here")
        permitted = [address for address in addresses if await self._border.may_reach(address)]
        if not permitted:
            raise Refused("403 Forbidden", f"cannot reach {host}: its address is not allowed here; see network=")
        why = ""
        for address in permitted:
            family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
            outer = socket.socket(family, socket.SOCK_STREAM)
            outer.setblocking(False)
            try:
                connecting = self._loop.sock_connect(outer, (socket.inet_ntop(family, address), port))
                await asyncio.wait_for(connecting, CONNECT_SECONDS)
                return outer
            except (OSError, asyncio.TimeoutError) as error:
                why = str(error) or "it does not answer"
                outer.close()
        raise Refused("502 Bad Gateway", f"cannot reach {host}:{port}: {why}")


def read_head(head: bytes) -> tuple[str, int, bytes, bytes]:
    """Host and port of a request, what is sent there first, and what is answered first.  Raises Refused."""
    if match := _CONNECT.match(head):
        rest = head.partition(b"\r\n\r\n")[2]
        return _host(match[1]), _port(match[2]), rest, _ESTABLISHED
    if match := _PLAIN.match(head):
        method, host, port, path, version = match.groups()
        fields, end, body = head[match.end() - 2 :].partition(b"\r\n\r\n")
        # One request a connection: the next may be for another host.
        fields = _HOP.sub(b"", fields + b"\r\n") + b"Connection: close"
        line = b" ".join((method, path or b"/", version))
        return _host(host), _port(port or b"80"), line + fields + end + body, b""
    raise Refused("400 Bad Request", "this is a proxy: ask for http://… or by CONNECT")


def _host(said: bytes) -> str:
    return said.decode("latin-1").strip("[]")


def _port(said: bytes) -> int:
    return min(int(said), 65_535)


def _literal(host: str) -> list[bytes]:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            return [socket.inet_pton(family, host)]
    return []
