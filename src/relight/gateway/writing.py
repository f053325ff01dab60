"""Answers as the bytes of HTTP/1.1, without any I/O."""

from __future__ import annotations

import re
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

from relight.clock import now_ms
from relight.gateway.exchange import Answer, Head, RawAnswer, StreamAnswer

LAST_CHUNK = b"0\r\n\r\n"

_STATUS_LINES = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\ncontent-type: ".encode() for one in HTTPStatus}
_RAW_STATUS_LINES = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus}
_WITHOUT_BODY = frozenset({204, 304})
_CONNECTIONS_OWN = frozenset(
    {*(b"connection", b"keep-alive", b"content-length", b"transfer-encoding"), *(b"upgrade", b"trailer", b"te")}
)
_CLOSE = b"connection: close\r\n"
_UNSAID = re.compile(r"[\x00-\x1f\x7f]")


class Dates:
    """What a `date` header says, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def now(self) -> bytes:
        """This second's."""
        second = now_ms() // 1000
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True).encode()
        return self._text


def whole(answer: Answer, head: Head | None, date: bytes, *, closes: bool) -> tuple[bytes, bytes]:
    """The lines before the body of an answer that is known whole, and its body.  `head` None: of no request."""
    lines = b"%b%b\r\ncontent-length: %d\r\ndate: %b\r\n%b%b\r\n" % (
        _STATUS_LINES[answer.status],
        answer.type.encode(),
        len(answer.body),
        date,
        b"".join(_field(name, value) for name, value in answer.headers) if answer.headers else b"",
        _CLOSE if closes else b"",
    )
    return lines, b"" if head is not None and head.method == "HEAD" else answer.body


def stream_head(answer: StreamAnswer, date: bytes, *, is_chunked: bool, closes: bool) -> bytes:
    """The lines before the body of an answer that is sent part by part."""
    length = b"" if answer.length is None else b"content-length: %d\r\n" % answer.length
    return b"%b%b\r\ncache-control: no-store\r\n%bdate: %b\r\n%b\r\n" % (
        _STATUS_LINES[answer.status],
        answer.type.encode(),
        b"transfer-encoding: chunked\r\n" if is_chunked else length,
        date,
        _CLOSE if closes else b"",
    )


class RawHead(NamedTuple):
    """The lines before the body of somebody's answer, and how that body is sent."""

    lines: bytes
    length: int | None
    is_chunked: bool


def raw_whole(answer: RawAnswer, head: Head, date: bytes, *, closes: bool) -> bytes:
    """Somebody's answer, whole."""
    body = answer.body or b""
    length = b"" if answer.status in _WITHOUT_BODY else b"content-length: %d\r\n" % len(body)
    if head.method == "HEAD" or answer.status == 304:
        said = next((value for name, value in answer.fields if name == b"content-length"), None)
        length, body = b"" if said is None else b"content-length: %b\r\n" % said, b""
    return b"".join((*_raw_lines(answer, date), length, _CLOSE if closes else b"", b"\r\n", body))


def raw_stream_head(answer: RawAnswer, head: Head, date: bytes, *, closes: bool) -> RawHead:
    """The lines before the body of somebody's answer that is sent as it is made."""
    if answer.status == 101:
        kept = [b"%b: %b\r\n" % pair for pair in answer.fields if pair[0] in (b"upgrade", b"connection")]
        return RawHead(b"".join((*_raw_lines(answer, date), *kept, b"\r\n")), None, False)
    said = next((value for name, value in answer.fields if name == b"content-length"), b"")
    length = int(said) if said.isdigit() else None
    is_chunked = length is None and not head.is_old
    framing = b"transfer-encoding: chunked\r\n" if is_chunked else b""
    if length is not None:
        framing = b"content-length: %d\r\n" % length
    lines = b"".join((*_raw_lines(answer, date), framing, _CLOSE if closes else b"", b"\r\n"))
    return RawHead(lines, length, is_chunked)


def _raw_lines(answer: RawAnswer, date: bytes) -> list[bytes]:
    """The status, and the headers that are the app's to say."""
    lines = [_raw_status(answer.status)]
    has_date = False
    for name, value in answer.fields:
        if name not in _CONNECTIONS_OWN:
            lines += (name, b": ", value, b"\r\n")
            has_date = has_date or name == b"date"
    if not has_date:
        lines += (b"date: ", date, b"\r\n")
    return lines


def _raw_status(status: int) -> bytes:
    known = _RAW_STATUS_LINES.get(status)
    return b"HTTP/1.1 %d \r\n" % status if known is None else known


def chunk(part: bytes) -> bytes:
    """One part, framed; not an empty one, which would be the last."""
    return b"%x\r\n%b\r\n" % (len(part), part)


def _field(name: str, value: str) -> bytes:
    """A further header; what would end its line is left out."""
    return f"{name}: {_UNSAID.sub('', value)}\r\n".encode("latin-1", "replace")
