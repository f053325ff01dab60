"""`Image.host()`: the Python of this machine as mounts, at its own paths, read-only, and nothing beside it.

A description comes from whoever deploys, so it is believed in nothing: each folder it names must be what it is named
for (a Python installation, a virtual environment, a folder of Python source), and none may be, hold, or lie in what
nobody's function is to see.  It reads the file system and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import HostImage
from relight.sandbox.spec import Mount

_ALWAYS_THERE = ("/usr", "/bin", "/sbin", "/lib", "/lib64")  # every sandbox has them, see sandbox/plan.py
_NEVER = (
    "/",
    "/etc",
    "/root",
    "/home",
    "/var",
    "/tmp",
    "/run",
    "/proc",
    "/sys",
    "/dev",
    "/boot",
    "/opt",
    "/mnt",
    "/srv",
)
_NEVER_BELOW = ("/etc", "/proc", "/sys", "/dev", "/boot")
_LINKS = 40  # as many as the kernel follows
_LOOKED_AT = 2_000  # entries of a source folder, in which one module must be found


def host_mounts(image: HostImage, *, forbidden: Iterable[str] = ()) -> tuple[Mount, ...]:
    """The mounts that show `image` in a sandbox; `forbidden` are folders of the platform's own (its data folder).

    Raises InvalidRequest when a path is not what it is given out for, or leads where no function is to look.
    """
    guard = _Guard(tuple(forbidden))
    folders = [_python_folder(image.base_prefix, image, guard)]
    if image.prefix != image.base_prefix:
        folders.append(_environment_folder(image.prefix, image, guard))
    inside = (*_ALWAYS_THERE, *(os.path.realpath(folder) for folder in folders))
    folders += [_source_folder(path, guard) for path in image.paths if not _is_within(os.path.realpath(path), inside)]
    mounts = _mounts_of([*folders, *_aliases(image.python, folders)])
    _check_program(image.python, mounts)
    return mounts


class _Guard:
    """What may not be shown, whoever asks."""

    def __init__(self, forbidden: tuple[str, ...]) -> None:
        self._forbidden = tuple(os.path.realpath(path) for path in forbidden)

    def check(self, path: str) -> str:
        """The path, if it may be shown."""
        if not os.path.isabs(path) or os.path.normpath(path) != path:
            raise _refusal(path, "it is not an absolute path in its shortest form", "name it so")
        if not os.path.isdir(path):
            raise _refusal(path, "there is no such folder on this machine", "deploy from the machine it runs on")
        real = os.path.realpath(path)
        if real in _NEVER or os.path.dirname(real) == "/home" or _is_within(real, _NEVER_BELOW):
            raise _refusal(path, f"{real} holds more than one environment", "use a virtual environment")
        for kept in self._forbidden:
            if _is_within(kept, (real,)) or _is_within(real, (kept,)):
                raise _refusal(path, f"relight keeps its own data in {kept}", "move the environment elsewhere")
        return path


def _python_folder(path: str, image: HostImage, guard: _Guard) -> str:
    guard.check(path)
    minor = ".".join(image.version.split(".")[:2])
    library = Path(path, "lib", f"python{minor}")
    if not (library.is_dir() or Path(path, "lib64", library.name).is_dir()) or not _programs(path, minor):
        raise _refusal(path, f"it has no bin/python{minor} with lib/python{minor}", "name a Python installation")
    return path


def _environment_folder(path: str, image: HostImage, guard: _Guard) -> str:
    if not Path(path, "pyvenv.cfg").is_file():
        return _python_folder(path, image, guard)
    guard.check(path)
    if not _programs(path, ""):
        raise _refusal(path, "it has a pyvenv.cfg but no bin/python", "make the virtual environment anew")
    return path


def _source_folder(path: str, guard: _Guard) -> str:
    guard.check(path)
    entries = islice(_entries(path, depth=2), _LOOKED_AT)
    if not any(name.endswith((".py", ".so", ".pth")) for name in entries):
        raise _refusal(path, "there is no Python module in it", "reinstall the package that names it")
    return path


def _programs(prefix: str, minor: str) -> list[str]:
    names = (f"python{minor}", "python3", "python")
    return [name for name in names if os.path.lexists(os.path.join(prefix, "bin", name))]


def _entries(folder: str, *, depth: int) -> Iterator[str]:
    try:
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        return
    for entry in found:
        yield entry.name
        if depth and entry.is_dir(follow_symlinks=False):
            yield from _entries(entry.path, depth=depth - 1)


def _mounts_of(folders: list[str]) -> tuple[Mount, ...]:
    """Each folder at its own path, and at its real one where that is another: links lead there."""
    paths = dict.fromkeys(folders)
    paths.update(dict.fromkeys(os.path.realpath(folder) for folder in folders))
    shown: list[str] = []
    for path in sorted(paths, key=len):
        if not _is_within(path, (*_ALWAYS_THERE, *shown)):
            shown.append(path)
    return tuple(Mount(source=os.path.realpath(path), target=path) for path in shown)


def _aliases(python: str, folders: list[str]) -> list[str]:
    """Other names of the folders by which links lead to the program: uv has `cpython-3.11` for `cpython-3.11.7`."""
    real = {os.path.realpath(folder) for folder in folders}
    prefixes = [os.path.dirname(os.path.dirname(link)) for link in _links(python)]
    return [prefix for prefix in prefixes if os.path.isabs(prefix) and os.path.realpath(prefix) in real]


def _links(path: str) -> list[str]:
    """The path, what it is a link to, and so on to the end."""
    chain = [path]
    while os.path.islink(path) and len(chain) < _LINKS:
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
        chain.append(path)
    return chain


def _check_program(python: str, mounts: tuple[Mount, ...]) -> None:
    """Each link from `python` to the program, and that itself, must be to be seen in the sandbox."""
    visible = (*_ALWAYS_THERE, *(mount.target for mount in mounts))
    chain = _links(python)
    for path in chain:
        if not os.path.isabs(path) or not _is_within(os.path.normpath(path), visible):
            raise InvalidRequest(
                f"cannot use the host's Python {python}: it leads to {path}, outside of {', '.join(visible)};"
                " start the deploy with the environment's own bin/python"
            )
    if not os.path.isfile(chain[-1]) or not os.access(chain[-1], os.X_OK):
        raise InvalidRequest(f"cannot use the host's Python {python}: {chain[-1]} is no program; name bin/python")


def _is_within(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _refusal(path: str, why: str, what_to_do: str) -> InvalidRequest:
    return InvalidRequest(f"cannot mount {path}: {why}; {what_to_do}")
