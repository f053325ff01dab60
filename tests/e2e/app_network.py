"""Functions that reach something, for the end-to-end tests, and a module that does so while it is imported."""

from __future__ import annotations

import socket
from pathlib import Path

import relight

app = relight.App("network")


def reach(address: str, port: int) -> str:
    """What is said there to whoever connects, or why nothing is."""
    try:
        with socket.create_connection((address, port), 5) as connection:
            return connection.makefile().readline().strip()
    except OSError as error:
        return str(error.strerror)


FETCHED = reach("host.test", 80) if Path("/run/relight").exists() else ""  # as it is imported where it runs


@app.function()
def outward(address: str, port: int) -> tuple[str, str]:
    return FETCHED, reach(address, port)


@app.function(network="none")
def inward(address: str, port: int) -> str:
    return reach(address, port)


@app.function(network=["host.test"])
def listed(address: str, port: int) -> str:
    return reach(address, port)


def send(address: str, port: int, count: int) -> int:
    """Send so many bytes to who says them back, and hear them all."""
    heard = 0
    with socket.create_connection((address, port), 5) as connection:
        for begin in range(0, count, 50_000):
            part = min(50_000, count - begin)
            connection.sendall(b"x" * part)
            while heard < begin + part:
                heard += len(connection.recv(1 << 16))
    return heard


@app.function()
def upload(address: str, port: int, count: int) -> int:
    return send(address, port, count)


@app.function(template=False)
def upload_alone(address: str, port: int, count: int) -> int:
    return send(address, port, count)


@app.function(template=False)
def alone(address: str, port: int) -> str:
    return reach(address, port)
