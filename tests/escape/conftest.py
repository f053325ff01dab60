"""A server of root's, and one of a user's with a delegated part of the control groups; on each, all is tried once."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import httptools
import markdown_it
import mdurl
import msgspec
import pygments
import pytest
import rich
import uvloop

import relight
from escape.attempts import ATTEMPTS
from relight.sandbox.cgroups import find_groups
from servers import Server

USER = 1001
HERE = Path(__file__).parent
NEEDED = (click, rich, httptools, msgspec, uvloop, pygments, markdown_it, mdurl, relight)
SUBJECTS = ("app_escape.py", "app_hogs.py", "app_imports.py", "drive.py")
MINUTES = 5 * 60

BEFORE = {"mounts": ("unshare", "--mount", "--propagation", "private"), "names": ("unshare", "--uts")}
"""What runs a witness that would change more than its own process."""

# As root: step into the groups, become the user, and be the program.
BECOME = (
    "import os, sys; groups, uid, *command = sys.argv[1:]\n"
    "for folder in filter(None, groups.split(':')):\n"
    "    open(folder + '/cgroup.procs', 'w').write('0')\n"
    "if int(uid):\n"
    "    os.setgroups([]); os.setgid(int(uid)); os.setuid(int(uid))\n"
    "os.execv(command[0], command)"
)


@dataclass(frozen=True, kw_only=True)
class Person:
    """Whom the server runs as: with which Python, in which groups, with what around."""

    uid: int
    python: str
    folder: Path
    groups: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """What its programs find."""
        paths = {"PYTHONPATH": str(self.folder / "source")} if self.uid else {}
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**kept, **paths, "HOME": str(self.folder / "home"), "PYTHONDONTWRITEBYTECODE": "1"}

    def command(self, *arguments: str) -> list[str]:
        """To run this Python as them."""
        return [sys.executable, "-I", "-S", "-c", BECOME, ":".join(self.groups), str(self.uid), self.python, *arguments]

    def run(self, *arguments: str, **environment: str) -> str:
        """What a program of theirs prints."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment | environment,
            cwd=self.folder / "app",
            capture_output=True,
            text=True,
            timeout=MINUTES,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout


class Place:
    """A server with its surroundings, and what came of all that was tried on it."""

    def __init__(self, person: Person, server: Server) -> None:
        self.person = person
        self.server = server
        self._witnesses: dict[str, dict[str, str]] = {}

    @cached_property
    def escapes(self) -> dict[str, Any]:
        """By function, what each attempt met."""
        return dict(self._drive("escapes"))

    @cached_property
    def hogs(self) -> dict[str, Any]:
        """By function, how its call ended, and the neighbour's."""
        return dict(self._drive("hogs"))

    @cached_property
    def templates(self) -> dict[str, Any]:
        """By function, how calls ended whose templates hog or lie."""
        return dict(self._drive("templates"))

    def witness(self, name: str) -> str:
        """What an attempt meets where there are no walls: in a plain process of the same person."""
        kind = ATTEMPTS[name].witness
        if kind not in self._witnesses:
            self._witnesses[kind] = self._outcomes([one for one, tried in ATTEMPTS.items() if tried.witness == kind])
        return self._witnesses[kind][name]

    def _outcomes(self, names: Sequence[str]) -> dict[str, str]:
        program = (
            "import json, sys; sys.path.insert(0, '.'); import attempts; "
            "print(json.dumps({name: attempts.outcome(name) for name in sys.argv[1:]}))"
        )
        person = self.person
        done = subprocess.run(
            [*BEFORE.get(ATTEMPTS[names[0]].witness, ()), *person.command("-c", program, *names)],
            env=person.environment,
            cwd=person.folder / "app",
            capture_output=True,
            text=True,
            timeout=MINUTES,
        )
        assert done.returncode == 0, done.stderr
        said: dict[str, str] = json.loads(done.stdout)
        return said

    def _drive(self, what: str) -> Any:
        return json.loads(self.person.run("drive.py", what, RELIGHT_DATA_DIR=str(self.server.folder)).splitlines()[-1])


def python_of(uid: int) -> str:
    """A Python that this user can run, of this version, whose compiled packages fit."""
    minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in (sys.executable, f"/usr/bin/python{minor}", f"/usr/local/bin/python{minor}"):
        as_user = {"user": uid, "group": uid, "extra_groups": []} if uid else {}
        try:
            if subprocess.run([candidate, "-I", "-c", ""], capture_output=True, cwd="/", **as_user).returncode == 0:
                return candidate
        except OSError:
            continue
    pytest.skip(f"no Python {minor} here that another user can run")


def delegate(name: str, uid: int) -> tuple[str, ...]:
    """Groups below this process's own that are a user's to divide."""
    layout = find_groups(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text(), is_root=True)
    folders = tuple(
        f"{folder}/{name}" for folder in filter(None, (*(tree for _, tree in layout.trees), layout.unified))
    )
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
        for path in (
            folder,
            *(f"{folder}/{file}" for file in ("cgroup.procs", "tasks", "cgroup.subtree_control", "cgroup.threads")),
        ):
            if os.path.exists(path):
                os.chown(path, uid, uid)
    return folders


def prepare(folder: Path, uid: int) -> Person:
    """Everything they need, where they can read it."""
    folder.chmod(0o755)
    for name in ("home", "app", "data"):
        (folder / name).mkdir()
        os.chown(folder / name, uid, uid)
    for name in SUBJECTS:
        shutil.copy(HERE / name, folder / "app" / name)
    shutil.copytree(HERE / "attempts", folder / "app" / "attempts", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "a+rX", folder / "app"], check=True)
    if uid:
        for package in NEEDED:
            path = Path(str(package.__file__)).parent
            shutil.copytree(path, folder / "source" / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["chmod", "-R", "a+rX", folder / "source"], check=True)
    (folder / "secret").write_text("s3cret")
    (folder / "secret").chmod(0o644)
    groups = delegate(f"relight-escape-{os.getpid()}", uid) if uid else ()
    return Person(uid=uid, python=python_of(uid), folder=folder, groups=groups)


def aim(person: Person, server: Server, stack: ExitStack) -> None:
    """Say where what is outside can be found, and have somebody listen there."""
    abstract = f"relight-escape-{os.getpid()}-{person.uid}"
    listening = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
    listening.bind("\0" + abstract)
    listening.listen()
    targets = {
        "secret": str(person.folder / "secret"),
        "data": str(server.folder),
        "token": str(server.folder / "token"),
        "home": str(person.folder / "home"),
        "socket": str(server.folder / "run" / "relight.sock"),
        "server": server.agent_pid,
        "port": server.url.rpartition(":")[2],
        "abstract": abstract,
    }
    path = person.folder / "app" / "targets.py"
    path.write_text(f"TARGETS = {targets!r}\n")
    path.chmod(0o644)


@pytest.fixture(scope="session", params=["root", "rootless"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Each in turn."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be root and to become another user")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        person = prepare(folder, 0 if request.param == "root" else USER)
        server = Server(folder / "data", python=person.command(), env=person.environment, cwd=folder)
        try:
            server.start()
            aim(person, server, stack)
            yield Place(person, server)
        finally:
            server.stop()
            for group in person.groups:
                stack.callback(remove_group, group)


def remove_group(folder: str) -> None:
    """With what a server has left below it."""
    for path, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # the kernel may need a moment, and it is empty
            os.rmdir(path)
