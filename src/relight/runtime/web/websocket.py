"""WebSockets (RFC 6455) as ASGI sees them, on a tunnel to whoever asked.  No extensions are agreed to."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from relight.protocol.web import Fields
from relight.runtime.web.exchange import Exchange, Gone

MESSAGE_BYTES = 16 * 1024 * 1024
"""A longer message ends the connection, with 1009."""

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_SHORT, _LONG = struct.Struct("!H"), struct.Struct("!Q")


class Violation(Exception):
    """The other end broke the protocol; its argument is the code to close with."""

    @property
    def code(self) -> int:
        """The code to close with."""
        return int(self.args[0])


class Reader:
    """Frames of a client, as their bytes come: kind and bytes of each message, the parts of long ones put together."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._kind = 0
        self._parts: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The messages that are whole now.  Raises Violation."""
        self._data += data
        while (found := self._next()) is not None:
            is_final, kind, payload = found
            if kind >= _CLOSE:
                if not is_final or len(payload) > 125:
                    raise Violation(1002)
                yield kind, payload
                continue
            if (kind == _CONTINUATION) != bool(self._kind):
                raise Violation(1002)
            self._kind = self._kind or kind
            self._parts.append(payload)
            self._length += len(payload)
            if self._length > MESSAGE_BYTES:
                raise Violation(1009)
            if is_final:
                whole = payload if len(self._parts) == 1 else b"".join(self._parts)
                kind, self._kind, self._length = self._kind, 0, 0
                self._parts.clear()
                yield kind, whole

    def _next(self) -> tuple[bool, int, bytes] | None:
        data = self._data
        if len(data) < 6:
            return None
        first, second = data[0], data[1]
        kind, length = first & 0x0F, second & 0x7F
        if first & 0x70 or not second & 0x80 or kind not in (0, 1, 2, 8, 9, 10):
            raise Violation(
                1002
            )  # an extension nobody agreed to, a frame that is not masked, or a kind there is none of
        at = 2
        if length == 126:
            if len(data) < 8:
                return None
            length, at = _SHORT.unpack_from(data, 2)[0], 4
        elif length == 127:
            if len(data) < 14:
                return None
            length, at = _LONG.unpack_from(data, 2)[0], 10
        if length > MESSAGE_BYTES:
            raise Violation(1009)
        if len(data) < at + 4 + length:
            return None
        mask = bytes(data[at : at + 4])
        payload = _unmasked(bytes(data[at + 4 : at + 4 + length]), mask)
        del data[: at + 4 + length]
        return bool(first & 0x80), kind, payload


def _unmasked(data: bytes, mask: bytes) -> bytes:
    """Python's long integers do it at the speed of memory."""
    length = len(data)
    if not length:
        return data
    key = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(length, "little")


def packed(kind: int, data: bytes) -> bytes:
    """One frame of a server: whole, and not masked."""
    length = len(data)
    if length < 126:
        return bytes((0x80 | kind, length)) + data
    if length < 65536:
        return bytes((0x80 | kind, 126)) + _SHORT.pack(length) + data
    return bytes((0x80 | kind, 127)) + _LONG.pack(length) + data


class WebSocket:
    """One connection, from the request to its end."""

    def __init__(self, exchange: Exchange, scope: dict[str, Any]) -> None:
        self._exchange = exchange
        self._scope = _as_websocket(scope)
        self._reader = Reader()
        self._heard: list[tuple[int, bytes]] = []
        self._is_connected = False
        self._is_closed = False
        self._code = 1006

    async def run(self, app: Callable[..., Awaitable[None]]) -> None:
        """Have the app speak on it; closes it when the app is done."""
        try:
            await app(self._scope, self._receive, self._send)
        except Gone:
            pass
        except BaseException:
            if self._exchange.has_begun:
                await self._close(1011)
            raise
        if not self._exchange.has_begun:
            self._exchange.answer(403, (), b"")
        else:
            await self._close(1000)

    async def _receive(self) -> dict[str, Any]:
        if not self._is_connected:
            self._is_connected = True
            return {"type": "websocket.connect"}
        try:
            kind, data = await self._next()
        except Gone:
            self._is_closed = True
            return {"type": "websocket.disconnect", "code": self._code, "reason": ""}
        except Violation as violation:
            await self._close(violation.code)
            return {"type": "websocket.disconnect", "code": violation.code, "reason": ""}
        if kind == _TEXT:
            return {"type": "websocket.receive", "text": data.decode()}
        return {"type": "websocket.receive", "bytes": data}

    async def _next(self) -> tuple[int, bytes]:
        """The next message for the app; the others are answered here."""
        while True:
            while self._heard:
                kind, data = self._heard.pop(0)
                if kind == _PING:
                    await self._exchange.write(packed(_PONG, data))
                elif kind == _CLOSE:
                    self._code = _SHORT.unpack_from(data)[0] if len(data) >= 2 else 1005
                    await self._close(1000 if self._code == 1005 else self._code)
                    raise Gone
                elif kind == _TEXT and not _is_text(data):
                    raise Violation(1007)
                elif kind != _PONG:
                    return kind, data
            if self._is_closed:
                raise Gone
            data = await self._exchange.read()
            if not data:
                raise Gone
            self._heard.extend(self._reader.feed(data))

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            text = message.get("text")
            data = packed(_BINARY, message["bytes"]) if text is None else packed(_TEXT, text.encode())
            await self._exchange.write(data)
        elif kind == "websocket.accept":
            self._accept(message.get("subprotocol"), message.get("headers", ()))
        elif kind == "websocket.close":
            if self._exchange.has_begun:
                await self._close(message.get("code") or 1000, message.get("reason") or "")
            else:
                self._exchange.answer(403, (), b"")
        elif kind == "websocket.http.response.start":
            self._refusal = (int(message["status"]), [(bytes(n), bytes(v)) for n, v in message.get("headers", ())])
        elif kind == "websocket.http.response.body" and not self._exchange.has_begun:
            await self._exchange.answer_all(*self._refusal, bytes(message.get("body", b"")))

    def _accept(self, subprotocol: str | None, headers: Fields) -> None:
        key = next((value for name, value in self._exchange.head.headers if name == b"sec-websocket-key"), b"")
        said = base64.b64encode(hashlib.sha1(key.strip() + _MAGIC, usedforsecurity=False).digest())
        answer = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", said)]
        if subprotocol:
            answer.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        self._exchange.begin(101, [*answer, *((bytes(name), bytes(value)) for name, value in headers)])

    async def _close(self, code: int, reason: str = "") -> None:
        if self._is_closed or self._exchange.is_over:
            return
        self._is_closed = True
        if not self._exchange.is_gone:
            await self._exchange.write(packed(_CLOSE, _SHORT.pack(code) + reason.encode()[:123]))
            self._exchange.end()


def _as_websocket(scope: dict[str, Any]) -> dict[str, Any]:
    asked = next((value for name, value in scope["headers"] if name == b"sec-websocket-protocol"), b"")
    del scope["method"]
    scope["type"] = "websocket"
    scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
    scope["subprotocols"] = [one.strip() for one in asked.decode("latin-1").split(",") if one.strip()]
    scope["extensions"] = {"websocket.http.response": {}}
    return scope


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
