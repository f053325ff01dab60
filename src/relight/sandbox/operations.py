"""What is done to make a sandbox: each operation is a value with `execute()` and `describe()`, and decides nothing.

They run in three places.  *Inside* ones run in the sandbox's first process, in new namespaces with every capability
there and none elsewhere.  *Outside* ones run in the launcher before it: only root needs them.  *Worker* ones run in
the process that becomes the user's, just before it does.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import stat
import struct
from dataclasses import dataclass
from typing import Protocol

from relight.sandbox import filters, landlock, syscalls
from relight.sandbox.users import Owner, limit_user_namespaces, make_users, open_user_namespace, write_text

Trees = dict[str, int]
"""Descriptors of mounts that are taken and not yet placed, by where they will be."""

_BACKLOG = 64


class Operation(Protocol):
    """One step."""

    def execute(self, trees: Trees) -> None:
        """Do it.  Raises OSError."""

    def describe(self) -> str:
        """What it does, in one line."""


@dataclass(frozen=True, slots=True)
class TakeTree:
    """Take a detached copy of a host path, read-only unless `writable`, to be placed at `target`.

    Taken before anything changes: afterwards there is no host to take from, so a symbolic link in a mounted folder
    can lead a later step nowhere but into the sandbox itself.
    """

    source: str
    target: str
    writable: bool = False
    has_devices: bool = False
    owner: Owner | None = None

    def execute(self, trees: Trees) -> None:
        tree = syscalls.open_tree(self.source)
        trees[self.target] = tree
        attributes = syscalls.MOUNT_ATTR_NOSUID
        attributes |= 0 if self.has_devices else syscalls.MOUNT_ATTR_NODEV
        attributes |= 0 if self.writable else syscalls.MOUNT_ATTR_RDONLY
        if self.owner is None:
            syscalls.mount_setattr(tree, attributes)
            return
        userns = open_user_namespace(self.owner)
        try:
            syscalls.mount_setattr(tree, attributes, userns=userns)
        finally:
            os.close(userns)

    def describe(self) -> str:
        how = "read-write" if self.writable else "read-only"
        shown = f", owner {self.owner.uid} shown as {self.owner.shown_uid}" if self.owner else ""
        return f"take {self.source} for {self.target}, {how}{shown}"


@dataclass(frozen=True, slots=True)
class PlaceTree:
    """Attach what was taken for `target` there."""

    target: str

    def execute(self, trees: Trees) -> None:
        tree = trees.pop(self.target)
        try:
            _make_mount_point(self.target, is_folder=stat.S_ISDIR(os.fstat(tree).st_mode))
            syscalls.move_mount(tree, self.target)
        finally:
            os.close(tree)

    def describe(self) -> str:
        return f"place {self.target}"


@dataclass(frozen=True, slots=True)
class MountNew:
    """Mount a fresh file system of `kind`."""

    kind: str
    target: str
    options: str = ""
    may_execute: bool = False

    def execute(self, trees: Trees) -> None:
        os.makedirs(self.target, exist_ok=True)
        # A node made on devpts is a device: NODEV would make every terminal unopenable.
        flags = syscalls.MS_NOSUID | (0 if self.kind == "devpts" else syscalls.MS_NODEV)
        flags |= 0 if self.may_execute else syscalls.MS_NOEXEC
        syscalls.mount(self.kind, self.target, flags, self.options)

    def describe(self) -> str:
        return f"mount a new {self.kind} at {self.target}" + (f" ({self.options})" if self.options else "")


@dataclass(frozen=True, slots=True)
class EnterRoot:
    """Make `folder` the root and let the host's go."""

    folder: str

    def execute(self, trees: Trees) -> None:
        os.chdir(self.folder)
        # With the same folder twice the old root is stacked upon the new one, and needs no place inside it.
        syscalls.pivot_root(".", ".")
        syscalls.detach(".")
        os.chdir("/")

    def describe(self) -> str:
        return f"make {self.folder} the root and detach the host's"


@dataclass(frozen=True, slots=True)
class SealRoot:
    """Make the root itself read-only; the mounts below it stay as they are."""

    def execute(self, trees: Trees) -> None:
        root = os.open("/", os.O_PATH | os.O_CLOEXEC)
        try:
            syscalls.mount_setattr(root, syscalls.MOUNT_ATTR_RDONLY, recursive=False)
        finally:
            os.close(root)

    def describe(self) -> str:
        return "make the root read-only"


@dataclass(frozen=True, slots=True)
class MakeFolder:
    """A folder, with its parents."""

    path: str
    mode: int = 0o755

    def execute(self, trees: Trees) -> None:
        os.makedirs(self.path, exist_ok=True)
        os.chmod(self.path, self.mode)

    def describe(self) -> str:
        return f"make the folder {self.path} ({self.mode:04o})"


@dataclass(frozen=True, slots=True)
class MakeLink:
    """A symbolic link."""

    path: str
    leads_to: str

    def execute(self, trees: Trees) -> None:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        os.symlink(self.leads_to, self.path)

    def describe(self) -> str:
        return f"link {self.path} to {self.leads_to}"


