"""What attempts are made with: where they are kept, how each is run, and system calls by their names."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MACHINE = platform.machine()
NUMBERS = {
    "x86_64": {
        **{"ptrace": 101, "process_vm_readv": 310, "perf_event_open": 298, "bpf": 321, "userfaultfd": 323, "kcmp": 312},
        **{"add_key": 248, "keyctl": 250, "init_module": 175, "finit_module": 313, "kexec_load": 246, "reboot": 169},
        **{
            "name_to_handle_at": 303,
            "open_by_handle_at": 304,
            "setns": 308,
            "unshare": 272,
            "clone": 56,
            "syslog": 103,
        },
        **{"personality": 135, "pivot_root": 155, "acct": 163, "swapon": 167, "vmsplice": 278, "move_pages": 279},
        **{
            "modify_ldt": 154,
            "iopl": 172,
            "fanotify_init": 300,
            "seccomp": 317,
            "sched_setscheduler": 144,
            "getpid": 39,
        },
    },
    "aarch64": {
        **{"ptrace": 117, "process_vm_readv": 270, "perf_event_open": 241, "bpf": 280, "userfaultfd": 282, "kcmp": 272},
        **{"add_key": 217, "keyctl": 219, "init_module": 105, "finit_module": 273, "kexec_load": 104, "reboot": 142},
        **{
            "name_to_handle_at": 264,
            "open_by_handle_at": 265,
            "setns": 268,
            "unshare": 97,
            "clone": 220,
            "syslog": 116,
        },
        **{"personality": 92, "pivot_root": 41, "acct": 89, "swapon": 224, "vmsplice": 75, "move_pages": 239},
        **{"fanotify_init": 262, "seccomp": 277, "sched_setscheduler": 119, "getpid": 172},
    },
}[MACHINE]
SAME_EVERYWHERE = {
    **{"pidfd_open": 434, "clone3": 435, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430},
    **{"mount_setattr": 442, "memfd_secret": 447},
}
SECONDS = 10
NEW_USERS, NEW_MOUNTS, NEW_GROUPS, NEW_NAMES = 0x10000000, 0x00020000, 0x02000000, 0x04000000
REMOUNT, BIND, FRESH = 0x20, 0x1000, 14

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.mount.argtypes = (*(ctypes.c_char_p,) * 3, ctypes.c_ulong, ctypes.c_char_p)


@dataclass(frozen=True)
class Attempt:
    """`refusals` are the names of what may come of it; `witness` says as whom it works outside ("" where that cannot be shown)."""

    run: Callable[[], object]
    refusals: tuple[str, ...]
    witness: str


ATTEMPTS: dict[str, Attempt] = {}


def attempt(*refusals: str, witness: str = "") -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Register one, under its function's name."""

    def keep(run: Callable[[], object]) -> Callable[[], object]:
        ATTEMPTS[run.__name__] = Attempt(run, refusals, witness)
        return run

    return keep


def outcome(name: str) -> str:
    """What came of it: `done: …`, the name of an error, or that of the signal that ended its process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(SECONDS)
            try:
                said = f"done: {ATTEMPTS[name].run()}"
            except OSError as error:
                said = errno.errorcode.get(error.errno or 0, repr(error))
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
                said = repr(error)
            os.write(write, said.encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8", errors="replace") as answer:
        said = answer.read()
    status = os.waitpid(child, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else said


def outcomes() -> dict[str, str]:
    """All of them."""
    return {name: outcome(name) for name in ATTEMPTS}


def capabilities() -> int:
    """What this process may do, in the namespace it is in."""
    return next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff")
    )


def target(name: str) -> str:
    """Something outside."""
    import targets  # type: ignore[import-not-found]  # written for each server

    return str(targets.TARGETS[name])


def call(name: str, *arguments: object) -> int:
    """A system call.  Raises OSError."""
    number = SAME_EVERYWHERE.get(name) or NUMBERS[name]
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def mount(source: bytes | None, place: bytes, kind: bytes | None, flags: int) -> str:
    """Raises OSError."""
    if libc.mount(source, place, kind, flags, None):
        raise OSError(ctypes.get_errno(), place.decode())
    return "mounted"


def read(path: str) -> str:
    """The beginning of a file."""
    with open(path, "rb") as file:
        return repr(file.read(40))


def sleeper() -> int:
    """A child that waits."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        signal.pause()
    return child
