"""Attempts through doors of the kernel, and on networks."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct
import time

from .means import MACHINE, NUMBERS, attempt, call, libc, target

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
