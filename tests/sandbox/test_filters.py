"""The filters of system calls: what the programs answer, to every number there is, and that the kernel takes them at their word."""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from relight.sandbox import filters, syscalls

TOOL = Path(__file__).parents[2] / "tools" / "filters.py"
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL = 0x7FFF0000, 0x80000000
WORD = 1 << 32

Program = bytes


def run(program: Program, number: int, *arguments: int, machine: int) -> int:
    """What the kernel would answer: classic BPF, as far as these programs use it."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    data = {0: number, 4: machine}
    data |= {
        16 + 8 * at + 4 * half: value >> 32 * half & WORD - 1 for at, value in enumerate(padded) for half in (0, 1)
    }
    at = accumulator = 0
    while True:
        instruction = program[8 * at : 8 * at + 8]
        code, yes, no = int.from_bytes(instruction[:2], "little"), instruction[2], instruction[3]
        value = int.from_bytes(instruction[4:], "little")
        at += 1
        if code == 0x06:
            return value
        if code == 0x20:
            accumulator = data[value]
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            at += yes if holds else no


def refused(number: int) -> int:
    return 0x00050000 | number


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """The maker of the filters, where libseccomp is there."""
    pytest.importorskip("pyseccomp", exc_type=ImportError, reason="libseccomp is not installed")
    spec = importlib.util.spec_from_file_location("filters_tool", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_programs_and_the_document_are_what_the_policy_makes(tool):
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("machine", MACHINES)
def test_every_number_is_answered_as_the_policy_says(tool, machine):
    for filter_ in tool.POLICY:
        program = getattr(filters, filter_.name)[machine]
        answers = tool.numbers(filter_, machine)
        for number in [*range(600), 0x40000000, 0x40000065, WORD - 1]:
            above = tool.NOT_THERE if filter_.asks_machine and number > tool.LAST else ALLOW
            answer = answers.get(number, above)
            if isinstance(answer, int):
                assert run(program, number, machine=MACHINES[machine]) == answer, (filter_.name, number)


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_another_architecture_end_the_process(machine):
    i386 = 0x40000003

    assert run(filters.SANDBOX[machine], 1, machine=i386) == KILL


NEW_USERS, NEW_GROUPS, THREAD = 0x10000000, 0x02000000, 0x3D0F00
CHECKS = [
    ("clone", (THREAD,), ALLOW),
    ("clone", (17,), ALLOW),
    ("clone", (NEW_USERS | 17,), refused(errno.EPERM)),
    ("clone", (NEW_GROUPS | 17,), refused(errno.EPERM)),
    ("unshare", (NEW_GROUPS,), ALLOW),
    ("unshare", (0x400,), ALLOW),  # CLONE_FILES
    ("unshare", (NEW_GROUPS | NEW_USERS,), refused(errno.EPERM)),
    ("unshare", (0x80,), refused(errno.EPERM)),  # CLONE_NEWTIME
    ("personality", (0,), ALLOW),
    ("personality", (0xFFFFFFFF,), ALLOW),
    ("personality", (0x0400000,), refused(errno.EPERM)),  # READ_IMPLIES_EXEC
    ("ioctl", (0, 0x5413), ALLOW),
    ("ioctl", (0, 0x5412), refused(errno.EPERM)),
    ("ioctl", (0, 0x541C), refused(errno.EPERM)),
    ("ioctl", (0, WORD + 0x5412), refused(errno.EPERM)),  # the kernel looks at the lower half alone
    ("socket", (1,), ALLOW),
    ("socket", (2,), ALLOW),
    ("socket", (10,), ALLOW),
    ("socket", (16, 3, 0), ALLOW),
    ("socket", (16, 3, 15), refused(errno.EAFNOSUPPORT)),
    ("socket", (17, 3), refused(errno.EAFNOSUPPORT)),
    ("socket", (38, 5), refused(errno.EAFNOSUPPORT)),
    ("socketpair", (1,), ALLOW),
    ("socketpair", (30,), refused(errno.EAFNOSUPPORT)),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("name", "arguments", "answer"), CHECKS)
def test_arguments_decide(tool, machine, name, arguments, answer):
    number = tool.pyseccomp.resolve_syscall(tool.MACHINES[machine][0], name)

    assert run(filters.SANDBOX[machine], number, *arguments, machine=MACHINES[machine]) == answer


@pytest.mark.parametrize("machine", MACHINES)
def test_a_worker_enters_no_other_namespace(tool, machine):
    program, arch = filters.WORKER[machine], tool.MACHINES[machine][0]
    number = {name: tool.pyseccomp.resolve_syscall(arch, name) for name in ("setns", "unshare", "read")}

    def answer(name: str, *arguments: int) -> int:
        return run(program, number[name], *arguments, machine=MACHINES[machine])

    assert [answer("setns"), answer("unshare", NEW_GROUPS)] == [refused(errno.EPERM)] * 2
    assert [answer("unshare", 0x400), answer("read")] == [ALLOW] * 2


@pytest.mark.parametrize("machine", MACHINES)
def test_they_are_short_as_the_kernel_compiles_each_instruction(machine):
    assert len(filters.SANDBOX[machine]) // 8 <= 100
    assert len(filters.WORKER[machine]) // 8 <= 12


def in_child(attempt) -> tuple[int, int]:
    """(exit code, signal) of a child that is under the filter and returns an errno."""
    child = os.fork()
    if child == 0:
        try:
            syscalls.set_no_new_privileges()
            syscalls.filter_calls(filters.SANDBOX[os.uname().machine])
            os._exit(attempt())
        finally:
            os._exit(255)
    status = os.waitpid(child, 0)[1]
    return (os.waitstatus_to_exitcode(status), 0) if os.WIFEXITED(status) else (0, os.WTERMSIG(status))


def call(number: int, *arguments: int) -> int:
    """The errno that a system call gets."""
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.syscall(number, *arguments) == -1 else 0


@pytest.mark.skipif(os.uname().machine not in filters.SANDBOX, reason="there is no filter for this machine")
def test_the_kernel_does_as_the_programs_say():
    clone3, newer = 435, 470

    assert in_child(lambda: call(clone3, 0, 0))[0] == errno.ENOSYS
    assert in_child(lambda: call(newer))[0] == errno.ENOSYS
    assert in_child(lambda: call(425, 1, 0))[0] == errno.EPERM  # io_uring_setup
    assert in_child(lambda: call({"x86_64": 304, "aarch64": 265}[os.uname().machine], 0, 0, 0))[0] == errno.EPERM
    assert in_child(lambda: call({"x86_64": 246, "aarch64": 104}[os.uname().machine], 0, 0, 0, 0)) == (0, signal.SIGSYS)


def test_threads_processes_pipes_and_loopback_work_under_it():
    program = (
        "import threading, subprocess, socket, multiprocessing as m, os\n"
        "t = threading.Thread(target=print); t.start(); t.join()\n"
        "assert subprocess.run(['/bin/true']).returncode == 0\n"
        "s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()).close()\n"
        "a, b = socket.socketpair()\n"
        "assert socket.if_nameindex()\n"
        "m.set_start_method('fork'); q = m.Pool(2); assert q.map(abs, [-1, 2]) == [1, 2]; q.terminate(); q.join()\n"
        "os.openpty()\n"
    )

    def execute() -> int:
        os.execv(sys.executable, [sys.executable, "-I", "-c", program])

    assert in_child(execute) == (0, 0)
