"""One HTTP connection, over a unix socket or TCP: a request's head and body leave in one write.

`Answer` reads what comes back without any I/O, so that a blocking socket here and a stream of asyncio (`sdk.aio`) share
it.  What goes wrong on the way is `Unreachable`, and never a half-read answer: a connection that failed is not used
again.  Nothing is sent twice from here: only who asks knows how to ask again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from relight.protocol.errors import InvalidRequest, Unavailable
from relight.sdk.requests import Reply, Request

if TYPE_CHECKING:
    from ssl import SSLCertVerificationError, SSLContext

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
MAX_HEAD_BYTES = 64 * 1024
_READ_BYTES = 64 * 1024
_MOST_READ_BYTES = 1024 * 1024
_SUN_PATH = 100  # a unix socket's name may have 107 bytes
JOINED_BYTES = 1024 * 1024


class Unreachable(Exception):
    """No answer came; the server may have heard the request all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server is: `path` of its socket, or `host` and `port`; `ca` is a file of certificates to trust."""

    path: str = ""
    host: str = "localhost"
    port: int = 0
    is_tls: bool = False
    token: str = ""
    ca: str = ""

    def __str__(self) -> str:
        return self.path or f"http{'s' * self.is_tls}://{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """What a request says in `Host`."""
        return "localhost" if self.path else f"{self.host}:{self.port}"


def address_of(url: str, token: str, ca: str = "") -> Address:
    """The address in `http://host:port`, `https://…` or `unix:/path`.  Raises InvalidRequest."""
    from urllib.parse import urlsplit  # 4 ms, and seldom needed

    parts = urlsplit(url)
    if parts.scheme == "unix" and parts.path:
        return Address(path=parts.path, token=token)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise InvalidRequest(f"cannot use the URL {url!r}: it is not http(s)://HOST:PORT; write it so")
    is_tls = parts.scheme == "https"
    return Address(host=parts.hostname, port=parts.port or (443 if is_tls else 80), is_tls=is_tls, token=token, ca=ca)


class BadAnswer(Exception):
    """A stream was refused; `reply` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply.status))
        self.reply = reply


