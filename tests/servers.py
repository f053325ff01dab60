"""A real server for tests: `relight up` on a folder, with its agent, and what is needed to hurt it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

import relight

START_SECONDS = 30.0


class Server:
    """One `relight up`.  `start` may be called again after `kill`: the folder stays."""

    def __init__(self, folder: Path, *options: str, python: Sequence[str] = (sys.executable,), **process: Any) -> None:
        """`python` runs it; `process` are further words for Popen."""
        self.folder = folder
        self._options = options
        self._python = python
        self._words = process
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it; returns once it says that it is up."""
        command = [
            *self._python,
            "-m",
            "relight",
            "up",
            "--data-dir",
            str(self.folder),
            "--port",
            "0",
            "--node",
            "here",
        ]
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "server.out").open("a") as errors:
            self._process = subprocess.Popen(
                [*command, *self._options], stdout=subprocess.PIPE, stderr=errors, text=True, **self._words
            )
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], START_SECONDS)[0], "the server said nothing"
        line = self._process.stdout.readline()
        assert line.startswith("relight is up"), f"{line!r}: see {self.folder}/server.out"

    @property
    def url(self) -> str:
        """Its TCP address."""
        return str(json.loads((self.folder / "run" / "server.json").read_text())["url"])

    @property
    def token(self) -> str:
        """What its TCP address asks for."""
        return (self.folder / "token").read_text()

    def get(self, path: str) -> Any:
        """What its API answers, as JSON."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def lines(self, path: str) -> list[Any]:
        """What its API answers, as JSON lines."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return [json.loads(line) for line in answer]

    @property
    def pid(self) -> int:
        """Its process."""
        return int(json.loads((self.folder / "run" / "server.json").read_text())["pid"])

    @property
    def agent_pid(self) -> int:
        """The process of its agent, as soon as that has taken its lock."""
        lock = self.folder / "agent" / "agent.lock"
        wait_until(lambda: lock.exists() and bool(lock.read_text()), self)
        return int(lock.read_text().partition("\n")[0])

    def kill(self) -> None:
        """kill -9 of the server alone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def wait_dead(self) -> None:
        """Return when it has killed itself, as a fault point lets it."""
        assert self._process is not None
        self._process.wait(60)
        self.kill()

    def kill_agent(self) -> None:
        """kill -9 of its agent."""
        os.kill(self.agent_pid, signal.SIGKILL)

    def stop(self) -> None:
        """Stop it as an operator would, and its agent with it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(40)
            finally:
                self.kill()


@contextmanager
def serving(
    folder: Path, *apps: relight.App, around: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Iterator[Server]:
    """A server and its agent on `folder`, which this process's SDK finds, with the first of the apps deployed.

    Whatever a test has deployed of the others, too, lets go of the server at the end.  It is started within `around`.
    """
    started = Server(folder)
    with around():
        started.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RELIGHT_DATA_DIR", str(folder))
            apps[0].deploy()
            yield started
            for app in apps:
                if app._session is not None:
                    app._session.connection.close()
                    app._session = None
    finally:
        started.stop()


def wait_until(is_so: Callable[[], bool], server: Server) -> None:
    """Ask the server until something is so; each round waits for an answer of its own, never for the clock."""
    while not is_so():
        server.get("/v1/health")


def workers_of(server: Server) -> list[int]:
    """The pids of the processes in the server's sandboxes that run calls: those started afresh, and forks of templates."""
    below = _below(server.agent_pid)
    forks = {child for pid in below if _is_template(pid) for child in _children(pid)}
    return [
        pid for pid in below if pid in forks or b"relight.runtime.worker" in _command(pid) or grown_as(pid) == "worker"
    ]


def templates_of(server: Server) -> list[int]:
    """The pids of the processes that only fork workers."""
    below = _below(server.agent_pid)
    forks = {child for pid in below if _is_template(pid) for child in _children(pid)}
    return [pid for pid in below if _is_template(pid) and pid not in forks]


def _is_template(pid: int) -> bool:
    return b"relight.runtime.template" in _command(pid) or grown_as(pid) == "template"


def bases_of(server: Server) -> list[int]:
    """The pids of the processes that only fork templates, and workers without one."""
    return [pid for pid in _below(server.agent_pid) if b"relight.runtime.base" in _command(pid) and not grown_as(pid)]


def grown_as(pid: int) -> str:
    """What a base's fork has become, by the name that it gave itself."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
    return name if name in ("template", "worker") else ""


def _below(pid: int) -> list[int]:
    return [one for child in _children(pid) for one in (child, *_below(child))]


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
