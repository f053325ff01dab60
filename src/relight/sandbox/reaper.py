"""The smallest init: pid 1 of a shell, a program of less than 200 bytes that never wakes up again.

All that a shell needs of its first process is to be there: namespaces of processes end with it, and orphans become
its children.  To wait for those is the kernel's, for a process that ignores SIGCHLD.  So the program says that, and
sleeps:

    rt_sigaction(SIGCHLD, {SIG_IGN}, NULL, 8)
    for (;;) pause()

A fork of Python in its place touches 1.7 MB, and takes milliseconds of the processor to begin and to end.
"""

from __future__ import annotations

import platform
import struct

PATH = "/.reaper"
"""Where a template's root has it, sealed with the root."""

_ADDRESS = 0x400000
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")

_X86_64 = bytes.fromhex(
    "6a00 6a00 6a00"  # push 0 (mask), 0 (restorer), 0 (flags)
    "6a01"  # push SIG_IGN
    "4889e6"  # mov rsi, rsp
    "6a11 5f"  # rdi = SIGCHLD
    "31d2"  # rdx = NULL
    "6a08 415a"  # r10 = 8, the bytes of a mask
    "6a0d 58 0f05"  # rt_sigaction
    "6a22 58 0f05"  # pause
    "ebf9"  # … again
)
_AARCH64 = struct.pack(
    "<18I",
    0xD10083FF,  # sub sp, sp, #32
    0xD2800020,  # mov x0, #SIG_IGN
    0xF90003E0,  # str x0, [sp]
    0xA900FFFF,  # stp xzr, xzr, [sp, #8]       flags, restorer
    0xF9000FFF,  # str xzr, [sp, #24]           mask
    0xD2800220,  # mov x0, #SIGCHLD
    0x910003E1,  # mov x1, sp
    0xD2800002,  # mov x2, #NULL
    0xD2800103,  # mov x3, #8
    0xD28010C8,  # mov x8, #134                 rt_sigaction
    0xD4000001,  # svc #0
    0xD2800000,  # mov x0, #NULL
    0xD2800001,  # mov x1, #0
    0xD2800002,  # mov x2, #NULL
    0xD2800003,  # mov x3, #NULL
    0xD2800928,  # mov x8, #73                  ppoll: of nothing, for ever
    0xD4000001,  # svc #0
    0x17FFFFFA,  # b six back
)
_PROGRAMS = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64)}  # the ELF's number of the machine, and its code


def program(machine: str = platform.machine()) -> bytes:
    """The executable; empty where it is not written for this machine (a name as `uname -m` says it)."""
    number, code = _PROGRAMS.get(machine, (0, b""))
    if not code:
        return b""
    begin = _HEADER.size + _SEGMENT.size
    size = begin + len(code)
    header = _HEADER.pack(
        *(b"\x7fELF\x02\x01\x01", 2, number, 1, _ADDRESS + begin, _HEADER.size, 0, 0),
        *(_HEADER.size, _SEGMENT.size, 1, 0, 0, 0),
    )
    readable_executable, page = 5, 0x10000
    return header + _SEGMENT.pack(1, readable_executable, 0, _ADDRESS, _ADDRESS, size, size, page) + code
