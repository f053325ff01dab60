"""What a sandbox sends is counted where it passes, and goes on to be counted by a connector that comes after another."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from relight.sandbox.egress.gate import Gate
from relight.sandbox.egress.tally import read_tally


def listening() -> socket.socket:
    """A socket that listens on this machine's loopback."""
    return socket.create_server(("127.0.0.1", 0))


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate(-1, is_proxy=True)
    yield made
    made.leave()
    made.close("box")


def send_through(proxy: tuple[str, int], world: socket.socket, count: int) -> int:
    """Send so many bytes by way of the proxy; how many arrived."""
    host, port = world.getsockname()
    with socket.create_connection(proxy, 20) as inside:
        inside.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n".encode())
        outside, _ = world.accept()
        with outside, inside.makefile("rb") as answers:
            assert answers.readline().startswith(b"HTTP/1.1 200")
            inside.sendall(b"x" * count)
            inside.shutdown(socket.SHUT_WR)
            return len(b"".join(iter(lambda: outside.recv(1 << 16), b"")))


def test_a_connector_that_comes_after_another_goes_on_counting(gate: Gate) -> None:
    questions = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    questions.bind(("127.0.0.1", 0))
    streams, proxy, world = listening(), listening(), listening()
    world.settimeout(20)
    at = proxy.getsockname()
    network = "127.0.0.1/32"  # which nobody can ask for: there is no other address that every machine has
    gate.open("box", network, [os.dup(one.fileno()) for one in (questions, streams, proxy)])
    (tally,) = gate.tally("box")

    first = send_through(at, world, 100_000), read_tally(tally)
    os.kill(gate.pid, 9)
    gate.renew()
    second = send_through(at, world, 23), read_tally(tally)

    assert (first, second) == ((100_000, 100_000), (23, 100_023))
    assert gate.tally("another") == ()
    for one in (questions, streams, proxy, world):
        one.close()
