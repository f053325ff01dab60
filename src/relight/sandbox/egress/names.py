"""Names: questions of a sandbox are passed on as they are, and what is answered is read for the addresses in it.

Nothing is kept: whoever the machine asks (/etc/resolv.conf) remembers, and so a change is seen when it is seen there.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from relight.sandbox.egress.policy import Address, plain_address

A, AAAA = 1, 28
NO_SUCH_NAME, SERVER_FAILED = 3, 2
MOST_BYTES = 65_535

_HEADER = struct.Struct(">HHHHHH")  # id, flags, then the number of questions, answers, authorities, others
_RESPONSE, _RECURSION = 0x8000, 0x0100
_MOST_JUMPS = 16
_ASK_SECONDS = 3.0
_ROUNDS = 2
_DEFAULT_SERVER = "127.0.0.1"
_PORT = 53


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a name in lower case, without a dot at its end."""

    name: str
    kind: int


class Malformed(ValueError):
    """No message of the domain name system."""


def read_question(query: bytes) -> Question:
    """The one question of a query.  Raises Malformed."""
    if len(query) < _HEADER.size:
        raise Malformed("it is too short")
    _, flags, questions, *_ = _HEADER.unpack_from(query)
    if flags & _RESPONSE or questions != 1:
        raise Malformed("it is no query with one question")
    name, end = _read_name(query, _HEADER.size)
    return Question(name, _number(query, end))


def read_addresses(answer: bytes) -> list[tuple[Address, float]]:
    """The addresses in an answer, and for how many seconds each holds.  Raises Malformed."""
    if len(answer) < _HEADER.size:
        raise Malformed("it is too short")
    _, _, questions, answers, *_ = _HEADER.unpack_from(answer)
    place = _HEADER.size
    for _ in range(questions):
        place = _read_name(answer, place)[1] + 4
    found = []
    for _ in range(answers):
        place = _read_name(answer, place)[1]
        if place + 10 > len(answer):
            raise Malformed("it is cut off")
        kind, _, seconds, length = struct.unpack_from(">HHIH", answer, place)
        data = answer[place + 10 : place + 10 + length]
        place += 10 + length
        if (kind, len(data)) in ((A, 4), (AAAA, 16)):
            found.append((plain_address(data), float(seconds)))
    return found


def make_query(question: Question) -> bytes:
    """A query of our own."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in question.name.split("."))
    return _HEADER.pack(0, _RECURSION, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", question.kind, 1)


def answer_without(query: bytes, code: int) -> bytes:
    """The answer that has none, and `code` for why."""
    identity, flags, *_ = _HEADER.unpack_from(query)
    _, end = _read_name(query, _HEADER.size)
    return _HEADER.pack(identity, _RESPONSE | flags & 0x7900 | 0x80 | code, 1, 0, 0, 0) + query[_HEADER.size : end + 4]


class Resolver:
    """Asks the machine's name servers, as `path` names them at the time."""

    def __init__(self, path: Path = Path("/etc/resolv.conf")) -> None:
        self._path = path
        self._servers: tuple[str, ...] = (_DEFAULT_SERVER,)
        self._seen: object = None

    async def ask(self, query: bytes, *, is_stream: bool = False) -> bytes | None:
        """What is answered to a query, by a stream or by a datagram; None: by nobody."""
        ask = _ask_stream if is_stream else _ask_datagram
        for _ in range(_ROUNDS):
            for server in self._current():
                asked = struct.pack(">H", secrets.randbits(16)) + query[2:]
                with suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
                    answer = await asyncio.wait_for(ask(server, asked), _ASK_SECONDS)
                    return query[:2] + answer[2:]
        return None

    def _current(self) -> tuple[str, ...]:
        with suppress(OSError):
            stat = os.stat(self._path)
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen != self._seen:
                self._servers = read_servers(self._path.read_text(encoding="utf-8", errors="replace"))
                self._seen = seen
        return self._servers


def read_servers(text: str) -> tuple[str, ...]:
    """The servers that a resolv.conf names."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            found.append(words[1])
    return tuple(found[:3]) or (_DEFAULT_SERVER,)


async def _ask_datagram(server: str, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.connect((server, _PORT))
        await loop.sock_sendall(asking, query)
        while True:
            answer = await loop.sock_recv(asking, MOST_BYTES)
            if answer[:2] == query[:2] and _is_answer_to(answer, query):
                return answer


async def _ask_stream(server: str, query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server, _PORT)
    try:
        writer.write(struct.pack(">H", len(query)) + query)
        length = struct.unpack(">H", await reader.readexactly(2))[0]
        return await reader.readexactly(length)
    finally:
        writer.close()


def _is_answer_to(answer: bytes, query: bytes) -> bool:
    try:
        name, end = _read_name(answer, _HEADER.size)
        return Question(name, _number(answer, end)) == read_question(query)
    except Malformed:
        return False


def _read_name(message: bytes, place: int) -> tuple[str, int]:
    """A name, and where what follows it begins."""
    labels: list[str] = []
    end = -1
    for _ in range(_MOST_JUMPS * 16):
        length = _byte(message, place)
        if length & 0xC0 == 0xC0:  # the rest is elsewhere
            end = place + 2 if end < 0 else end
            place = _number(message, place) & 0x3FFF
        elif length & 0xC0:
            raise Malformed("a name has a label of no known kind")
        elif length == 0:
            return ".".join(labels), place + 1 if end < 0 else end
        else:
            labels.append(message[place + 1 : place + 1 + length].decode("latin-1").lower())
            place += 1 + length
    raise Malformed("a name has no end")


def _byte(message: bytes, place: int) -> int:
    if place >= len(message):
        raise Malformed("it is cut off")
    return message[place]


def _number(message: bytes, place: int) -> int:
    if place + 2 > len(message):
        raise Malformed("it is cut off")
    return int(struct.unpack_from(">H", message, place)[0])
