"""The machine as different people find it: root, users with and without control groups of their own, and one who may not
make namespaces, by a setting or by a filter.  Each runs relight from copies that everybody can read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

import relight
from relight.sandbox.cgroups import find_groups

USER = 1001
KINDS = ("root", "delegated", "undelegated", "no_namespaces", "no_unshare")

# Step into control groups, if any are named, then become a user, then be a command.
_BECOME = """
import os, sys
groups, uid, *command = sys.argv[1:]
for folder in filter(None, groups.split(":")):
    with open(folder + "/cgroup.procs", "w") as file:
        file.write("0")
if int(uid) != os.getuid():
    os.setgroups([])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
os.execv(command[0], command)
"""
_DENY = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'


# Refuse `unshare` (EPERM) and `clone3` (ENOSYS) by a filter of system calls, as containers do, then be a command.
_FILTER = """
import ctypes, os, struct, sys
unshare, command = int(sys.argv[1]), sys.argv[2:]
load, equal, answer = 0x20, 0x15, 0x06
steps = [
    (load, 0, 0, 0), (equal, 0, 1, unshare), (answer, 0, 0, 0x50000 | 1),
    (equal, 0, 1, 435), (answer, 0, 0, 0x50000 | 38), (answer, 0, 0, 0x7FFF0000),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0
os.execv(command[0], command)
"""
_UNSHARE = {"x86_64": 272, "aarch64": 97}


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What somebody finds: their Python, a home, the control groups that are theirs, and what they are run by."""

    kind: str
    uid: int
    python: str
    folder: Path
    groups: tuple[str, ...] = ()
    before: tuple[str, ...] = ()

    def relight(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What a command of theirs says."""
        become = (sys.executable, "-I", "-S", "-c", _BECOME, ":".join(self.groups), str(self.uid))
        environ = {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.folder / "home"),
            "PYTHONPATH": str(self.folder / "source"),
            "RELIGHT_DATA_DIR": str(self.folder / "data"),
        }
        return subprocess.run(
            [*become, *self.before, self.python, "-m", "relight", *words],
            env=environ,
            cwd=self.folder / "home",
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


def surroundings(kind: str, folder: Path) -> Surroundings:
    """Make them in a folder of few letters; skips where this machine, or whoever runs the tests, cannot."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become others")
    uid = 0 if kind == "root" else USER
    folder.chmod(0o755)
    for name in ("home", "data"):
        (folder / name).mkdir()
        os.chown(folder / name, uid, uid)
    _copy_packages(folder / "source")
    groups = _delegated(folder.name) if kind == "delegated" else ()
    python = _python_for(uid)
    before = {
        "no_namespaces": ("/usr/bin/unshare", "-Ur", "/bin/sh", "-c", _DENY, "sh"),
        "no_unshare": (python, "-c", _FILTER, str(_UNSHARE.get(os.uname().machine, -1))),
    }.get(kind, ())
    return Surroundings(kind=kind, uid=uid, python=python, folder=folder, groups=groups, before=before)


def give_back(here: Surroundings) -> None:
    """Remove what is left of them."""
    shutil.rmtree(here.folder)
    for folder in here.groups:
        for path, _, _ in os.walk(folder, topdown=False):
            os.rmdir(path)


def _copy_packages(source: Path) -> None:
    """relight, and all that it needs."""
    package = Path(relight.__file__).parent
    shutil.copytree(package, source / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for needed in _needed("relight") - {"relight"}:
        installed = metadata.distribution(needed)
        for file in installed.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (source / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(installed.locate_file(file)), source / file)
    for path in (source, *source.rglob("*")):
        path.chmod(0o755)


def _needed(name: str) -> set[str]:
    """A distribution, and those that it needs here."""
    needed = {name}
    for requirement in metadata.requires(name) or ():
        wanted = re.split(r"[^\w.-]", requirement)[0]
        if "extra ==" not in requirement and wanted not in needed:
            with suppress(metadata.PackageNotFoundError):  # it is for other systems
                needed |= _needed(wanted)
    return needed


def _python_for(uid: int) -> str:
    """A Python that they can run, and that the compiled packages are for."""
    minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{minor}", f"/usr/local/bin/{minor}"):
        command = [sys.executable, "-I", "-S", "-c", _BECOME, "", str(uid), candidate, "-I", "-c", ""]
        if subprocess.run(command, cwd="/", capture_output=True, check=False).returncode == 0:
            return candidate
    pytest.skip(f"no {minor} here that another user can run")


def _delegated(name: str) -> tuple[str, ...]:
    """Control groups, below those of this process, that are the user's to divide."""
    mounts, own = (Path(f"/proc/self/{file}").read_text() for file in ("mountinfo", "cgroup"))
    layout = find_groups(mounts, own, is_root=True)
    folders = tuple(f"{tree}/{name}" for tree in (*(tree for _, tree in layout.trees), layout.unified) if tree)
    if not folders:
        pytest.skip(f"there are no control groups to hand on: {layout.reason}")
    for folder in map(Path, folders):
        folder.mkdir()
        for path in (folder, *(folder / file for file in ("cgroup.procs", "tasks", "cgroup.subtree_control"))):
            if path.exists():
                os.chown(path, USER, USER)
    return folders
