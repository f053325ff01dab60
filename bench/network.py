"""What a way out costs: a start, a shell that is made ahead of one, a connection, a byte; beside none, and the machine's own.

    python bench/network.py                     # a minute
    python bench/network.py --rounds 40

JSON lines go to the standard output, a table to the standard error.  Rounds take turns; a difference is the median of
the rounds' own differences.  Root, or anyone whom the machine lets make namespaces.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from coldsubjects import Caller, Case, deploy
from served import server_on

from relight.agent.sandboxes import Sandbox, Sandboxes
from relight.sandbox.spec import SandboxSpec, ShellSpec

CASE = Case(name="networked", app="cold-networked", file="networked.py", imports="")
PYTHON = "/usr/bin/python3"
SHELLS = 300
CONNECTIONS = 300
BYTES = 1 << 30
SHELLS_WARM = 10

TEMPLATE = """
import ctypes, os, socket
libc, control = ctypes.CDLL(None), socket.socket(fileno=3)
while True:
    data, namespaces, _, _ = socket.recv_fds(control, 1, 16)
    if not data: break
    libc.setns(namespaces[0], 0)
    if os.fork() == 0:
        for one in namespaces[1:]: assert libc.setns(one, 0) == 0
        control.send(b"1")
        os._exit(0)
    os.wait()
    for one in namespaces: os.close(one)
"""
"""What a template does: forks a child, which joins a shell's namespaces and says so."""

CLIENT = """
import socket, sys, time
where, connections, size = ({address!r}, {port}), {connections}, {size}
times = []
for _ in range(connections):
    began = time.perf_counter()
    with socket.create_connection(where) as s:
        s.sendall(b"1")
        assert s.recv(1) == b"1"
    times.append(time.perf_counter() - began)
times.sort()
buffer, got = bytearray(1 << 20), 0
began = time.perf_counter()
with socket.create_connection(where) as s:
    s.sendall(b"*")
    while n := s.recv_into(buffer): got += n
assert got == size
print(times[len(times) // 2] * 1e6, size / (time.perf_counter() - began) / 1e6)
"""


