"""Attempts on what is of the machine and of neighbours: files, /proc, /sys, devices, processes."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import tempfile
from contextlib import suppress
from pathlib import Path

from .means import attempt, call, read, sleeper, target

# -- files of the machine and of neighbours


@attempt("ENOENT", witness="user")
def read_a_file_of_the_host() -> str:
    return read(target("secret"))


@attempt("ENOENT", witness="server")
def read_the_servers_token() -> str:
    return read(target("token"))


@attempt("ENOENT", witness="server")
def list_the_data_folder() -> list[str]:
    return os.listdir(target("data"))


@attempt("ENOENT", witness="server")
def list_the_servers_home() -> list[str]:
    return os.listdir(target("home"))


@attempt("ENOENT", witness="root")
def read_the_hosts_passwords() -> str:
    return read("/etc/shadow")


@attempt("ENOENT", "EACCES", "EPERM")
def read_through_the_root_of_the_first_process() -> str:
    return read(f"/proc/1/root{target('secret')}")


@attempt("ENOENT", witness="user")
def climb_above_the_root() -> str:
    return read("/../../../../../../.." + target("secret"))


@attempt("ENOENT", witness="user")
def follow_a_link_out() -> str:
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(target("secret"), f"{folder}/link")
        return read(f"{folder}/link")


@attempt("EXDEV", "EPERM", "EROFS", "ENOENT")
def link_a_program_to_where_it_can_be_written() -> str:
    os.link("/usr/bin/env", "/tmp/env")
    return "linked"


@attempt("EROFS", "EACCES", witness="root")
def write_to_a_system_file() -> str:
    os.close(os.open("/usr/lib/os-release", os.O_WRONLY))
    return "opened"


@attempt("EROFS", "EACCES")
def change_the_code_that_other_workers_run() -> str:
    os.close(os.open(__file__, os.O_WRONLY))
    return "opened"


@attempt("EROFS", "EACCES", "ENOENT")
def change_the_runtime_that_other_workers_run() -> str:
    os.close(os.open("/run/relight/lib/relight/__init__.py", os.O_WRONLY))
    return "opened"


@attempt("EROFS", "EACCES")
def leave_a_file_in_the_root() -> str:
    Path("/left").write_text("x")
    return "left"


@attempt("EACCES", "EPERM", "EROFS", "ENOENT")
def find_a_neighbours_file() -> str:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError):
                found = f"/proc/{name}/root/tmp/neighbour"
                if os.path.exists(found):
                    return read(found)
    raise FileNotFoundError(errno.ENOENT, "neighbour")


@attempt("EPERM", witness="root")
def open_a_file_by_its_handle() -> str:
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    number = ctypes.c_int()
    call("name_to_handle_at", -100, b"/tmp", handle, ctypes.byref(number), 0)
    folder = os.open("/tmp", os.O_RDONLY)
    return f"opened {call('open_by_handle_at', folder, handle, os.O_RDONLY)}"


# -- /proc, /sys, devices


@attempt("ENOENT", "ESRCH", witness="server")
def read_the_servers_command_line() -> str:
    return read(f"/proc/{target('server')}/environ") + read(f"/proc/{target('server')}/maps")


@attempt("EACCES", "EROFS", "EPERM", witness="root")
def have_the_machine_execute_a_program_at_the_next_crash() -> str:
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    return "opened"


@attempt("EACCES", "EROFS", "EPERM", "ENOENT")
def press_the_keys_that_reboot() -> str:
    os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))
    return "opened"


@attempt("EACCES", "EPERM", "EROFS")
def allow_user_namespaces_again() -> str:
    Path("/proc/sys/user/max_user_namespaces").write_text("9")
    return "written"


@attempt("ENOENT", witness="user")
def look_into_sys() -> list[str]:
    return os.listdir("/sys/kernel")


@attempt("EACCES", "EPERM", "ENOENT")
def read_the_kernels_memory() -> str:
    return read("/proc/kcore")


@attempt("ENOENT", witness="root")
def read_the_kernels_log_device() -> str:
    os.close(os.open("/dev/kmsg", os.O_RDONLY))
    return "opened"


@attempt("EACCES", "EPERM")
def be_the_last_to_go_when_memory_runs_out() -> str:
    Path("/proc/self/oom_score_adj").write_text("-900")
    return "written"


@attempt("EPERM", "EACCES", witness="root")
def make_a_device() -> str:
    with tempfile.TemporaryDirectory() as folder:
        os.mknod(f"{folder}/disk", 0o60600, os.makedev(7, 0))
    return "made"


@attempt("EPERM", "EACCES", witness="root")
def make_the_device_of_memory() -> str:
    with tempfile.TemporaryDirectory() as folder:
        os.mknod(f"{folder}/mem", 0o20600, os.makedev(1, 1))
    return "made"


# -- processes


@attempt("ESRCH", witness="server")
def signal_the_server() -> str:
    os.kill(int(target("server")), 0)
    return "there"


@attempt("alive", "EPERM")
def end_the_first_process() -> str:
    with suppress(PermissionError):
        os.kill(1, signal.SIGKILL)
        os.kill(1, signal.SIGSTOP)
    os.kill(1, 0)
    raise RuntimeError("alive")


@attempt("EPERM", witness="user")
def trace_a_process() -> str:
    child = sleeper()
    attach = 16
    try:
        call("ptrace", attach, child, None, None)
    finally:
        os.kill(child, signal.SIGKILL)
    return "attached"


@attempt("EPERM", witness="user")
def read_a_process_memory() -> str:
    child = sleeper()
    here = ctypes.create_string_buffer(b"x" * 8)
    part = (ctypes.c_uint64 * 2)(ctypes.addressof(here), 8)
    try:
        call("process_vm_readv", child, part, ctypes.c_ulong(1), part, ctypes.c_ulong(1), ctypes.c_ulong(0))
    finally:
        os.kill(child, signal.SIGKILL)
    return "read"


@attempt("EACCES", "EPERM", "ENOENT", witness="root")
def see_the_descriptors_of_the_first_process() -> list[str]:
    return os.listdir("/proc/1/fd")


@attempt("EPERM", witness="user")
def compare_processes() -> str:
    files = 2
    return f"{call('kcmp', os.getpid(), os.getpid(), files, ctypes.c_ulong(0), ctypes.c_ulong(0))}"


@attempt("EPERM", witness="root")
def run_ahead_of_everybody() -> str:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    return "ahead"


@attempt("nothing")
def find_a_descriptor_that_was_left_open() -> list[str]:
    own, null = ("pipe:", "socket:", "anon_inode:[pidfd]", f"/proc/{os.getpid()}/fd"), os.makedev(1, 3)
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            leads_to = os.readlink(f"/proc/self/fd/{name}")
            if not leads_to.startswith(own) and os.stat(f"/proc/self/fd/{name}").st_rdev != null:
                found.append(leads_to)
    if found:
        return found
    raise RuntimeError("nothing")
