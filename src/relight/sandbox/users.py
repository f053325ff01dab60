"""User namespaces that nobody lives in: made by a child that is gone by the time they are used, held by a descriptor.

Only for a process with one thread: each is made by a fork.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from relight.sandbox import syscalls


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns a folder on the disk, and who shall seem to inside."""

    uid: int
    gid: int
    shown_uid: int


def open_user_namespace(owner: Owner) -> int:
    """One that maps one owner, as a descriptor; the maps are written from here, with the rights of this process."""
    uids, gids = (owner.uid, owner.shown_uid), (owner.gid, owner.shown_uid)
    return _hold(lambda: syscalls.unshare(syscalls.CLONE_NEWUSER), lambda child: write_maps(child, uids, gids))


def make_users(uid: int) -> int:
    """One below this one's, with the same one uid and gid, and none below it, as a descriptor."""
    return _hold(lambda: _live_as(uid), lambda child: None)


def write_maps(pid: int, uids: tuple[int, int], gids: tuple[int, int], *, deny_setgroups: bool = False) -> None:
    """Say which one uid and gid (inside, outside) exist in the user namespace of `pid`."""
    if deny_setgroups:  # the kernel wants it before an unprivileged gid_map
        write_text(f"/proc/{pid}/setgroups", "deny")
    write_text(f"/proc/{pid}/uid_map", f"{uids[0]} {uids[1]} 1")
    write_text(f"/proc/{pid}/gid_map", f"{gids[0]} {gids[1]} 1")


def limit_user_namespaces(most: int) -> None:
    """Let there be so many below this one's, and no more."""
    write_text("/proc/sys/user/max_user_namespaces", str(most))


def write_text(path: str, text: str) -> None:
    """Say something to the kernel."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _live_as(uid: int) -> None:
    """Enter a new one, and make its maps oneself."""
    syscalls.set_dumpable(True)  # an undumpable process cannot write its own maps
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{uid} {uid} 1")):
        write_text(f"/proc/self/{name}", text)
    limit_user_namespaces(0)


def _hold(enter: Callable[[], None], finish: Callable[[int], None]) -> int:
    """Have a child `enter` one, `finish` it from here, and keep it by a descriptor.  Raises OSError."""
    ready, tell = os.pipe()
    wait, release = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(release)
            enter()
            os.write(tell, b"1")
            os.read(wait, 1)
        finally:
            os._exit(0)
    try:
        os.close(tell)
        if not os.read(ready, 1):
            raise OSError(errno.EPERM, "no user namespace could be made")
        finish(child)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (ready, wait, release):
            os.close(descriptor)
        os.waitpid(child, 0)