@dataclass(frozen=True, slots=True)
class MakePlace:
    """An empty file that nobody may open, for a device to be mounted upon."""

    path: str

    def execute(self, trees: Trees) -> None:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o000))

    def describe(self) -> str:
        return f"make a place for {self.path}"


@dataclass(frozen=True, slots=True)
class WriteFile:
    """A small file."""

    path: str
    text: str

    def execute(self, trees: Trees) -> None:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(self.text)

    def describe(self) -> str:
        return f"write {self.path} ({len(self.text)} characters)"


@dataclass(frozen=True, slots=True)
class WriteProgram:
    """A program that can be executed, and not be read: what runs it cannot be looked into either."""

    path: str
    data: bytes

    def execute(self, trees: Trees) -> None:
        descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o111)
        try:
            os.fchmod(descriptor, 0o111)
            os.write(descriptor, self.data)
        finally:
            os.close(descriptor)

    def describe(self) -> str:
        return f"write the program {self.path} ({len(self.data)} bytes)"


@dataclass(frozen=True, slots=True)
class Become:
    """Become this user, without any other group where `clear_groups`.

    Capabilities in the namespace survive: it has no uid 0 that could be left.
    """

    uid: int
    gid: int
    clear_groups: bool

    def execute(self, trees: Trees) -> None:
        if self.clear_groups:
            os.setgroups([])
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        syscalls.set_dumpable(False)

    def describe(self) -> str:
        return f"become uid {self.uid}, gid {self.gid}" + (", no other groups" if self.clear_groups else "")


@dataclass(frozen=True, slots=True)
class DieWithParent:
    """Be killed when the thread that forked this process ends.  After `Become`, which would undo it."""

    def execute(self, trees: Trees) -> None:
        syscalls.set_parent_death_signal(signal.SIGKILL)

    def describe(self) -> str:
        return "die with the parent"


@dataclass(frozen=True, slots=True)
class AdoptOrphans:
    """Become the parent of descendants that lose theirs; in a process namespace pid 1 is that anyway."""

    def execute(self, trees: Trees) -> None:
        syscalls.set_child_subreaper()

    def describe(self) -> str:
        return "adopt orphaned descendants"


@dataclass(frozen=True, slots=True)
class LeaveGroupView:
    """Show the group this process is in as the root of all groups.

    After the group was joined: with `clone3` the view would be of the launcher's group.
    """

    def execute(self, trees: Trees) -> None:
        syscalls.unshare(syscalls.CLONE_NEWCGROUP)

    def describe(self) -> str:
        return "unshare the view of control groups"


@dataclass(frozen=True, slots=True)
class SetHostname:
    """The machine's name, as seen inside."""

    name: str

    def execute(self, trees: Trees) -> None:
        socket.sethostname(self.name)

    def describe(self) -> str:
        return f"set the host name {self.name}"


@dataclass(frozen=True, slots=True)
class RaiseLoopback:
    """Bring up `lo`, which a new network namespace has, down."""

    def execute(self, trees: Trees) -> None:
        set_flags, up_and_running = 0x8914, 0x1 | 0x40
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
            fcntl.ioctl(door, set_flags, struct.pack("16sh14x", b"lo", up_and_running))

    def describe(self) -> str:
        return "bring the loopback interface up"


@dataclass(frozen=True, slots=True)
class ForbidUserNamespaces:
    """No user namespace below this one: they hand out the capabilities by which most kernel holes are reached."""

    def execute(self, trees: Trees) -> None:
        limit_user_namespaces(0)

    def describe(self) -> str:
        return "forbid further user namespaces"


@dataclass(frozen=True, slots=True)
class LockPrivileges:
    """Drop every capability and every way to get one back."""

    def execute(self, trees: Trees) -> None:
        syscalls.set_no_new_privileges()
        syscalls.drop_capabilities()

    def describe(self) -> str:
        return "set no_new_privs and drop all capabilities"


@dataclass(frozen=True, slots=True)
class EnterInnerUsers:
    """Enter a user namespace, a mount namespace and others (`namespaces`) below those in which the root was made.

    What is mounted by then is locked: nobody inside, whatever capabilities they hold there, can make it writable or
    look beneath it.
    """

    uid: int
    gid: int
    namespaces: int = 0

    def execute(self, trees: Trees) -> None:
        syscalls.set_dumpable(True)  # an undumpable process cannot write its own maps; nobody else is here yet
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | self.namespaces)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{self.uid} {self.uid} 1"),
            ("gid_map", f"{self.gid} {self.gid} 1"),
        ):
            write_text(f"/proc/self/{name}", text)
        syscalls.set_dumpable(False)

    def describe(self) -> str:
        return f"enter inner user and mount namespaces, which lock the mounts, and others ({self.namespaces:#x})"


