"""Real sandboxes for the tests: a bench that starts one, feeds it a program, and reads what it said and how it ended."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from relight.agent.sandboxes import Sandbox, Sandboxes
from relight.sandbox.facts import Facts
from relight.sandbox.spec import Isolation, SandboxExit, SandboxSpec


@dataclass(kw_only=True)
class Running:
    """A sandbox and our ends of its descriptors."""

    sandbox: Sandbox
    channel: socket.socket
    output: asyncio.StreamReader

    async def line(self) -> str:
        """The next line of what it writes."""
        return (await self.output.readline()).decode().rstrip("\n")


class Bench:
    """Starts sandboxes of one `Sandboxes` and cleans up after them."""

    def __init__(self, sandboxes: Sandboxes, state: Path) -> None:
        self.sandboxes = sandboxes
        self.state = state
        self._count = 0
        self._closing: list[socket.socket | asyncio.ReadTransport] = []

    @property
    def facts(self) -> Facts:
        return self.sandboxes.facts

    async def start(self, *argv: str, **spec: object) -> Running:
        """Start `argv`; `spec` are further fields of SandboxSpec."""
        self._count += 1
        fields: dict[str, object] = {"id": f"test-{self._count}", "argv": argv, **spec}
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb")
        )
        self._closing += [ours, transport]
        try:
            spec_made = SandboxSpec(**fields)  # type: ignore[arg-type]
            sandbox = await self.sandboxes.start(spec_made, channel=theirs, stdout=write, stderr=write)
        finally:
            theirs.close()
            os.close(write)
        return Running(sandbox=sandbox, channel=ours, output=reader)

    async def run(self, *argv: str, **spec: object) -> tuple[str, SandboxExit]:
        """Start `argv`, wait for its end; its output and how it ended."""
        running = await self.start(*argv, **spec)
        output = await running.output.read()
        return output.decode(), await running.sandbox.wait()

    async def shell(self, script: str, **spec: object) -> tuple[str, SandboxExit]:
        return await self.run("/bin/sh", "-c", script, **spec)

    async def python(self, program: str, **spec: object) -> tuple[str, SandboxExit]:
        return await self.run(SYSTEM_PYTHON, "-I", "-S", "-c", program, **spec)

    def groups(self) -> list[Path]:
        """The folders of control groups that belong to sandboxes now."""
        parents = [Path(line) for line in (self.state / "groups").read_text().splitlines()]
        return [entry for parent in parents if parent.is_dir() for entry in parent.iterdir() if entry.is_dir()]

    async def close(self) -> None:
        await self.sandboxes.close()
        for thing in self._closing:
            thing.close()


SYSTEM_PYTHON = "/usr/bin/python3"


async def _bench(state: Path, isolation: Isolation | None) -> AsyncIterator[Bench]:
    bench = Bench(Sandboxes(state, isolation=isolation), state)
    await bench.sandboxes.open()
    try:
        yield bench
    finally:
        await bench.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Sandboxes in namespaces, made by root; skipped where the machine has neither."""
    async for bench in _bench(tmp_path / "state", None):
        if os.geteuid() != 0 or bench.sandboxes.isolation is not Isolation.NAMESPACES:
            pytest.skip(f"needs root and namespaces: {bench.facts.denial or 'not root'}")
        yield bench


@pytest.fixture
async def plain_bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Sandboxes that are plain processes, as on a machine that denies namespaces."""
    async for bench in _bench(tmp_path / "state", Isolation.PROCESS):
        yield bench


@pytest.fixture(params=[None, Isolation.PROCESS], ids=["namespaces", "process"])
async def any_bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """Both: what must hold wherever a sandbox runs."""
    async for bench in _bench(tmp_path / "state", request.param):
        yield bench
