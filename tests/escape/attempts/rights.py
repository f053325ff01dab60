"""Attempts to have more rights: users, privileges, namespaces, mounts."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from .means import BIND, FRESH, NEW_GROUPS, NEW_MOUNTS, NEW_NAMES, NEW_USERS, REMOUNT, attempt, call, libc, mount

# -- users and privileges


@attempt("EPERM", "EINVAL", witness="root")
def become_root() -> str:
    os.setresuid(0, 0, 0)
    return "root"


@attempt("no", witness="user")
def become_root_by_a_program_that_may() -> str:
    process = subprocess.Popen(
        ["/usr/bin/su", "-c", "true"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    try:
        until = time.monotonic() + 0.5
        while time.monotonic() < until and process.poll() is None:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            if next(line.split()[2] for line in lines if line.startswith("Uid:")) == "0":
                return "root"
    finally:
        process.kill()
        process.wait()
    raise RuntimeError("no")


@attempt("EINVAL")
def take_privileges_by_execution_again() -> str:
    no_new_privileges = 38
    if libc.prctl(no_new_privileges, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    return "may"


@attempt("EPERM", witness="root")
def take_every_capability() -> str:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    every = 0xFFFFFFFF if os.getuid() else 1
    if libc.capset(
        header, (ctypes.c_uint32 * 6)(every, every, every, 0xFF if os.getuid() else 0, 0xFF if os.getuid() else 0, 0)
    ):
        raise OSError(ctypes.get_errno(), "capset")
    return "taken"


@attempt("EPERM", witness="user")
def keep_a_key_where_others_find_it() -> str:
    user_keyring = -4
    return f"key {call('add_key', b'user', b'relight-escape', b'x', ctypes.c_size_t(1), user_keyring)}"


@attempt("EPERM", witness="user")
def join_a_keyring() -> str:
    join_session = 1
    return f"keyring {call('keyctl', join_session, None)}"


# -- namespaces and mounts


@attempt("EPERM", witness="user")
def be_root_in_a_namespace_of_users() -> str:
    call("unshare", NEW_USERS)
    return "root there"


@attempt("EPERM", witness="user")
def be_root_in_a_namespace_of_users_by_clone() -> str:
    child = call("clone", ctypes.c_ulong(NEW_USERS | signal.SIGCHLD), None, None, None, None)
    if child == 0:
        os._exit(0)
    return "root there"


@attempt("ENOSYS", witness="user")
def be_root_in_a_namespace_of_users_by_clone3() -> str:
    asked = (ctypes.c_uint64 * 8)(NEW_USERS, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    child = call("clone3", asked, ctypes.c_size_t(64))
    if child == 0:
        os._exit(0)
    return "root there"


@attempt("EPERM", witness="root")
def have_mounts_of_its_own() -> str:
    call("unshare", NEW_MOUNTS)
    return "own mounts"


@attempt("EPERM", "ENOENT", "EACCES")
def join_the_first_process() -> str:
    call("setns", os.open("/proc/1/ns/uts", os.O_RDONLY), 0)
    return "joined"


@attempt("EPERM", "EINVAL")
def join_the_first_process_by_its_pidfd() -> str:
    call("setns", call("pidfd_open", 1, 0), NEW_NAMES)
    return "joined"


@attempt("EPERM", witness="mounts")
def bind_a_mount() -> str:
    return mount(b"/", b"/tmp", None, BIND)


@attempt("EPERM", witness="mounts")
def make_a_mount_writable() -> str:
    if not os.path.ismount("/usr"):  # no sandbox
        mount(b"/usr", b"/usr", None, BIND)
    return mount(None, b"/usr", None, REMOUNT | BIND)


@attempt("EPERM", witness="mounts")
def mount_a_new_file_system() -> str:
    return mount(b"tmpfs", b"/tmp", b"tmpfs", FRESH)


@attempt("EPERM")
def look_beneath_a_mount() -> str:
    detach = 2
    if libc.umount2(b"/usr", detach):
        raise OSError(ctypes.get_errno(), "umount2")
    return "beneath"


@attempt("EPERM")
def mount_its_control_groups_and_lift_its_limits() -> str:
    with suppress(OSError):
        call("unshare", NEW_GROUPS)
    os.makedirs("/tmp/groups", exist_ok=True)
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    mount(b"cgroup2", b"/tmp/groups", b"cgroup2", FRESH)
    return f"{lines} {os.listdir('/tmp/groups')}"


@attempt("EPERM", witness="root")
def copy_a_mount_by_descriptor() -> str:
    return f"tree {call('open_tree', -100, b'/', 1)}"


@attempt("EPERM", witness="root")
def open_a_file_system_by_descriptor() -> str:
    return f"context {call('fsopen', b'tmpfs', 0)}"


@attempt("EPERM")
def change_a_mount_by_descriptor() -> str:
    attributes = (ctypes.c_uint64 * 4)(0, 1, 0, 0)
    return f"{call('mount_setattr', -100, b'/usr', 0, attributes, ctypes.c_size_t(32))}"


@attempt("EPERM")
def turn_the_root_round() -> str:
    return f"{call('pivot_root', b'/tmp', b'/tmp')}"


@attempt("EPERM", witness="root")
def leave_a_changed_root() -> str:
    outside = os.open("/", os.O_RDONLY)
    os.makedirs("/tmp/jail", exist_ok=True)
    os.chroot("/tmp/jail")
    os.fchdir(outside)
    return repr(os.listdir("."))


@attempt("EPERM")
def account_for_processes() -> str:
    return f"{call('acct', b'/tmp/accounts')}"


@attempt("EPERM")
def swap_to_a_file() -> str:
    return f"{call('swapon', b'/tmp/swap', 0)}"


@attempt("EPERM", witness="names")
def name_the_machine() -> str:
    socket.sethostname("mine")
    return "named"
