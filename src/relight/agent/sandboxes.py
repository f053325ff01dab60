"""The agent's sandboxes: a launcher process that makes them, and what the event loop knows of each.

The launcher is a separate, bare process (see `sandbox/launcher.py`); here is only the talk with it.  All of it happens
in callbacks of the loop, so there is no task to own and nothing to cancel.  When the launcher dies its sandboxes die
with it, by the kernel: each is reported as killed once its first process is really gone, and a new launcher is started,
which sweeps what is left of their groups.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import relight
from relight.protocol.codec import pack
from relight.protocol.errors import StartFailed, Unavailable
from relight.sandbox.cgroups import Group, GroupLayout, Groups
from relight.sandbox.egress.tally import read_tally
from relight.sandbox.facts import Facts
from relight.sandbox.messages import (
    PACKET_BYTES,
    TO_AGENT,
    Emptied,
    Ended,
    Equip,
    Equipped,
    Kill,
    LauncherReady,
    Refused,
    Settle,
    Start,
    Started,
    StartNested,
    StartShell,
)
from relight.sandbox.spec import Counted, Isolation, SandboxExit, SandboxSpec, ShellSpec

_READY_SECONDS = 30.0
_LEAVE_SECONDS = 12.0  # the launcher itself gives up after 10
_DESCRIPTORS = (
    24  # the most that come with one packet: of a shell two, its namespaces, one for each of its groups, a tally
)
_RESTARTS = 3  # launchers in a row that die before their first word; then something is broken, not unlucky

log = logging.getLogger(__name__)

_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from relight.sandbox.launcher import main; main(int(sys.argv[2]), sys.argv[3], sys.argv[4])"
)


class Send(Protocol):
    """Tells the launcher something; descriptors are copied."""

    def __call__(self, message: object, descriptors: tuple[int, ...] = ()) -> None: ...


@dataclass(frozen=True, slots=True)
class Entrance:
    """Descriptors: the namespaces of a shell, that of processes first, and the doors of its groups."""

    namespaces: tuple[int, ...] = ()
    doors: tuple[int, ...] = ()


class Sandbox:
    """One that was started.  `pid` is its first process's, as this machine sees it.

    Of a shell that is its init; `entrance` is what a template needs to put a process into it.  `group` counts what it takes.
    """

    def __init__(self, started: Started, descriptors: Sequence[int], send: Send, group: Group) -> None:
        self.id = started.id
        self.pid = started.pid
        self.isolation = started.isolation
        self._pidfd = descriptors[0]
        _, *others = descriptors
        self._tally = others.pop() if started.has_tally else -1
        self._group = group
        self._listening = others.pop(0) if others and started.has_door else -1
        self._entrance = Entrance(tuple(others[: started.namespaces]), tuple(others[started.namespaces :]))
        self._send = send
        self._equipped: asyncio.Future[str] | None = None
        self._ended: asyncio.Future[SandboxExit] = asyncio.get_running_loop().create_future()
        self._emptied: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self) -> SandboxExit:
        """How it ended; nothing of it is left then.  May be awaited by many, and cancelled without harm."""
        return await asyncio.shield(self._ended)

    async def wait_empty(self) -> None:
        """Return once the kernel has let go of its last process: as a rule at once when it has ended."""
        await asyncio.shield(self._emptied)

    @property
    def has_ended(self) -> bool:
        """Whether `wait` returns at once."""
        return self._ended.done()

    def counted(self) -> Counted:
        """What is counted of it by now, or was by its end."""
        if self.has_ended:
            return self._ended.result().counted
        return Counted(cpu_us=self._group.cpu_us(), egress_bytes=read_tally(self._tally))

    def signal(self, number: int) -> None:
        """Send a signal to its first process; without effect when that has ended."""
        if not self.has_ended:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def settle(self) -> None:
        """It has started: hold it to its share of the CPU."""
        if not self.has_ended:
            self._send(Settle(id=self.id))

    async def kill(self) -> SandboxExit:
        """End every process of it; returns when none is left."""
        if not self.has_ended:
            self._send(Kill(id=self.id))
        return await self.wait()

    @property
    def pidfd(self) -> int:
        """Of its first process; closed when that has ended."""
        return self._pidfd

    @property
    def entrance(self) -> Entrance:
        """The way into a shell; closed when it has ended, or by `close_entrance`."""
        return self._entrance

    async def equip(self, devices: tuple[str, ...]) -> None:
        """Show devices in a shell that nobody is in yet.  Raises StartFailed when they cannot be, or it has ended."""
        if not devices or self.has_ended:
            return
        self._equipped = asyncio.get_running_loop().create_future()
        self._send(Equip(id=self.id, devices=devices), (self._entrance.namespaces[1],))
        reason = await self._equipped
        if reason:
            raise StartFailed(reason)

    def equipped(self, reason: str) -> None:
        """Say what became of that; only `Sandboxes` calls this."""
        if self._equipped is not None and not self._equipped.done():
            self._equipped.set_result(reason)

    def take_listening(self) -> socket.socket:
        """The socket that listens inside a shell; the caller's from now on."""
        listening, self._listening = self._listening, -1
        return socket.socket(fileno=listening)

    def close_entrance(self) -> None:
        """Nobody else is to come in."""
        entrance, self._entrance = self._entrance, Entrance()
        for descriptor in (*entrance.namespaces, *entrance.doors):
            os.close(descriptor)

    def when_gone(self, then: Callable[[], None]) -> None:
        """Call `then` when its first process is gone, by whatever cause."""
        loop = asyncio.get_running_loop()

        def gone() -> None:
            loop.remove_reader(self._pidfd)
            then()

        loop.add_reader(self._pidfd, gone)

    def end(self, how: SandboxExit) -> None:
        """Say how it ended; only `Sandboxes` calls this."""
        self.equipped(f"cannot show devices in {self.id}: it has ended; start it again")
        if not self._ended.done():
            self._ended.set_result(how)
            os.close(self._pidfd)
            self.close_entrance()
            for descriptor in (self._listening, self._tally):
                if descriptor >= 0:
                    os.close(descriptor)

    def empty(self) -> None:
        """Say that nothing of it is left; only `Sandboxes` calls this."""
        if not self._emptied.done():
            self._emptied.set_result(None)


