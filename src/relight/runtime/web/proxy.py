"""Any program that listens on a port of the sandbox: requests are passed to it as HTTP/1.1, and its answers back.

Connections are kept for the next request.  One that the program has closed meanwhile is not used again; one that turns out
to be closed before a word of an answer came is replaced by a new one, where nothing of the request's body is lost by that.
"""

from __future__ import annotations

import asyncio
import select
from contextlib import suppress

from relight.protocol.web import Fields, RequestHead
from relight.runtime.web.exchange import Exchange, Gone

KEPT = 32
"""So many connections wait for the next request."""

POLL_SECONDS = (0.001, 0.05)
"""How often it is tried whether the program listens by now: from the first, doubling, to the last."""

_READ_BYTES = 64 * 1024
_HEAD_BYTES = 256 * 1024
_OWN = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"proxy-connection"}
)
_NO_BODY = frozenset({204, 304})


class _Closed(Exception):
    """The program hung up before it began to answer."""


class _Way:
    """A connection to the program."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.is_used = False

    @property
    def is_open(self) -> bool:
        """Whether the program holds it, while nothing is asked: there would be nothing to read but its end.

        The system is asked, as the loop has not seen what came while the worker rested.
        """
        if self.writer.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self.writer.get_extra_info("socket"), select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        self.writer.close()


class ProxyHandler:
    """Passes requests to whatever listens on a port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._kept: list[_Way] = []

    async def wait_listening(self, seconds: float) -> None:
        """Return once the program listens.  Raises TimeoutError."""
        delay, last = POLL_SECONDS
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            try:
                self._kept.append(await self._connect())
                return
            except OSError:
                if loop.time() > end:
                    raise TimeoutError(
                        f"nothing listens on port {self._port} after {seconds:g} s; raise startup_timeout=, or have the "
                        f"program listen on 127.0.0.1:{self._port}"
                    ) from None
            await asyncio.sleep(delay)
            delay = min(delay * 2, last)

    async def _connect(self) -> _Way:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=_HEAD_BYTES)
        return _Way(reader, writer)

    def _take(self) -> _Way | None:
        """A connection that was kept, the last one first."""
        while self._kept:
            way = self._kept.pop()
            if way.is_open:
                return way
            way.close()
        return None

    async def __call__(self, exchange: Exchange) -> None:
        try:
            way = self._take() or await self._connect()
            try:
                await self._pass(exchange, way)
            except _Closed:
                if not way.is_used or not exchange.is_body_whole:
                    raise
                await self._pass(exchange, await self._connect())
        except (OSError, _Closed, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            exchange.fail(502, f"the program on port {self._port} did not answer: {error or type(error).__name__}")

    async def _pass(self, exchange: Exchange, way: _Way) -> None:
        is_whole = exchange.is_body_whole
        body = await exchange.read() if is_whole else b""
        try:
            way.writer.write(_request(exchange.head, None if not is_whole else len(body)) + body)
            sending = None if is_whole else asyncio.ensure_future(_send_body(exchange, way))
            try:
                is_kept = await self._answer(exchange, way)
            finally:
                if sending is not None:
                    sending.cancel()
                    await asyncio.wait((sending,))
        except BaseException:
            way.close()
            if is_whole and body:
                exchange.put_back(body)
            raise
        if is_kept and is_whole and len(self._kept) < KEPT:
            way.is_used = True
            self._kept.append(way)
        else:
            way.close()

    async def _answer(self, exchange: Exchange, way: _Way) -> bool:
        """Pass the answer on; whether the connection can be used again."""
        while True:
            status, headers, keeps = await _read_head(way.reader)
            if status == 101 or status >= 200:
                break
        own = {name: value for name, value in headers if name in (b"content-length", b"transfer-encoding")}
        if status == 101:
            exchange.begin(status, headers)
            await _tunnel(exchange, way)
            return False
        said = [pair for pair in headers if pair[0] not in _OWN]
        if exchange.head.method == b"HEAD" or status in _NO_BODY:
            exchange.answer(status, said, b"")
            return keeps
        if b"chunked" in own.get(b"transfer-encoding", b"").lower():
            exchange.begin(status, said)
            await _pass_chunks(exchange, way.reader)
        elif b"content-length" in own:
            await _pass_sized(exchange, way.reader, int(own[b"content-length"]), status, said)
        else:
            exchange.begin(status, said)
            while data := await way.reader.read(_READ_BYTES):
                await exchange.write(data)
            keeps = False
        exchange.end()
        return keeps


def _request(head: RequestHead, length: int | None) -> bytes:
    """The head of a request, as the program reads it.  `length` None: not known yet."""
    root = head.root_path
    path = head.raw_path[len(root) :] if root and head.raw_path.startswith(root) else head.raw_path
    lines = [b"%b %b%b HTTP/1.1" % (head.method, path or b"/", b"?" + head.query_string if head.query_string else b"")]
    names = {name for name, _ in head.headers}
    lines += [b"%b: %b" % pair for pair in head.headers if pair[0] not in _OWN]
    if root:
        lines.append(b"x-forwarded-prefix: %b" % root)
    if head.is_upgrade:
        upgrade = next(value for name, value in head.headers if name == b"upgrade")
        lines += [b"upgrade: %b" % upgrade, b"connection: Upgrade"]
    elif length is None and b"content-length" not in names:
        lines.append(b"transfer-encoding: chunked")
    elif length and b"content-length" not in names:
        lines.append(b"content-length: %d" % length)
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def _send_body(exchange: Exchange, way: _Way) -> None:
    if exchange.head.is_upgrade:
        return  # the tunnel reads it
    is_sized = any(name == b"content-length" for name, _ in exchange.head.headers)
    with suppress(Gone, OSError):
        while data := await exchange.read():
            way.writer.write(data if is_sized else b"%x\r\n%b\r\n" % (len(data), data))
            await way.writer.drain()
        if not is_sized:
            way.writer.write(b"0\r\n\r\n")


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, Fields, bool]:
    try:
        data = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        raise _Closed("it hung up") from None
    except ConnectionError as error:
        raise _Closed(str(error)) from None
    first, *lines = data[:-4].split(b"\r\n")
    version, status, *_ = first.split(b" ", 2)
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    connection = next((value.lower() for name, value in headers if name == b"connection"), b"")
    return int(status), headers, version == b"HTTP/1.1" and connection != b"close"