@dataclass(frozen=True, slots=True)
class PrepareUsers:
    """Make so many user namespaces below this one, and forbid any more, here and in each.

    Kept among the trees, under `users_key`: who has the capability to enter one need not have the right to make one.
    """

    uid: int
    count: int

    def execute(self, trees: Trees) -> None:
        limit_user_namespaces(self.count)
        for number in range(self.count):
            trees[users_key(number)] = make_users(self.uid)

    def describe(self) -> str:
        return f"make {self.count} user namespaces, and forbid others"


@dataclass(frozen=True, slots=True)
class EnterUsers:
    """Enter a prepared user namespace, and mount and other `namespaces` below it, which locks what is mounted by then."""

    number: int
    namespaces: int

    def execute(self, trees: Trees) -> None:
        users = trees.pop(users_key(self.number))
        try:
            syscalls.setns(users)
        finally:
            os.close(users)
        syscalls.unshare(syscalls.CLONE_NEWNS | self.namespaces)
        syscalls.set_dumpable(False)

    def describe(self) -> str:
        return f"enter user namespace {self.number} and others ({self.namespaces:#x}), which lock the mounts"


@dataclass(frozen=True, slots=True)
class KeepCapabilities:
    """Drop every capability but these, which survive `exec`, and every way to get another one."""

    kept: tuple[int, ...]

    def execute(self, trees: Trees) -> None:
        syscalls.set_no_new_privileges()
        syscalls.drop_capabilities(self.kept)

    def describe(self) -> str:
        return f"set no_new_privs and drop all capabilities but {', '.join(map(str, self.kept))}"


@dataclass(frozen=True, slots=True)
class Listen:
    """A unix socket that listens at `path`; it is kept among the trees, under its path."""

    path: str

    def execute(self, trees: Trees) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(self.path)
            listening.listen(_BACKLOG)
            trees[self.path] = os.dup(listening.fileno())

    def describe(self) -> str:
        return f"listen at {self.path}"


@dataclass(frozen=True, slots=True)
class SetNoNewPrivileges:
    """Set-uid programs grant nothing any more."""

    def execute(self, trees: Trees) -> None:
        syscalls.set_no_new_privileges()

    def describe(self) -> str:
        return "set no_new_privs"


@dataclass(frozen=True, slots=True)
class ForbidCalls:
    """Have the kernel refuse the system calls of a filter (a name in `filters`), from here on and in whatever is executed."""

    name: str
    machine: str

    def execute(self, trees: Trees) -> None:
        syscalls.filter_calls(getattr(filters, self.name)[self.machine])

    def describe(self) -> str:
        return f"forbid system calls ({self.name}, {self.machine})"


@dataclass(frozen=True, slots=True)
class RestrictReach:
    """Landlock's rules for a worker in namespaces; `version` is that of its interface."""

    version: int

    def execute(self, trees: Trees) -> None:
        _restrict(landlock.rules_inside(self.version))

    def describe(self) -> str:
        return "make no device, reach nobody outside"


@dataclass(frozen=True, slots=True)
class RestrictWrites:
    """Landlock's rules for a plain process, which may write below `writable`."""

    version: int
    writable: tuple[str, ...]

    def execute(self, trees: Trees) -> None:
        _restrict(landlock.rules_for_process(self.version, self.writable))

    def describe(self) -> str:
        return f"write below {', '.join(self.writable)} alone, reach nobody outside"


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session and process group of its own, without a terminal."""

    def execute(self, trees: Trees) -> None:
        os.setsid()

    def describe(self) -> str:
        return "start a session"


@dataclass(frozen=True, slots=True)
class LimitResource:
    """Both limits of a resource (a name of the module `resource`), never above the present hard one."""

    name: str
    value: int

    def execute(self, trees: Trees) -> None:
        which = getattr(resource, self.name)
        _, hard = resource.getrlimit(which)
        value = self.value if hard == resource.RLIM_INFINITY else min(self.value, hard)
        resource.setrlimit(which, (value, value))

    def describe(self) -> str:
        return f"limit {self.name} to {self.value}"


@dataclass(frozen=True, slots=True)
class OfferToOomKiller:
    """When memory runs out let the worker go first: then its end can still be told."""

    def execute(self, trees: Trees) -> None:
        syscalls.set_dumpable(True)  # what is undumpable, as init is, cannot even write about itself
        with open("/proc/self/oom_score_adj", "w", encoding="utf-8") as file:
            file.write("500")

    def describe(self) -> str:
        return "be the first to go when memory runs out"


@dataclass(frozen=True, slots=True)
class ChangeFolder:
    """The working folder."""

    path: str

    def execute(self, trees: Trees) -> None:
        os.chdir(self.path)

    def describe(self) -> str:
        return f"change to {self.path}"


def users_key(number: int) -> str:
    """The name, among the trees, of a user namespace that `PrepareUsers` made."""
    return f"users/{number}"


def _restrict(rules: int) -> None:
    try:
        syscalls.restrict_self(rules)
    finally:
        os.close(rules)


def _make_mount_point(path: str, *, is_folder: bool) -> None:
    if os.path.lexists(path):
        return
    os.makedirs(path if is_folder else os.path.dirname(path), exist_ok=True)
    if not is_folder:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
