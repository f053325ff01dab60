"""Answers as the bytes of HTTP/1.1, without any I/O."""

from __future__ import annotations

import re
from email.utils import formatdate
from http import HTTPStatus

from relight.clock import now_ms
from relight.gateway.exchange import Answer, Head, StreamAnswer

LAST_CHUNK = b"0\r\n\r\n"

_STATUS_LINES = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\ncontent-type: ".encode() for one in HTTPStatus}
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


def chunk(part: bytes) -> bytes:
    """One part, framed; not an empty one, which would be the last."""
    return b"%x\r\n%b\r\n" % (len(part), part)


def _field(name: str, value: str) -> bytes:
    """A further header; what would end its line is left out."""
    return f"{name}: {_UNSAID.sub('', value)}\r\n".encode("latin-1", "replace")
