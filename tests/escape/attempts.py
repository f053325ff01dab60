"""Attempts to get out of a sandbox, as code that runs in it: each does what it says, or raises what it was refused with.

Standard library alone, and nothing of relight: the same code is run in workers, in templates as they import it, and as
a plain process, where it shows that an attempt would work if there were no wall.  Each runs in a child of its own, since
some end it.  What is outside, and how it may be found, is in a module beside this one, `targets`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
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


# -- doors of the kernel


@attempt("EPERM", witness="bpf")
def run_a_program_in_the_kernel() -> str:
    create_map, array = 0, 2
    return f"map {call('bpf', create_map, (ctypes.c_uint32 * 18)(array, 4, 4, 1), ctypes.c_uint(72))}"


@attempt("EPERM", "EACCES", witness="root")
def measure_the_processor() -> str:
    software, clock = 1, 0
    attributes = ctypes.create_string_buffer(struct.pack("IIQ", software, 112, clock) + bytes(96))
    return f"event {call('perf_event_open', attributes, 0, -1, -1, ctypes.c_ulong(0))}"


@attempt("EPERM", witness="user")
def answer_page_faults() -> str:
    user_mode_only = 1
    return f"descriptor {call('userfaultfd', user_mode_only)}"


@attempt("EPERM", witness="user")
def use_io_uring() -> str:
    return f"ring {call('io_uring_setup', 1, ctypes.create_string_buffer(120))}"


@attempt("SIGSYS")
def load_a_module() -> str:
    return f"{call('init_module', None, ctypes.c_ulong(0), b'')}"


@attempt("SIGSYS")
def load_a_module_from_a_file() -> str:
    return f"{call('finit_module', -1, b'', 0)}"


@attempt("SIGSYS")
def start_another_kernel() -> str:
    too_many = 1 << 20
    return f"{call('kexec_load', ctypes.c_ulong(0), ctypes.c_ulong(too_many), None, ctypes.c_ulong(0))}"


@attempt("SIGSYS")
def reboot() -> str:
    return f"{call('reboot', 0, 0, 0, None)}"  # by words that no kernel takes: where there is no wall, EINVAL or EPERM


@attempt("EPERM", witness="root")
def read_the_kernels_log() -> str:
    read_all = 3
    return f"{call('syslog', read_all, ctypes.create_string_buffer(64), 64)} bytes"


@attempt("EPERM")
def set_the_clock() -> str:
    time.clock_settime(time.CLOCK_REALTIME, time.time())
    return "set"


@attempt("EPERM", witness="user")
def make_data_executable() -> str:
    read_implies_execute = 0x0400000
    return f"{call('personality', ctypes.c_ulong(read_implies_execute))}"


@attempt("EPERM", witness="user")
def lend_pages_to_a_pipe() -> str:
    _, into = os.pipe()
    page = mmap.mmap(-1, 4096)
    part = (ctypes.c_uint64 * 2)(ctypes.addressof(ctypes.c_char.from_buffer(page)), 4096)
    return f"{call('vmsplice', into, part, ctypes.c_ulong(1), 0)}"


@attempt("EPERM", "EAFNOSUPPORT", witness="fanotify")
def watch_every_file() -> str:
    return f"{call('fanotify_init', 0x200, os.O_RDONLY)}"


@attempt("EPERM", witness="root")
def type_for_somebody_else() -> str:
    push = 0x5412
    _, terminal = os.openpty()
    os.setsid()
    fcntl.ioctl(terminal, 0x540E, 0)  # make it this session's
    fcntl.ioctl(terminal, push, b"x")
    return "typed"


@attempt("EPERM")
def lift_the_filter_by_another() -> str:
    allow_all = ctypes.create_string_buffer(struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000))
    call(
        "seccomp",
        1,
        ctypes.c_ulong(0),
        ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(allow_all))),
    )
    return f"ring {call('io_uring_setup', 1, ctypes.create_string_buffer(120))}"


@attempt("ENOSYS", "SIGSYS")
def call_by_the_numbers_of_another_architecture() -> str:
    if MACHINE != "x86_64":
        raise OSError(errno.ENOSYS, "there is no other")
    x32 = 0x40000000
    result = libc.syscall(ctypes.c_long(x32 | NUMBERS["getpid"]))
    if result < 0:
        raise OSError(ctypes.get_errno(), "x32")
    return f"{result}"


@attempt("SIGSYS", "ENOSYS", "SIGSEGV")
def call_by_the_door_of_another_architecture() -> str:
    if MACHINE != "x86_64":
        raise OSError(errno.ENOSYS, "there is no other")
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("b814000000 cd80 c3"))  # mov eax, getpid; int 0x80; ret
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    return f"{function()}"


# -- networks


@attempt("EPERM", witness="root")
def send_raw_packets() -> str:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    return "open"


@attempt("EAFNOSUPPORT", witness="root")
def see_the_wire() -> str:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    return "open"


@attempt("EAFNOSUPPORT", witness="user")
def speak_to_the_kernels_audit() -> str:
    audit = 9
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, audit)
    return "open"


@attempt("EAFNOSUPPORT")
def speak_to_the_hypervisor() -> str:
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    return "open"


@attempt("EAFNOSUPPORT")
def have_a_module_loaded_for_the_asking() -> str:
    algorithms = 38
    socket.socket(algorithms, socket.SOCK_SEQPACKET)
    return "open"


@attempt("ECONNREFUSED", witness="user")
def reach_the_server_by_the_hosts_loopback() -> str:
    socket.create_connection(("127.0.0.1", int(target("port"))), 2).close()
    return "connected"


@attempt("ENETUNREACH", "EHOSTUNREACH")
def reach_the_metadata_of_the_cloud() -> str:
    socket.create_connection(("169.254.169.254", 80), 2).close()
    return "connected"


@attempt("ENOENT", witness="server")
def reach_the_servers_own_socket() -> str:
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(target("socket"))
    return "connected"


@attempt("ECONNREFUSED", witness="user")
def reach_a_service_of_the_host_by_a_name_without_a_folder() -> str:
    with socket.socket(socket.AF_UNIX) as door:
        door.connect("\0" + target("abstract"))
    return "connected"