def main() -> int:
    """Measure; always 0."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100, help="pairs of starts")
    options = parser.parse_args()
    lines: list[dict[str, object]] = []

    def tell(what: str, **figures: object) -> None:
        lines.append({"what": what, **figures})
        print(json.dumps(lines[-1]), flush=True)

    with tempfile.TemporaryDirectory(prefix="rb-", ignore_cleanup_errors=True) as folder:
        starts(Path(folder), options.rounds, tell)
        asyncio.run(sandboxes(Path(folder), tell))
    for line in lines:
        print("  ".join(f"{key} {value}" for key, value in line.items()), file=sys.stderr)
    return 0


def starts(folder: Path, rounds: int, tell: Callable[..., None]) -> None:
    """A call that finds no worker, of a function with a way out and of one without, in pairs."""
    with server_on(folder / "data", {"RELIGHT_SWEEP_SECONDS": "0.05"}) as server:
        deploy(CASE, folder)
        callers = {name: Caller(server, "cold-networked", name) for name in ("none", "egress")}
        for caller in callers.values():
            for _ in range(3):
                caller.by_sdk()
        seen: dict[str, list[float]] = {name: [] for name in callers}
        for number in range(rounds):
            for name in sorted(callers, reverse=bool(number % 2)):
                seen[name].append(callers[name].by_sdk() * 1e3)
    pairs = [b - a for a, b in zip(seen["none"], seen["egress"], strict=True)]
    tell(
        "level-1 start, ms",
        none=_middle(seen["none"]),
        egress=_middle(seen["egress"]),
        difference=_middle(pairs),
        tenth_none=_tenth(seen["none"]),
        tenth_egress=_tenth(seen["egress"]),
        quartiles=[round(part, 3) for part in statistics.quantiles(pairs, n=4)],
        rounds=rounds,
    )


async def sandboxes(folder: Path, tell: Callable[..., None]) -> None:
    """What is made ahead, and what goes through it."""
    boxes = Sandboxes(folder / "state")
    await boxes.open()
    try:
        seen: dict[str, list[float]] = {"none": [], "egress": []}
        entered: dict[str, list[float]] = {"none": [], "egress": []}
        async with _template(boxes, "none") as none, _template(boxes, "egress") as egress:
            for number in range(SHELLS + SHELLS_WARM):
                for network, control in (("none", none), ("egress", egress)):
                    began = time.perf_counter()
                    shell = await boxes.start_shell(ShellSpec(id=f"{network}-{number}", template=network))
                    made = time.perf_counter()
                    socket.send_fds(control, [b"1"], list(shell.entrance.namespaces))
                    control.recv(1)
                    if number >= SHELLS_WARM:
                        entered[network].append((time.perf_counter() - made) * 1e3)
                        seen[network].append((made - began) * 1e3)
                    shell.take_listening().close()
                    await shell.kill()
        pairs = [b - a for a, b in zip(entered["none"], entered["egress"], strict=True)]
        tell(
            "fork into a shell, ms",
            **{network: _middle(times) for network, times in entered.items()},
            difference=_middle(pairs),
            **{f"tenth_{network}": _tenth(times) for network, times in entered.items()},
        )
        tell(
            "shell, ms",
            **{network: _middle(times) for network, times in seen.items()},
            **{f"tenth_{network}": _tenth(times) for network, times in seen.items()},
        )
        with _serving() as (address, port):
            for network in ("host", f"{address}/32"):
                program = CLIENT.format(address=address, port=port, connections=CONNECTIONS, size=BYTES)
                micros, rate = (await _output(boxes, network, program)).split()
                tell(
                    "connection and answer, µs; MB/s",
                    network="host" if network == "host" else "egress",
                    connection=round(float(micros)),
                    rate=round(float(rate)),
                )
    finally:
        await boxes.close()


class _template:
    """A process that shells are made around."""

    def __init__(self, boxes: Sandboxes, network: str) -> None:
        self._boxes, self._network = boxes, network
        self._ours, self._theirs = socket.socketpair()
        self._sandbox: Sandbox | None = None

    async def __aenter__(self) -> socket.socket:
        spec = SandboxSpec(
            id=self._network, argv=(PYTHON, "-I", "-S", "-c", TEMPLATE), network=self._network, is_template=True
        )
        self._sandbox = await self._boxes.start(spec, channel=self._theirs, stdout=2, stderr=2)
        self._theirs.close()
        return self._ours

    async def __aexit__(self, *_: object) -> None:
        self._ours.close()
        if self._sandbox is not None:
            await self._sandbox.kill()


async def _output(boxes: Sandboxes, network: str, program: str) -> str:
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    spec = SandboxSpec(
        id=f"client-{network.replace('/', '-')}", argv=(PYTHON, "-I", "-S", "-c", program), network=network
    )
    sandbox = await boxes.start(spec, channel=theirs, stdout=write, stderr=2)
    os.close(write)
    with ours, theirs, os.fdopen(read) as file:
        output = await asyncio.to_thread(file.read)
    await sandbox.wait()
    return output


@contextmanager
def _serving() -> Iterator[tuple[str, int]]:
    """A server, in a process of its own, at this machine's own address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as looking:
        looking.connect(("192.0.2.254", 9))
        address = looking.getsockname()[0]
    with socket.create_server((address, 0), backlog=512) as listening:
        child = os.fork()
        if child == 0:
            _serve(listening)
        try:
            yield address, listening.getsockname()[1]
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)


def _serve(listening: socket.socket) -> None:
    part = memoryview(bytearray(1 << 20))

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if connection.recv(1) == b"1":
                connection.sendall(b"1")
                return
            for _ in range(BYTES >> 20):
                connection.sendall(part)

    while True:
        threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()


def _tenth(times: list[float]) -> float:
    """What one in ten was quicker than: of a machine that others use, too, it says more than the middle."""
    return round(statistics.quantiles(times, n=10)[0], 3)


def _middle(times: list[float]) -> float:
    return round(statistics.median(times), 3)


if __name__ == "__main__":
    sys.exit(main())
