"""The door to the kernel: one function per system call that Python has no name for.

Each takes Python values, raises OSError with the path it was about, and decides nothing.  The library is opened as
PyDLL, so that the interpreter's lock is held across a call: a `clone3` that let it go would return in the child into
a lock nobody there owns.
"""

from __future__ import annotations

import ctypes
import os

CLONE_VFORK = 0x00004000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_CLONE_PIDFD = 0x00001000
_CLONE_INTO_CGROUP = 0x200000000

MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
_MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 0x00000001
MOUNT_ATTR_NOSUID = 0x00000002
MOUNT_ATTR_NODEV = 0x00000004
MOUNT_ATTR_NOEXEC = 0x00000008
_MOUNT_ATTR_IDMAP = 0x00100000
_MS_PRIVATE = 1 << 18

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_SECCOMP = 21
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
CAP_NET_BIND_SERVICE = 10
CAP_NET_ADMIN = 12
CAP_NET_RAW = 13
CAP_SYS_CHROOT = 18
CAP_SYS_PTRACE = 19
CAP_SYS_ADMIN = 21
_LINUX_CAPABILITY_VERSION_3 = 0x20080522

# From 424 on, a system call has the same number on every architecture but alpha.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_CLONE3 = 435
_SYS_CLOSE_RANGE = 436
_SYS_MOUNT_SETATTR = 442
_SYS_LANDLOCK_CREATE_RULESET = 444
_SYS_LANDLOCK_ADD_RULE = 445
_SYS_LANDLOCK_RESTRICT_SELF = 446

_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}.get(os.uname().machine, -1)
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
_INSTRUCTION_BYTES = 8
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1

_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


_U64 = ctypes.c_uint64


class _CloneArgs(ctypes.Structure):
    _fields_ = (
        *(("flags", _U64), ("pidfd", _U64), ("child_tid", _U64), ("parent_tid", _U64), ("exit_signal", _U64)),
        *(("stack", _U64), ("stack_size", _U64), ("tls", _U64), ("set_tid", _U64), ("set_tid_size", _U64)),
        ("cgroup", _U64),
    )


class _MountAttr(ctypes.Structure):
    _fields_ = (("attr_set", _U64), ("attr_clr", _U64), ("propagation", _U64), ("userns_fd", _U64))


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", _U64), ("network", _U64), ("scoped", _U64))


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", _U64), ("folder", ctypes.c_int32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


_CapWords = _CapData * 2

# Found and made here, so that a fork that enters its shell, and gives its capabilities up, finds all that it needs.
_libc_mount = _libc.mount
_libc_mount.argtypes = (*(ctypes.c_char_p,) * 3, ctypes.c_ulong, ctypes.c_char_p)
_libc_unshare = _libc.unshare
_libc_setns = _libc.setns
_libc_prctl = _libc.prctl
_libc_prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_libc_capset = _libc.capset
_SELF = ctypes.byref(_CapHeader(version=_LINUX_CAPABILITY_VERSION_3, pid=0))
_NOTHING = ctypes.byref(_CapWords())


def clone3(namespaces: int, *, cgroup: int | None = None) -> tuple[int, int]:
    """Fork into new namespaces and, where given, straight into a v2 group (a descriptor of its folder).

    Returns (pid, pidfd) in the parent and (0, -1) in the child.  Not a fork of glibc: no `pthread_atfork` handler
    runs and no lock is put right, so only a process with one thread may call it, and its child should do little.
    """
    pidfd = ctypes.c_int(-1)
    args = _CloneArgs(flags=namespaces | _CLONE_PIDFD, pidfd=ctypes.addressof(pidfd), exit_signal=17)
    if cgroup is not None:
        args.flags |= _CLONE_INTO_CGROUP
        args.cgroup = cgroup
    pid = _syscall(_SYS_CLONE3, ctypes.byref(args), ctypes.c_size_t(ctypes.sizeof(args)))
    return (pid, pidfd.value) if pid else (0, -1)


def unshare(namespaces: int) -> None:
    """Leave these namespaces for new ones (`CLONE_NEWPID`: for the children to come)."""
    _check(_libc_unshare(namespaces))


def setns(namespace: int) -> None:
    """Join a namespace, a descriptor of a file in /proc/PID/ns (one of processes: for the children to come)."""
    _check(_libc_setns(namespace, 0))


def mount(kind: str, target: str, flags: int = 0, options: str = "") -> None:
    """A new file system of `kind` at `target`."""
    _check(_libc_mount(kind.encode(), os.fsencode(target), kind.encode(), flags, options.encode()), target)


def detach(target: str) -> None:
    """Take the mount at `target`, and what is below it, out of this namespace."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make `new_root` the root, the old one is then at `put_old`."""
    _check(_libc.pivot_root(os.fsencode(new_root), os.fsencode(put_old)), new_root)