class Sandboxes:
    """All sandboxes of one agent.

    `state` is a folder of its own below the data folder: two agents on one `state` would end each other's sandboxes.
    `isolation` PROCESS forgoes namespaces although they may be had.
    """

    def __init__(self, state: Path, *, isolation: Isolation | None = None) -> None:
        self._state = state
        self._key = hashlib.sha256(str(state.absolute()).encode()).hexdigest()[:12]
        self._wanted = isolation
        self._launcher: _Launcher | None = None
        self._facts: Facts | None = None
        self._groups = Groups(GroupLayout(), self._key)
        self._is_settled = asyncio.Event()  # the launcher has said its first word, or never will
        self._failure = "they are not open; call open() first"
        self._early_deaths = 0
        self._starting: dict[str, asyncio.Future[Sandbox]] = {}
        self._sandboxes: dict[str, Sandbox] = {}
        self._emptying: dict[str, Sandbox] = {}  # they have ended, and the kernel still has processes of theirs

    @property
    def facts(self) -> Facts:
        """What this machine permits.  Only when open."""
        if self._facts is None:
            raise Unavailable(f"cannot tell what this machine permits to sandboxes: {self._failure}")
        return self._facts

    @property
    def isolation(self) -> Isolation:
        """How sandboxes are kept apart, unless a spec asks otherwise.  Only when open."""
        return self._wanted or self.facts.isolation

    @property
    def launcher_pid(self) -> int | None:
        """The process that makes the sandboxes; None when not open."""
        return self._launcher.pid if self._launcher else None

    async def open(self) -> None:
        """Start the launcher, which ends and removes whatever a dead agent of the same `state` left.

        To be called in the thread that will live as long as the sandboxes shall: its end is theirs.
        """
        self._launch()
        await self._ready_launcher()

    async def close(self) -> None:
        """End every sandbox and the launcher; returns when nothing is left."""
        launcher, self._launcher = self._launcher, None
        self._failure = "the agent is closing; use another node"
        self._is_settled.set()
        if launcher is not None:
            await launcher.leave()
        self._refuse_all("the agent is closing")
        for name in tuple(self._sandboxes):
            self._finish(name, SandboxExit(signal=signal.SIGKILL))
        for name in tuple(self._emptying):
            self._empty(name)

    async def start(self, spec: SandboxSpec, *, channel: socket.socket, stdout: int, stderr: int) -> Sandbox:
        """Start one; returns when its program runs.  The three descriptors are copied: close yours.

        Raises StartFailed when it cannot be made, Unavailable when the launcher died meanwhile.  Cancelled, it ends
        the sandbox.
        """
        packet = pack(Start(spec=dataclasses.replace(spec, isolation=spec.isolation or self._wanted)))
        return await self._start(spec.id, packet, (channel.fileno(), stdout, stderr))

    async def start_nested(self, spec: SandboxSpec, base: str) -> Sandbox:
        """Make one below a base's, empty, for a process that the base is still to fork.  Raises and is cancelled as `start`."""
        return await self._start(spec.id, pack(StartNested(spec=spec, base=base)), ())

    async def start_shell(self, spec: ShellSpec) -> Sandbox:
        """Make a shell for a process that its template is still to fork.  Raises and is cancelled as `start`."""
        return await self._start(spec.id, pack(StartShell(spec=spec)), ())

    async def _start(self, name: str, packet: bytes, descriptors: tuple[int, ...]) -> Sandbox:
        launcher = await self._ready_launcher()
        if len(packet) > PACKET_BYTES:
            raise StartFailed(
                f"cannot start sandbox {name}: its description has {len(packet)} bytes, and {PACKET_BYTES} are the"
                " most; pass large values in files"
            )
        if name in self._starting or name in self._sandboxes:
            raise StartFailed(f"cannot start sandbox {name}: one of that id runs; choose another id")
        future: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()
        self._starting[name] = future
        launcher.send(packet, descriptors)
        try:
            return await future
        except asyncio.CancelledError:
            self._send(Kill(id=name))
            raise

    # -- the launcher

    def _launch(self) -> None:
        self._is_settled.clear()
        self._launcher = _Launcher(self._state, self._key, on_packet=self._hear, on_end=self._launcher_ended)

    async def _ready_launcher(self) -> _Launcher:
        if self._launcher is not None:
            async with asyncio.timeout(_READY_SECONDS):
                await self._is_settled.wait()
        if self._launcher is None:
            raise Unavailable(f"cannot start sandboxes: {self._failure}")
        return self._launcher

    def _send(self, message: object, descriptors: tuple[int, ...] = ()) -> None:
        if self._launcher is not None:
            self._launcher.send(pack(message), descriptors)

    def _hear(self, data: bytes, descriptors: list[int]) -> None:
        message = TO_AGENT.unpack(data)
        if isinstance(message, LauncherReady):
            self._facts = message.facts
            self._groups = Groups(message.facts.groups, self._key)
            self._early_deaths = 0
            for name in tuple(self._emptying):
                self._empty(name)  # this launcher has swept what the one before it left
            self._is_settled.set()
        elif isinstance(message, Started):
            self._begin(message, descriptors)
        elif isinstance(message, Refused):
            self._refuse(message.id, StartFailed(message.reason))
        elif isinstance(message, Equipped):
            self._sandboxes[message.id].equipped(message.reason)
        elif isinstance(message, Ended):
            self._finish(message.id, message.exit, is_empty=message.is_empty)
        elif isinstance(message, Emptied):
            self._empty(message.id)

    def _launcher_ended(self, how: str) -> None:
        if self._launcher is None:
            return  # we are closing: it was told to
        self._early_deaths += 1
        self._refuse_all(f"the launcher of sandboxes died ({how})")
        for sandbox in tuple(self._sandboxes.values()):
            sandbox.when_gone(functools.partial(self._finish, sandbox.id, SandboxExit(signal=signal.SIGKILL)))
        log.warning("launcher died", extra={"how": how, "in_a_row": self._early_deaths})
        if self._early_deaths <= _RESTARTS:
            self._launch()
            return
        self._launcher = None
        self._failure = f"their launcher died {self._early_deaths} times in a row ({how}); run `relight doctor`"
        self._is_settled.set()

    # -- one sandbox

    def _begin(self, started: Started, descriptors: Sequence[int]) -> None:
        sandbox = Sandbox(started, descriptors, self._send, self._groups.find(started.id))
        self._sandboxes[started.id] = sandbox
        future = self._starting.pop(started.id, None)
        if future is not None and not future.done():
            future.set_result(sandbox)

    def _finish(self, name: str, how: SandboxExit, *, is_empty: bool = True) -> None:
        sandbox = self._sandboxes.pop(name, None)
        if sandbox is None:
            return
        sandbox.end(how)
        self._emptying[name] = sandbox
        if is_empty:
            self._empty(name)

    def _empty(self, name: str) -> None:
        sandbox = self._emptying.pop(name, None)
        if sandbox is not None:
            sandbox.empty()

    def _refuse(self, name: str, error: StartFailed | Unavailable) -> None:
        future = self._starting.pop(name, None)
        if future is not None and not future.done():
            future.set_exception(error)

    def _refuse_all(self, why: str) -> None:
        for name in tuple(self._starting):
            self._refuse(name, Unavailable(f"cannot start sandbox {name}: {why}; try again"))