class Answer:
    """An answer, put together from the bytes as they come.  Raises Unreachable where they are no HTTP.

    `take` gives what there is of the body; `is_whole` says that all of it came.
    """

    __slots__ = (
        *("_data", "_has_body", "_is_chunked", "_is_last", "_left", "_parts"),
        *("content_type", "is_whole", "status", "will_close"),
    )

    def __init__(self, method: str) -> None:
        self.status = 0
        self.content_type = ""
        self.is_whole = False
        self.will_close = False
        self._has_body = method != "HEAD"
        self._is_chunked = False
        self._is_last = False
        self._left: int | None = None  # what is still to come of the body, or of a chunk with its end of line
        self._data = b""
        self._parts: list[bytes] = []

    @property
    def wants(self) -> int:
        """How many bytes to read at once."""
        return min(max(_READ_BYTES, self._left or 0), _MOST_READ_BYTES)

    def feed(self, data: bytes) -> None:
        """More has come."""
        if self._data:
            data = self._data + data
            self._data = b""
        if not self.status:
            data = self._read_head(data)
            if not self.status:
                return
        if self._is_chunked:
            self._read_chunks(data)
        else:
            self._read_body(data)

    def end(self) -> None:
        """The other end hung up.  Raises Unreachable when that cut the answer off."""
        if not self.status or self._is_chunked or self._left is not None:
            raise Unreachable("the answer broke off: the server hung up")
        self.is_whole = True

    def take(self) -> bytes:
        """The part of the body that has come and was not taken."""
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def reply(self) -> Reply:
        """The whole answer."""
        return Reply(status=self.status, content_type=self.content_type, body=self.take())

    def _read_head(self, data: bytes) -> bytes:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > MAX_HEAD_BYTES:
                _refuse(data)
            self._data = data
            return b""
        first, *lines = data[:end].split(b"\r\n")
        version, _, rest = first.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            _refuse(first)
        status = int(rest[:3])
        if status < 200:  # 100 Continue, 103 Early Hints: another head follows
            return self._read_head(data[end + 4 :])
        self.will_close = version == b"HTTP/1.0"
        for line in lines:
            name, _, value = line.partition(b":")
            self._read_field(name.lower(), value.strip())
        self.status = status
        if not self._has_body or status in (204, 304):
            self._is_chunked, self._left = False, 0
        elif not self._is_chunked and self._left is None:
            self.will_close = True
        return data[end + 4 :]

    def _read_field(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            if not value.isdigit():
                _refuse(value)
            self._left = int(value)
        elif name == b"content-type":
            self.content_type = str(value, "latin-1")
        elif name == b"transfer-encoding":
            self._is_chunked = b"chunked" in value.lower()
            self._left = None
        elif name == b"connection":
            self.will_close = b"close" in value.lower()

    def _read_body(self, data: bytes) -> None:
        if self._left is None:
            self._parts.append(data)
            return
        if len(data) > self._left:
            _refuse(data[self._left :])
        if data:
            self._parts.append(data)
        self._left -= len(data)
        self.is_whole = not self._left

    def _read_chunks(self, data: bytes) -> None:
        while data and not self.is_whole:
            if self._left is None:
                line, found, rest = data.partition(b"\r\n")
                if not found:
                    break
                self._read_chunk_line(line)
                data = rest
                continue
            part = data[: self._left - 2]
            if part:
                self._parts.append(part)
                self._left -= len(part)
            data = data[len(part) :]
            if self._left == 2:  # the end of its line
                if len(data) < 2:
                    break
                data = data[2:]
                self._left = None
        self._data = data

    def _read_chunk_line(self, line: bytes) -> None:
        """The size of the next chunk; after the last one trailers, of which an empty one is the end."""
        if self._is_last:
            self.is_whole = not line
            return
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            _refuse(line)
        self._is_last = size == 0
        self._left = size + 2 if size else None


def _refuse(data: bytes) -> NoReturn:
    raise Unreachable(f"the answer broke off: {data[:40]!r} is no HTTP; is this a relight server?")


class Http:
    """A connection that is made when first needed and kept."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._process = os.getpid()
        self._answer: Answer | None = None

    def exchange(self, request: Request) -> Reply:
        """Send it and read the answer.  Raises Unreachable."""
        self.send(request)
        return self.receive()

    def send(self, request: Request) -> None:
        """Send it; `receive` must follow.  Raises Unreachable."""
        self._begin(request, request.wait_seconds + ANSWER_SECONDS)

    def receive(self) -> Reply:
        """The answer to what was sent.  Raises Unreachable."""
        answer = self._answer
        assert answer is not None, "nothing was sent"
        try:
            while not answer.is_whole:
                self._read(answer)
        except BaseException:  # Ctrl-C too: an answer that nobody read must not be taken for the next one's
            self.close()
            raise
        self._answer = None
        if answer.will_close:
            self.close()
        return answer.reply()

    def lines(self, request: Request) -> Iterator[bytes]:
        """Send it and give the answer line by line, as it comes; raises BadAnswer when it is refused."""
        self._begin(request, None)
        answer = self._answer
        assert answer is not None
        rest = b""
        try:
            while not answer.is_whole:
                self._read(answer)
                if answer.status < 400:
                    *lines, rest = (rest + answer.take()).split(b"\n")
                    yield from (line + b"\n" for line in lines)
        finally:
            self.close()
        if answer.status >= 400:
            raise BadAnswer(answer.reply())
        if rest:
            yield rest

    def close(self) -> None:
        """Hang up."""
        self._answer = None
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

    def _begin(self, request: Request, seconds: float | None) -> None:
        if os.getpid() != self._process:  # a fork must not speak on its parent's connection
            self._socket, self._process = None, os.getpid()
        elif self._answer is not None:  # nobody read the last answer to its end
            self.close()
        if self._socket is None:
            self._socket = _connect(self._address)
        try:
            self._socket.settimeout(seconds)
            _send(self._socket, request, self._address)
        except OSError as error:
            self.close()
            raise Unreachable(f"the connection broke: {error or type(error).__name__}") from error
        except BaseException:
            self.close()
            raise
        self._answer = Answer(request.method)

    def _read(self, answer: Answer) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(answer.wants)
        except OSError as error:
            raise Unreachable(f"the connection broke: {error or type(error).__name__}") from error
        if data:
            answer.feed(data)
        else:
            answer.end()


def _connect(address: Address) -> socket.socket:
    try:
        if address.path:
            return connect_unix(address.path)
        connection = socket.create_connection((address.host, address.port), CONNECT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not address.is_tls:
            return connection
        return _with_tls(connection, address)
    except OSError as error:
        raise Unreachable(f"it does not answer: {error.strerror or error}") from error


def _with_tls(connection: socket.socket, address: Address) -> socket.socket:
    from ssl import SSLCertVerificationError

    try:
        return tls_context(address).wrap_socket(connection, server_hostname=address.host)
    except SSLCertVerificationError as error:
        raise not_trusted(address, error) from error
    finally:
        connection.close()  # the wrapped one has its descriptor by now, or nobody needs it


def tls_context(address: Address) -> SSLContext:
    """What the server must show.  Raises InvalidRequest when the certificates to trust cannot be read."""
    import ssl

    try:
        return ssl.create_default_context(cafile=address.ca or None)
    except OSError as error:
        raise InvalidRequest(f"cannot read certificates from {address.ca!r}: {error}; name a PEM file") from error


def not_trusted(address: Address, error: SSLCertVerificationError) -> Unavailable:
    """Its certificate is not one of those: asking again would not help."""
    return Unavailable(
        f"cannot trust the server at {address}: {error.verify_message or error}; "
        "log in with --ca FILE, the certificate it is signed by"
    )


def _send(connection: socket.socket, request: Request, address: Address) -> None:
    head = request.head(address.name, address.token)
    if len(request.body) <= JOINED_BYTES:
        connection.sendall(head + request.body)
        return
    connection.sendall(head)
    connection.sendall(request.body)


def connect_unix(path: str) -> socket.socket:
    """A connection to the socket at `path`, however long that is.  Raises OSError."""
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
