"""The first process of a sandbox: makes it, starts the worker in it, waits for every orphan, tells how the worker ended.

It is a fork of the launcher and trusted; the worker is its child, so that whatever the worker does to itself (`kill`,
`abort`, `_exit`) is seen here exactly.  In a process namespace its end is the end of everybody.  As a plain process it
adopts orphans and kills them one by one before it goes.  All it needs must be imported before it enters its new root,
text codecs included (hence UTF-8 throughout: `ascii` is a module that Python would look for there).

    GO ▶ operations ▶ fork ▶ InitStarted ▶ GO ▶ reap … ▶ InitEnded ▶ exit
              └ fails ▶ InitFailed ▶ exit          └ the launcher is gone ▶ kill all ▶ exit
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from relight.sandbox import syscalls
from relight.sandbox.egress.setup import take_sockets
from relight.sandbox.keeper import keep
from relight.sandbox.messages import GO, InitEnded, InitFailed, InitStarted
from relight.sandbox.nest import tend
from relight.sandbox.operations import Trees
from relight.sandbox.pid1 import Bell, StepFailed, close_strangers, collect, execute, tell, wait_go
from relight.sandbox.plan import Plan
from relight.sandbox.spec import Isolation

_CHANNEL = 3
_PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handles:
    """The descriptors the launcher leaves to init: its end of the status socket, and what becomes the worker's."""

    status: socket.socket
    channel: int
    stdout: int
    stderr: int


def run(plan: Plan, handles: Handles, trees: Trees) -> NoReturn:
    """Be init.  Never returns into the launcher, whose copy this process is."""
    try:
        _live(plan, handles, trees)
    except StepFailed as failure:
        tell(handles.status, InitFailed(reason=str(failure)))
    except BaseException as error:  # noqa: BLE001 - a process's outermost frame: what is not told here is told nowhere
        tell(handles.status, InitFailed(reason=f"its first process failed: {error!r}"))
    finally:
        os._exit(0)


def _live(plan: Plan, handles: Handles, trees: Trees) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # the launcher's would end its talk with the agent
    close_strangers({handles.status.fileno(), handles.channel, handles.stdout, handles.stderr, *trees.values()})
    if not wait_go(handles.status):
        return  # the launcher is gone
    execute(plan.inside, trees)
    egress = take_sockets(trees)
    if not _is_open(handles.status):
        return  # it went before the death signal was set
    # Before the worker is forked: an end that comes at once must find somebody who listens.
    bell = Bell()
    worker = _start_worker(plan, handles)
    for descriptor in (handles.channel, handles.stdout, handles.stderr):
        os.close(descriptor)
    pidfd = os.pidfd_open(worker)
    tell(handles.status, InitStarted(), pidfd, *egress)
    for descriptor in (pidfd, *egress):
        os.close(descriptor)
    # A worker that has been reaped has no number any more, and the launcher is still to look it up.
    handles.status.recv(len(GO))
    if plan.nest is not None:
        tend(plan.nest, worker, handles.status, bell, trees)
        return
    if plan.is_template:
        keep(worker, handles.status, bell, plan.covered)
        return
    ended = _reap(worker, handles.status, bell)
    if plan.isolation is Isolation.PROCESS:
        kill_descendants()
    if ended is not None:
        tell(handles.status, ended)


def _start_worker(plan: Plan, handles: Handles) -> int:
    """Fork and execute; returns when the program runs.  By `os.fork`: after a raw clone glibc must be set right."""
    read, write = os.pipe()  # closed by a successful exec, so its end says all is well
    worker = os.fork()
    if worker == 0:
        _become_worker(plan, handles, write)
    os.close(write)
    with open(read, encoding="utf-8") as report:
        failure = report.read()
    if failure:
        os.waitpid(worker, 0)
        raise StepFailed(failure)
    return worker


def _become_worker(plan: Plan, handles: Handles, report: int) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in (*_PYTHON_IGNORES, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        execute(plan.worker, {})
        report = _hand_over(handles, report)
        os.execve(plan.argv[0], plan.argv, dict(plan.env))
    except StepFailed as failure:
        os.write(report, str(failure).encode())
    except OSError as error:
        os.write(report, f"cannot run {plan.argv[0]}: {error.strerror}".encode())
    finally:
        os._exit(127)


def _hand_over(handles: Handles, report: int) -> int:
    """Put the worker's descriptors where it expects them, close all others; returns where `report` is now."""
    sources = (handles.stdout, handles.stderr, handles.channel, report)
    # First all up and out of the way, so that none is overwritten before it is moved.
    stdout, stderr, channel, report = (fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 10) for source in sources)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.dup2(channel, _CHANNEL)
    os.set_inheritable(0, True)
    syscalls.close_range(_CHANNEL + 1, report - 1)
    syscalls.close_range(report + 1)
    return report


def _reap(worker: int, status: socket.socket, bell: Bell) -> InitEnded | None:
    """Wait for the worker, and for every orphan meanwhile.  None: the launcher is gone and nobody is to be told."""
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    poll.register(status, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if status.fileno() in ready:
            return None
        if signal.SIGTERM in bell.rung():
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGTERM)
        for pid, ended in collect():
            if pid == worker:
                return ended


def kill_descendants(spared: Collection[int] = ()) -> None:
    """Kill children but the spared until none is left: each that dies hands its own children up to this process."""
    while strays := [child for child in _children() if child not in spared]:
        for child in strays:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _children() -> tuple[int, ...]:
    """The children of this process.

    By a look at every process: the kernel's own list of children is an option that some are built without.
    """
    own, found = str(os.getpid()), []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
            # pid (any name at all) state parent …
            if file.read().rpartition(")")[2].split()[1] == own:
                found.append(int(name))
    return tuple(found)


def _is_open(status: socket.socket) -> bool:
    poll = select.poll()
    poll.register(status, select.POLLIN)
    return not poll.poll(0)
