"""A small internet in network namespaces: a machine, and hosts that it has a way to, with names that can be changed.

    machine ─ 198.51.100.1 ── wire ── far ─ 198.51.100.2, .3, 169.254.169.254, 2001:db8::2

Servers run in threads of the test; what makes their sockets enters the namespace for that moment.  Root only.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from relight.sandbox import syscalls

MACHINE, HOST, OTHER, METADATA = "198.51.100.1", "198.51.100.2", "198.51.100.3", "169.254.169.254"
MACHINE6, HOST6 = "2001:db8::1", "2001:db8::2"
GREETING, ECHO, BELL, WEB, CLOSED = 80, 7, 82, 88, 81
LOOPBACK, EVERYWHERE = 8080, 8081  # of the machine's servers

_CLONE_FS = 0x200

CAN_BE_MADE = os.geteuid() == 0 and shutil.which("ip") is not None


class Internet:
    """All of it; `names` are what the name server answers: addresses, and for how many seconds they hold.

    Whoever connects to `BELL` has `when_rung` called, and is greeted then.
    """

    def __init__(self, folder: Path) -> None:
        self.names: dict[str, tuple[list[str], int]] = {"host.test": ([HOST], 0)}
        self.asked: list[str] = []
        self.when_rung: Callable[[], object] = lambda: None
        self._home = [_namespace("net"), _namespace("mnt")]
        self._sockets: list[socket.socket] = []
        self._far, self._machine, self._mounts = (_made(syscalls.CLONE_NEWNET), *self._machine_on(folder))
        self._connect()
        self._serve()

    def close(self) -> None:
        """Nothing of it is left."""
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for descriptor in (*self._home, self._far, self._machine, self._mounts):
            os.close(descriptor)

    @contextmanager
    def on_machine(self) -> Iterator[None]:
        """Be on the machine: what is started meanwhile stays there, and asks the far name server."""
        folder = os.getcwd()
        syscalls.unshare(_CLONE_FS)  # who shares a root with other threads cannot change namespaces of mounts
        for namespace in (self._machine, self._mounts):
            syscalls.setns(namespace)
        try:
            yield
        finally:
            for namespace in self._home:
                syscalls.setns(namespace)
            os.chdir(folder)

    def reaches(self, address: str, port: int) -> bool:
        """Whether the machine itself can connect there."""
        with self.on_machine(), suppress(OSError), socket.create_connection((address, port), 0.5):
            return True
        return False

    def _machine_on(self, folder: Path) -> tuple[int, int]:
        resolv = folder / "resolv.conf"
        resolv.write_text(f"nameserver {HOST}\n")
        network = _made(syscalls.CLONE_NEWNET)
        cwd = os.getcwd()
        syscalls.unshare(syscalls.CLONE_NEWNS)
        try:
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            subprocess.run(["mount", "--bind", str(resolv), "/etc/resolv.conf"], check=True)
            return network, _namespace("mnt")
        finally:
            syscalls.setns(self._home[1])
            os.chdir(cwd)

    def _connect(self) -> None:
        syscalls.setns(self._far)
        try:
            _ip("link", "set", "lo", "up")
            _ip(
                "link",
                "add",
                "far",
                "type",
                "veth",
                "peer",
                "name",
                "near",
                "netns",
                f"/proc/{os.getpid()}/fd/{self._machine}",
            )
            for address in (f"{HOST}/24", f"{OTHER}/24", f"{METADATA}/16"):
                _ip("address", "add", address, "dev", "far")
            _ip("address", "add", f"{HOST6}/64", "dev", "far", "nodad")
            _ip("link", "set", "far", "up")
            syscalls.setns(self._machine)
            _ip("link", "set", "lo", "up")
            for address in (f"{MACHINE}/24", "169.254.0.1/16"):
                _ip("address", "add", address, "dev", "near")
            _ip("address", "add", f"{MACHINE6}/64", "dev", "near", "nodad")
            _ip("link", "set", "near", "up")
            _ip("route", "add", "default", "via", HOST)
        finally:
            syscalls.setns(self._home[0])

    def _serve(self) -> None:
        for namespace, address, port, answer in (
            (self._far, "::", GREETING, _greet),
            (self._far, "::", ECHO, _echo),
            (self._far, "::", WEB, _say_page),
            (self._far, "::", BELL, lambda connection: (self.when_rung(), _greet(connection))),
            (self._machine, "127.0.0.1", LOOPBACK, _greet),
            (self._machine, "::", EVERYWHERE, _greet),
            (self._far, "::", 53, self._answer_stream),
        ):
            self._listen(namespace, address, port, answer)
        for port, reply in ((53, self._answer), (ECHO, lambda data: data)):
            asked = self._bound(self._far, socket.SOCK_DGRAM, "::", port)
            _thread(_answer_datagrams, asked, reply)

    def _listen(self, namespace: int, address: str, port: int, answer: Callable[[socket.socket], object]) -> None:
        listening = self._bound(namespace, socket.SOCK_STREAM, address, port)
        listening.listen(64)
        _thread(_accept, listening, answer)

    def _bound(self, namespace: int, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
        syscalls.setns(namespace)
        try:
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
            if ":" in address:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            made.bind((address, port))
        finally:
            syscalls.setns(self._home[0])
        self._sockets.append(made)
        return made

    # -- names

    def _answer(self, query: bytes, most: int = 512) -> bytes:
        labels, place = [], 12
        while query[place]:
            labels.append(query[place + 1 : place + 1 + query[place]].decode().lower())
            place += 1 + query[place]
        kind = struct.unpack_from(">H", query, place + 1)[0]
        name, question = ".".join(labels), query[12 : place + 5]
        self.asked.append(name)
        addresses, seconds = self.names.get(name, ([], 0))
        records = [(1 if "." in one else 28, one) for one in addresses]
        body, count = b"", 0
        for its_kind, one in records:
            if its_kind == kind:
                packed = socket.inet_pton(socket.AF_INET if kind == 1 else socket.AF_INET6, one)
                body += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, seconds, len(packed)) + packed
                count += 1
        code = 0 if name in self.names else 3
        is_cut = 12 + len(question) + len(body) > most
        head = struct.pack(">HHHHH", 0x8180 | (0x0200 if is_cut else 0) | code, 1, 0 if is_cut else count, 0, 0)
        return query[:2] + head + question + (b"" if is_cut else body)

    def _answer_stream(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            while head := file.read(2):
                answer = self._answer(file.read(struct.unpack(">H", head)[0]), 65_535)
                connection.sendall(struct.pack(">H", len(answer)) + answer)


def _greet(connection: socket.socket) -> None:
    with connection:
        connection.sendall(f"hello from {connection.getsockname()[0].removeprefix('::ffff:')}\n".encode())


def _echo(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(1 << 18):
            connection.sendall(data)


def _say_page(connection: socket.socket) -> None:
    with connection, connection.makefile("rb") as file:
        path = file.readline().split()[1].decode()
        fields = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in _lines(file))}
        text = f"{path} of {fields['host']}"
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())


def _lines(file: BinaryIO) -> Iterator[str]:
    while line := file.readline().strip():
        yield line.decode()


def _accept(listening: socket.socket, answer: Callable[[socket.socket], object]) -> None:
    with suppress(OSError):
        while True:
            _thread(_quietly, answer, listening.accept()[0])


def _quietly(answer: Callable[[socket.socket], object], connection: socket.socket) -> None:
    with connection, suppress(OSError):
        answer(connection)


def _answer_datagrams(asked: socket.socket, reply: Callable[[bytes], bytes]) -> None:
    with suppress(OSError):
        while True:
            data, sender = asked.recvfrom(65_535)
            if sender is None:
                return  # it was shut down
            asked.sendto(reply(data), sender)


def _thread(run: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=run, args=arguments, daemon=True).start()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _namespace(name: str) -> int:
    return os.open(f"/proc/thread-self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)


def _made(kind: int) -> int:
    home = _namespace("net")
    try:
        syscalls.unshare(kind)
        made = _namespace("net")
        syscalls.setns(home)
        return made
    finally:
        os.close(home)