class _Launcher:
    """The launcher process and our end of its socket."""

    def __init__(
        self,
        state: Path,
        key: str,
        *,
        on_packet: Callable[[bytes, list[int]], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._on_packet, self._on_end = on_packet, on_end
        self._loop = asyncio.get_running_loop()
        self._has_ended = self._loop.create_future()
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        source = str(Path(relight.__file__).parent.parent)
        with theirs:
            # By this thread, whose end is the launcher's; with nothing of our environment, which init would inherit.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, source, str(theirs.fileno()), str(state), key],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={},
            )
        self._loop.add_reader(self._socket, self._receive)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, packet: bytes, descriptors: tuple[int, ...]) -> None:
        """Send, or keep until the launcher has read what came before; the descriptors are copied."""
        self._unsent.append((packet, tuple(os.dup(descriptor) for descriptor in descriptors)))
        self._flush()

    async def leave(self) -> None:
        """Have it end every sandbox, then itself."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await asyncio.shield(self._has_ended)
        except TimeoutError:
            log.error("launcher did not leave and was killed", extra={"pid": self.pid})
            self._end()

    def _flush(self) -> None:
        while self._unsent:
            packet, descriptors = self._unsent[0]
            try:
                socket.send_fds(self._socket, [packet], list(descriptors))
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError:
                pass  # it is dead: the reader finds that out and answers for everything
            self._unsent.popleft()
            for descriptor in descriptors:
                os.close(descriptor)
        self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        while not self._has_ended.done():
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, PACKET_BYTES, _DESCRIPTORS)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data, descriptors = b"", []
            if not data:
                self._end()
                return
            self._on_packet(data, descriptors)

    def _end(self) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for _, descriptors in self._unsent:
            for descriptor in descriptors:
                os.close(descriptor)
        self._unsent.clear()
        self._process.kill()  # its socket closed as it ended, so this finds it dying or dead, and the wait is short
        code = self._process.wait()
        self._has_ended.set_result(None)
        self._on_end(f"signal {-code}" if code < 0 else f"code {code}")
