"""What takes all there is, and what lies to its agent, beside a neighbour who only answers."""

from __future__ import annotations

import errno
import http.client
import json
import os
import signal
import socket
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path

import relight

app = relight.App("hogs")
CHANNEL = 3
MIB = 1 << 20
PLACES = ("/tmp", "/dev/shm", "~")


@app.function()
def ping() -> str:
    """The neighbour."""
    return "pong"


# -- hogs


@app.function(memory=64, timeout=60)
def fork_bomb() -> str:
    """As many processes as it gets."""
    children = 0
    try:
        while True:
            child = os.fork()
            if child == 0:
                signal.pause()
            children += 1
    except OSError as error:
        return f"{errno.errorcode[error.errno or 0]} after {children}"


@app.function(memory=128, timeout=60)
def memory_hog() -> int:
    """Eight times what it asked for."""
    held = [b"x" * (16 * MIB) for _ in range(64)]
    return len(held)


@app.function(ephemeral_disk=64, timeout=60)
def disk_filler() -> dict[str, str]:
    """All that can be written, everywhere."""
    told, left = {}, 0
    for place in PLACES:
        path = Path(place).expanduser() / "filler"
        try:
            with path.open("wb", buffering=0) as file:
                while True:
                    left += file.write(bytes(MIB))
        except OSError as error:
            told[place] = errno.errorcode[error.errno or 0]
    return {**told, "written": str(left // MIB)}


@app.function(timeout=60)
def descriptor_hog() -> str:
    """As many open files as it gets."""
    count = 0
    try:
        while True:
            os.dup(0)
            count += 1
    except OSError as error:
        return f"{errno.errorcode[error.errno or 0]} after {count}"


@app.function(timeout=60)
def log_flood() -> str:
    """More lines than anybody reads."""
    for number in range(100_000):
        sys.stdout.write(f"line {number} of a flood\n")
    return "written"


@app.function(timeout=60)
def endless_line() -> str:
    """A line of 32 MiB."""
    for _ in range(32):
        sys.stdout.write("x" * MIB)
    return "written"


@app.function(timeout=2, grace=1)
def never_answer() -> None:
    """Hear nothing and say nothing."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        with suppress(BaseException):
            threading.Event().wait()


# -- liars: what they write on their channel is not what a worker writes


def say(data: bytes) -> None:
    """On the worker's own channel, past the runtime."""
    os.write(CHANNEL, data)


def frame(message: object) -> bytes:
    """As a worker frames it."""
    data = json.dumps(message).encode()
    return struct.pack("!I", len(data)) + data


def wait() -> None:
    """For what comes of it."""
    threading.Event().wait(10)


@app.function()
def giant_frame() -> None:
    """One that says it has 4 GiB."""
    say(struct.pack("!I", 0xFFFFFFFF) + b"x" * 1000)
    wait()


@app.function()
def malformed_frame() -> None:
    """Bytes that are no message."""
    say(struct.pack("!I", 12) + b"\xff" * 12)
    wait()


@app.function()
def half_a_frame() -> None:
    """A message whose end never comes, and then the end of the process."""
    say(struct.pack("!I", 1000) + b"{")
    os._exit(0)


@app.function()
def unknown_kind() -> None:
    """A message that nobody knows."""
    say(real_frame("Ready", kind="Nonsense"))
    wait()


def real_frame(name: str, kind: str = "", **fields: object) -> bytes:
    """A message as the runtime packs it, of a kind that may be another."""
    from relight.protocol import channel
    from relight.protocol.codec import pack

    data = pack(
        getattr(channel, name)(**fields) if not kind else channel.Ready(import_seconds=0, enter_seconds=0, python="")
    )
    data = data.replace(b"Ready", kind.encode()) if kind else data
    return struct.pack("!I", len(data)) + data


@app.function()
def end_of_anothers_call(other: str) -> None:
    """An end for a call that it was not given."""
    from relight.protocol.calls import CallEvent

    say(real_frame("Ended", call=other, outcome=CallEvent.SUCCEEDED))
    wait()


@app.function()
def item_of_anothers_stream(other: str) -> None:
    """An item for a generator that somebody else runs."""
    from relight.protocol.payload import JSON, Payload

    say(real_frame("Item", call=other, number=1, payload=Payload(format=JSON, data=b"1")))
    wait()


@app.function()
def two_ends() -> None:
    """Its own call's end, twice."""
    from relight.protocol.calls import CallEvent
    from relight.protocol.inside import inside
    from relight.protocol.payload import JSON, Payload

    end = real_frame(
        "Ended", call=inside.call, outcome=CallEvent.SUCCEEDED, result=Payload(format=JSON, data=b'"forged"')
    )
    say(end + end)
    wait()


@app.function()
def ready_again() -> None:
    """A word that is said once."""
    say(real_frame("Ready", import_seconds=0, enter_seconds=0, python="3"))
    wait()


@app.function()
def giant_value() -> None:
    """A result that says it has more bytes than there are."""
    from relight.protocol.calls import CallEvent
    from relight.protocol.inside import inside
    from relight.protocol.payload import JSON, Payload

    say(
        real_frame(
            "Ended", call=inside.call, outcome=CallEvent.SUCCEEDED, result=Payload(format=JSON, data=None, size=1 << 60)
        )
    )
    wait()


@app.function()
def many_descriptors() -> None:
    """More descriptors than any message has."""
    channel = socket.socket(fileno=os.dup(CHANNEL))
    with suppress(OSError):
        while True:
            socket.send_fds(channel, [struct.pack("!I", 1000)[:1]], [0] * 200)
    wait()


# -- from inside: what is asked of the server


def ask(method: str, path: str, body: str | None = None) -> int:
    """The status that the server answers with, through the worker's own socket."""
    from relight.protocol.inside import inside

    connection = http.client.HTTPConnection("worker")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(inside.platform)
    connection.request(method, path, body)
    return connection.getresponse().status


@app.function()
def ask_for_more(other: str) -> dict[str, int]:
    """What no worker may ask for."""
    return {
        "tokens": ask("GET", "/v1/tokens"),
        "a token": ask("POST", "/v1/tokens", "{}"),
        "nodes": ask("GET", "/v1/nodes"),
        "apps": ask("GET", "/v1/apps"),
        "logs": ask("GET", f"/v1/logs?call={other}"),
        "starts": ask("GET", "/v1/starts"),
        "cancel": ask("POST", f"/v1/calls/{other}/cancel"),
        "another's call": ask("GET", f"/v1/calls/{other}"),
    }
