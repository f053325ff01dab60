"""Requests, put together from the bytes as they come, without any I/O.

llhttp reads them (`httptools`); what it leaves open is closed here: a head has a longest length, and what is no HTTP is
a problem in its place of the order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from urllib.parse import unquote

import httptools

from relight.gateway.exchange import Ask, Body, Head, Limits, Peer
from relight.gateway.problems import HttpProblem
from relight.protocol.errors import InvalidRequest, TooLarge

HEAD_BYTES = 64 * 1024


class Reader:
    """The requests of one connection: `asks` are those whose head is here, in their order.

    A problem among them is the last: what follows it cannot be read.  `on_wait` is told when somebody waits for more of
    a body, with whether its sender waits for a word first (`Expect: 100-continue`).
    """

    def __init__(self, peer: Peer, limits: Limits, on_wait: Callable[[bool], None]) -> None:
        self.asks: deque[Ask | HttpProblem] = deque()
        self.is_in_head = False
        self.is_over = False
        self._peer = peer
        self._limits = limits
        self._on_wait = on_wait
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # it is `is_over` that leaves it unread
        self._body = Body()
        self._body.end()
        self._tunnel: Body | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._keeps_alive = True
        self._is_invited = True

    @property
    def is_in_body(self) -> bool:
        """Whether more of a body is to come."""
        return not self._body.is_whole and not self._body.is_broken

    @property
    def is_held_back(self) -> bool:
        """Whether a body is to come, whose sender waits for a word that it was not given."""
        return self.is_in_body and not self._is_invited

    @property
    def unread(self) -> int:
        """How many bytes of the body that comes nobody has taken yet."""
        return self._body.size + (self._tunnel.size if self._tunnel is not None else 0)

    def feed(self, data: bytes) -> None:
        """More has come."""
        if self.is_over:
            if self._tunnel is not None:
                self._tunnel.put(data)
            return
        was_in_head = self.is_in_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.is_over = True  # it is answered as what it is without that, unless an app answers it
            if self._tunnel is not None and data[upgrade.args[0] :]:
                self._tunnel.put(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse()
        if was_in_head and self.is_in_head:  # a line that does not end is told to nobody, and counts all the same
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse()

    def close(self) -> None:
        """Let go of whoever is told: a connection that has ended is then freed at once, for nothing leads round to it."""
        self.is_over = True
        self._body = Body()
        self._on_wait = _ignore
        del self._parser

    def _refuse(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        self.is_in_head = False
        self._body.break_off()
        if self._head_bytes > HEAD_BYTES:
            error = TooLarge(f"cannot read the request: its head is longer than {HEAD_BYTES} bytes; send less")
            self.asks.append(HttpProblem(431, error))
        else:
            said = "cannot read the request: it is not HTTP/1.1; use an HTTP client"
            self.asks.append(HttpProblem(400, InvalidRequest(said)))

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            raise ValueError("head too long")  # which ends the parser, and so comes to `_refuse`

    def _read_url(self) -> tuple[bytes, bytes]:
        if self._url.startswith(b"/") and b"#" not in self._url:
            path, _, query = self._url.partition(b"?")
            return path, query
        url = httptools.parse_url(self._url)
        return url.path or b"/", url.query or b""

    # -- what the parser tells

    def on_message_begin(self) -> None:
        self.is_in_head = not self.is_over
        self._head_bytes = 0
        self._url = b""
        self._headers = []
        self._is_invited = True

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._is_invited = False
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_in_head = False
        if self.is_over:
            return
        raw_path, query = self._read_url()
        path = raw_path.decode("ascii")
        is_old = self._parser.get_http_version() == "1.0"
        self._keeps_alive = not is_old and self._parser.should_keep_alive() and not self._parser.should_upgrade()
        head = Head(
            method=self._parser.get_method().decode("ascii"),
            path=unquote(path) if "%" in path else path,
            raw_path=raw_path,
            query_string=query,
            headers=self._headers,
            is_old=is_old,
            keeps_alive=self._keeps_alive,
        )
        self._body = Body(self._wait)
        if self._parser.should_upgrade() and any(
            name == b"upgrade" and value.lower() == b"websocket" for name, value in self._headers
        ):
            self._tunnel = Body(self._wait)
        self.asks.append(Ask(head, self._body, self._peer, self._limits, self._tunnel))

    def on_body(self, part: bytes) -> None:
        if not self.is_over:
            self._body.put(part)

    def on_message_complete(self) -> None:
        if not self.is_over:
            self._body.end()
            self.is_over = not self._keeps_alive

    def _wait(self) -> None:
        is_invited, self._is_invited = self._is_invited, True
        self._on_wait(not is_invited)


def _ignore(_is_held_back: bool) -> None:
    """Nobody is there any more."""
