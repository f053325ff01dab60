"""A worker in a process of its own, driven over its channel as an agent would."""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import relight
from relight.protocol.calls import CallEvent
from relight.protocol.channel import TO_AGENT, Ended, Interrupt, Load, Ready, Run, Stop
from relight.protocol.codec import pack
from relight.protocol.payload import Payload
from relight.protocol.values import dump_input

SOURCE = Path(relight.__file__).parent.parent
MARK = "n0nce"
_LENGTH = struct.Struct("!I")


def _pythons() -> list[object]:
    """The Python that runs the tests, and, which takes its time, every other from 3.10 that pyenv has here."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {
        ".".join(path.parent.parent.name.split(".")[:2]): str(path)
        for path in root.glob("3.*/bin/python")
        if int(path.parent.parent.name.split(".")[1]) >= 10
    }
    found.pop(f"{sys.version_info.major}.{sys.version_info.minor}", None)
    return [sys.executable, *(pytest.param(path, marks=pytest.mark.slow) for path in found.values())]


PYTHONS = _pythons()


@dataclass
class Agent:
    """The other end of a worker's channel."""

    channel: socket.socket
    process: subprocess.Popen[bytes]
    folder: Path
    descriptors: list[int]

    def send(self, message: object, descriptors: tuple[int, ...] = ()) -> None:
        data = pack(message)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.channel.sendmsg([_LENGTH.pack(len(data)) + data], rights)

    def receive(self) -> object:
        size = _LENGTH.unpack(self._read(4))[0]
        return TO_AGENT.unpack(self._read(size))

    def load(self, qualname: str, source: str, *, is_class: bool = False, module: str = "app", **fields: Any) -> object:
        """Write the module, load the name, and hear what comes of it."""
        (self.folder / f"{module}.py").write_text(source)
        paths = (str(self.folder),)
        self.send(Load(module=module, qualname=qualname, is_class=is_class, paths=paths, mark=MARK, **fields))
        return self.receive()

    def start(self, *args: Any, call: str = "call-1", method: str = "", accept: tuple[str, ...] = ("pickle5",)) -> None:
        self.send(Run(call=call, attempt=1, payload=dump_input(args, {}), method=method, accept=accept))

    def call(self, *args: Any, method: str = "", accept: tuple[str, ...] = ("pickle5",)) -> Ended:
        self.start(*args, method=method, accept=accept)
        return self.end()

    def end(self) -> Ended:
        message = self.receive()
        assert isinstance(message, Ended), message
        return message

    def interrupt(self, reason: CallEvent, call: str = "call-1") -> None:
        self.send(Interrupt(call=call, reason=reason))
        self.process.send_signal(signal.SIGUSR1)

    def stop(self) -> tuple[int, bytes, bytes]:
        """Its exit code, and what it wrote."""
        self.send(Stop())
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err

    def wait_line(self) -> bytes:
        """Its next line on stdout."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part, ancillary, _, _ = self.channel.recvmsg(size - len(data), socket.CMSG_SPACE(16))
            for _, _, rights in ancillary:
                numbers = array.array("i")
                numbers.frombytes(rights)
                self.descriptors += numbers
            if not part:
                raise EOFError(self.process.communicate(timeout=20))
            data += part
        return data


StartAgent = Callable[..., Agent]


@pytest.fixture(params=PYTHONS, ids=lambda path: path.split("/")[-3])
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[StartAgent]:
    agents: list[Agent] = []

    def start(python: str = sys.executable, env: Mapping[str, str] | None = None) -> Agent:
        ours, theirs = socket.socketpair()
        ours.settimeout(20)
        moves = f"import os; os.dup2({theirs.fileno()}, 3)" + (
            f"; os.close({theirs.fileno()})" * (theirs.fileno() != 3)
        )
        boot = f"import sys; sys.path[0] = {str(SOURCE)!r}; from relight.runtime.worker import main; main()"
        process = subprocess.Popen(
            [python, "-c", f"{moves}; {boot}"],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
        )
        theirs.close()
        agent = Agent(ours, process, tmp_path, [])
        agents.append(agent)
        return agent

    yield start
    for agent in agents:
        agent.channel.close()
        if agent.process.poll() is None:
            agent.process.kill()
        agent.process.communicate(timeout=20)
        for descriptor in agent.descriptors:
            os.close(descriptor)


@pytest.fixture
def agent(start_agent: StartAgent) -> Agent:
    """A worker on this Python."""
    return start_agent()


def ready(message: object) -> Ready:
    assert isinstance(message, Ready), message
    return message


def data_of(payload: Payload | None) -> bytes:
    assert payload is not None
    assert payload.data is not None
    return payload.data


TEMPLATE = """
import json, os, select, sys
from relight.runtime import freezing, native, threads
from relight.runtime.freezing import Frozen, freeze, prepare
from relight.runtime.maps import libraries, read_maps
from relight.runtime.thawing import thaw

def forks(count, function, frozen, cpu=None):
    found = []
    for _ in range(count):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                thaw(frozen, cpu)
                os.write(writer, json.dumps(function()).encode())
            finally:
                os._exit(1)
        os.close(writer)
        ready, _, _ = select.select([reader], [], [], 20)
        data = os.read(reader, 1 << 20) if ready else b'"hangs"'
        if not ready:
            os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(reader)
        found.append(json.loads(data or '"died"'))
    return found

def report(value):
    print(json.dumps(value))
"""

RunTemplate = Callable[..., Any]


@pytest.fixture
def run_template(tmp_path: Path) -> RunTemplate:
    """Run a script in a process of its own, where it can freeze and fork; what it reports.

    There, `forks(count, function, frozen, cpu)` lists what the function returns in so many forks: "hangs" for one that
    takes 20 seconds, "died" for one that says nothing.
    """

    def run(source: str, *options: str, env: Mapping[str, str] | None = None) -> Any:
        done = subprocess.run(
            [sys.executable, *options, "-c", TEMPLATE + textwrap.dedent(source)],
            capture_output=True,
            text=True,
            timeout=110,
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
