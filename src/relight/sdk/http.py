"""One HTTP connection, over a unix socket or TCP: a request's head and body leave in one write.

The answer is read by `http.client`.  What goes wrong on the way is `Unreachable`, and never a half-read answer: a
connection that failed is not used again.  Nothing is sent twice from here: only who asks knows how to ask again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from relight.protocol.errors import InvalidRequest
from relight.sdk.requests import Reply, Request

if TYPE_CHECKING:
    from http.client import HTTPResponse

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
_SUN_PATH = 100  # a unix socket's name may have 107 bytes
_JOINED_BYTES = 1024 * 1024


class Unreachable(Exception):
    """No answer came; the server may have heard the request all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server is: `path` of its socket, or `host` and `port`."""

    path: str = ""
    host: str = "localhost"
    port: int = 0
    is_tls: bool = False
    token: str = ""

    def __str__(self) -> str:
        return self.path or f"http{'s' * self.is_tls}://{self.host}:{self.port}"


def address_of(url: str, token: str) -> Address:
    """The address in `http://host:port`, `https://…` or `unix:/path`.  Raises InvalidRequest."""
    parts = urlsplit(url)
    if parts.scheme == "unix" and parts.path:
        return Address(path=parts.path, token=token)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise InvalidRequest(f"cannot use RELIGHT_URL={url!r}: it is not http(s)://HOST:PORT; write it so")
    is_tls = parts.scheme == "https"
    return Address(host=parts.hostname, port=parts.port or (443 if is_tls else 80), is_tls=is_tls, token=token)


class Http:
    """A connection that is made when first needed and kept."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._process = os.getpid()

    def exchange(self, request: Request) -> Reply:
        """Send it and read the answer.  Raises Unreachable."""
        with self._answering(request) as response:
            body = response.read()
            kept = not response.will_close
            reply = Reply(status=response.status, content_type=response.getheader("Content-Type") or "", body=body)
        if not kept:
            self.close()
        return reply

    def lines(self, request: Request) -> Iterator[bytes]:
        """Send it and give the answer line by line, as it comes; raises BadAnswer when it is refused."""
        with self._answering(request, is_endless=True) as response:
            if response.status >= 400:
                raise BadAnswer(Reply(status=response.status, body=response.read()))
            while line := response.readline():
                yield line
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __del__(self) -> None:
        self.close()  # whoever forgets a connection hangs it up: there is nothing a user could do about it

    def shut_down(self) -> None:
        """Wake whoever reads in another thread: nothing more comes."""
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is closed already

    def _answering(self, request: Request, *, is_endless: bool = False) -> _Answer:
        return _Answer(self, request, is_endless=is_endless)

    def begin(self, request: Request, *, is_endless: bool) -> HTTPResponse:
        """Send it, and read the head of the answer."""
        from http.client import HTTPException, HTTPResponse  # 20 ms that a worker need not pay for `import relight`

        if os.getpid() != self._process:  # a fork must not speak on its parent's connection
            self._socket, self._process = None, os.getpid()
        if self._socket is None:
            self._socket = self._connect()
        try:
            self._socket.settimeout(None if is_endless else request.wait_seconds + ANSWER_SECONDS)
            _send(self._socket, request, self._address)
            response = HTTPResponse(self._socket, method=request.method)
            response.begin()
        except (OSError, HTTPException) as error:
            self.close()
            raise Unreachable(f"the connection broke: {error or type(error).__name__}") from error
        return response

    def _connect(self) -> socket.socket:
        address = self._address
        try:
            if address.path:
                return _connect_unix(address.path)
            connection = socket.create_connection((address.host, address.port), CONNECT_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not address.is_tls:
                return connection
            import ssl

            return ssl.create_default_context().wrap_socket(connection, server_hostname=address.host)
        except OSError as error:
            raise Unreachable(f"it does not answer: {error.strerror or error}") from error


class BadAnswer(Exception):
    """A stream was refused; `reply` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply.status))
        self.reply = reply


class _Answer:
    """The time in which an answer is read; whatever breaks it ends the connection."""

    def __init__(self, connection: Http, request: Request, *, is_endless: bool) -> None:
        self._connection = connection
        self._request = request
        self._is_endless = is_endless

    def __enter__(self) -> HTTPResponse:
        try:
            return self._connection.begin(self._request, is_endless=self._is_endless)
        except BaseException:  # Ctrl-C too: an answer that nobody read must not be taken for the next one's
            self._connection.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if error is None:
            return
        from http.client import HTTPException

        self._connection.close()
        if isinstance(error, (OSError, HTTPException, ValueError)):
            raise Unreachable(f"the answer broke off: {error or type(error).__name__}") from error


def _send(connection: socket.socket, request: Request, address: Address) -> None:
    head = request.head("localhost" if address.path else f"{address.host}:{address.port}", address.token)
    if len(request.body) <= _JOINED_BYTES:
        connection.sendall(head + request.body)
        return
    connection.sendall(head)
    connection.sendall(request.body)


def _connect_unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(CONNECT_SECONDS)
    try:
        if len(os.fsencode(path)) <= _SUN_PATH:
            connection.connect(path)
            return connection
        folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        finally:
            os.close(folder)
    except BaseException:
        connection.close()
        raise
    return connection