def open_tree(path: str) -> int:
    """A detached copy of the mounts at and below `path`, as a descriptor: seen nowhere until `move_mount`."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
    return _syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), ctypes.c_uint(flags), path=path)


def move_mount(tree: int, target: str) -> None:
    """Attach what `open_tree` made."""
    _syscall(
        _SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH), path=target
    )


def mount_setattr(tree: int, attributes: int, *, userns: int | None = None, recursive: bool = True) -> None:
    """Set attributes on every mount of a tree, make it private; `userns`: show owners through that mapping.

    One call reaches the mounts below too, where a read-only bind remount reaches the topmost alone.
    """
    attr = _MountAttr(attr_set=attributes, propagation=_MS_PRIVATE)
    if userns is not None:
        attr.attr_set |= _MOUNT_ATTR_IDMAP
        attr.userns_fd = userns
    flags = ctypes.c_uint(_AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0))
    _syscall(_SYS_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(attr), ctypes.c_size_t(ctypes.sizeof(attr)))


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close every descriptor from `first` to `last`."""
    _syscall(_SYS_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(last), 0)


def set_parent_death_signal(number: int) -> None:
    """Receive a signal when the *thread* that forked this process ends.  A change of uid forgets it."""
    _prctl(_PR_SET_PDEATHSIG, number)


def set_child_subreaper() -> None:
    """Become the parent of every descendant that loses its own."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_dumpable(is_dumpable: bool) -> None:
    """Whether this process may dump core, and those of its uid look into it (ptrace, /proc/PID/fd)."""
    _prctl(_PR_SET_DUMPABLE, int(is_dumpable))


def set_no_new_privileges() -> None:
    """From here on `exec` grants nothing: set-uid bits and file capabilities are void."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities(kept: tuple[int, ...] = ()) -> None:
    """Give up every capability but the kept ones, now and for whatever is executed later."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(64):
        if capability in kept:
            continue
        if _libc_prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            break  # EINVAL: one more than the kernel knows
    _set_capabilities(sum(1 << capability for capability in kept))
    for capability in kept:  # what survives the next exec of a user that is not root
        _check(_libc_prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0))


def limit_capabilities(kept: tuple[int, ...]) -> None:
    """Give up every capability of this process but the kept ones; what it executes has none, unless it is root."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _set_capabilities(sum(1 << capability for capability in kept), inheritable=0)


def clear_capabilities() -> None:
    """Give up what `drop_capabilities` kept; quick, as none can be got back already."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _check(_libc_capset(_SELF, _NOTHING))


def filter_calls(program: bytes) -> None:
    """Have every system call of this process, and of what it starts, pass this program (classic BPF) from here on.

    After `set_no_new_privileges`.  Each further program is asked, too, and the strictest answer counts.
    """
    # Without SPEC_ALLOW, kernels before 5.16 slow every filtered process down against attacks within one process.
    flags = ctypes.c_ulong(_SECCOMP_FILTER_FLAG_SPEC_ALLOW)
    filled = _Program(len(program) // _INSTRUCTION_BYTES, program)
    _syscall(_SYS_SECCOMP, _SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(filled))


def are_calls_filtered() -> bool:
    """Whether this process is under a program of `filter_calls`."""
    return bool(_libc_prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) == 2)


def landlock_version() -> int:
    """The version of Landlock's interface that the kernel has, 0 where it has none."""
    try:
        return _syscall(_SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION)
    except OSError:
        return 0


def create_ruleset(files: int, scoped: int) -> int:
    """Rules of Landlock, as a descriptor: forbid these accesses to files, and reaching out of the domain by these ways."""
    rules = _Ruleset(files=files, scoped=scoped)
    return _syscall(_SYS_LANDLOCK_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(ctypes.sizeof(rules)), 0)


def allow_beneath(rules: int, path: int, allowed: int) -> None:
    """Allow these accesses at and below an open path."""
    rule = _PathRule(allowed=allowed, folder=path)
    _syscall(_SYS_LANDLOCK_ADD_RULE, rules, _LANDLOCK_RULE_PATH_BENEATH, ctypes.byref(rule), 0)


def restrict_self(rules: int) -> None:
    """Put this process, and what it starts, under rules.  After `set_no_new_privileges`."""
    _syscall(_SYS_LANDLOCK_RESTRICT_SELF, rules, 0)


def _set_capabilities(mask: int, *, inheritable: int | None = None) -> None:
    assert mask < 1 << 32, "only the first word is used"
    data = _CapWords()
    data[0] = _CapData(effective=mask, permitted=mask, inheritable=mask if inheritable is None else inheritable)
    _check(_libc_capset(_SELF, ctypes.byref(data)))


def _prctl(option: int, value: int) -> None:
    _check(_libc_prctl(option, value, 0, 0, 0))


def _syscall(number: int, *arguments: object, path: str | None = None) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    _check(result, path)
    return result


def _check(result: int, path: str | None = None) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