async def _pass_sized(
    exchange: Exchange, reader: asyncio.StreamReader, length: int, status: int, headers: Fields
) -> None:
    if length <= _READ_BYTES:
        exchange.answer(status, headers, await reader.readexactly(length))
        return
    exchange.begin(status, headers)
    while length:
        data = await reader.read(min(length, _READ_BYTES))
        if not data:
            raise asyncio.IncompleteReadError(b"", length)
        length -= len(data)
        await exchange.write(data)


async def _pass_chunks(exchange: Exchange, reader: asyncio.StreamReader) -> None:
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        while size:
            data = await reader.read(min(size, _READ_BYTES))
            if not data:
                raise asyncio.IncompleteReadError(b"", size)
            size -= len(data)
            await exchange.write(data)
        await reader.readexactly(2)
    while (await reader.readuntil(b"\r\n")) != b"\r\n":
        continue  # trailers


async def _tunnel(exchange: Exchange, way: _Way) -> None:
    """Bytes both ways, until either end is done."""
    up = asyncio.ensure_future(_pass_up(exchange, way))
    try:
        while data := await way.reader.read(_READ_BYTES):
            await exchange.write(data)
        exchange.end()
    finally:
        up.cancel()
        await asyncio.wait((up,))


async def _pass_up(exchange: Exchange, way: _Way) -> None:
    with suppress(Gone, OSError):
        while data := await exchange.read():
            way.writer.write(data)
            await way.writer.drain()
    way.writer.close()
