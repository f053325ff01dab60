"""What a worker may still write to, and whom it may still reach, by Landlock: a second wall behind mounts and namespaces.

In namespaces a worker sees what it was given, and the mounts are read-only: there it makes no device, speaks to no
device outside /dev, and reaches neither processes nor abstract sockets outside its sandbox.  The last is the first wall
and not the second on the machine's own network, whose services listen at abstract sockets.  Rules for every folder that
can be written to would cost each fork 0.2 ms, and forbid what the mounts forbid.  A plain process has no mounts of its
own: it writes to its own folders alone.

Whoever is under rules can mount nothing, so a fork is put under them once it has entered its shell.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from relight.sandbox import syscalls

_WRITE_FILE, _MAKE_CHARACTER_DEVICE, _MAKE_BLOCK_DEVICE = 1 << 1, 1 << 6, 1 << 11
_ENTRIES = sum(
    1 << bit for bit in (4, 5, 7, 8, 9, 10, 12)
)  # of folders: to remove, to make files, sockets, pipes, links
_REFER = 1 << 13  # to move and link from folder to folder; forbidden by every rule unless it is allowed
_TRUNCATE = 1 << 14
_SPEAK_TO_DEVICE = 1 << 15
_SINCE = {_REFER: 2, _TRUNCATE: 3, _SPEAK_TO_DEVICE: 5}  # versions of the interface
_ABSTRACT_SOCKETS, _SIGNALS, _SCOPES_SINCE = 1, 2, 6

_MAKE_DEVICE = _MAKE_CHARACTER_DEVICE | _MAKE_BLOCK_DEVICE
_FILE = _WRITE_FILE | _TRUNCATE


def rules_inside(version: int) -> int:
    """For a worker in namespaces, as a descriptor; those of one template share it.  `version`: what the kernel has, 1 at least."""
    allowed = (("/", _REFER), ("/dev", _SPEAK_TO_DEVICE))
    return _make(version, _MAKE_DEVICE | _REFER | _SPEAK_TO_DEVICE, allowed)


def rules_for_process(version: int, writable: Iterable[str]) -> int:
    """For a plain process, as a descriptor: it writes below these paths, to devices, and to what is known of itself."""
    folder = _FILE | _ENTRIES | _REFER
    allowed = (
        *(("/dev", _FILE | _SPEAK_TO_DEVICE), ("/dev/shm", folder), ("/proc", _FILE)),
        *((path, folder if os.path.isdir(path) else _FILE) for path in writable),
    )
    return _make(version, _MAKE_DEVICE | _SPEAK_TO_DEVICE | folder, allowed)


def _make(version: int, handled: int, allowed: Iterable[tuple[str, int]]) -> int:
    handled &= ~sum(right for right, since in _SINCE.items() if version < since)
    rules = syscalls.create_ruleset(handled, _ABSTRACT_SOCKETS | _SIGNALS if version >= _SCOPES_SINCE else 0)
    try:
        for path, rights in allowed:
            if rights & handled and os.path.exists(path):
                opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
                try:
                    syscalls.allow_beneath(rules, opened, rights & handled)
                finally:
                    os.close(opened)
    except OSError:
        os.close(rules)
        raise
    return rules
