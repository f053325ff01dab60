"""One template: a sandboxed process that has loaded the user's modules, and the shells that wait for its children.

    build ▶ ready ▶ fork …  ▶ leave
      └ refused: it cannot be loaded, or not be forked safely (`Frozen.unsafe`)

A worker is one message: the template is handed a shell and the worker's channel, and its child is on the other end; or it
is a child that was made so before anybody wanted it (`fork_ahead`, `take`).  How that child ended is said by the template, its parent; that nothing of it is left is said by the launcher.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from relight.agent.cable import Cable, Ends
from relight.agent.control import Control
from relight.agent.gpu import NO_GPU, Grant
from relight.agent.layout import Layout
from relight.agent.logs import Line, Output, Owners
from relight.agent.platform import Door
from relight.agent.sandboxes import Sandbox
from relight.protocol.channel import FROM_TEMPLATE, Exited, Fork, Forked, Frozen, Load, LoadFailed
from relight.protocol.errors import Failure, ProtocolError, RelightError, StartFailed, failure_of
from relight.protocol.ids import new_id
from relight.protocol.link import WorkerSpec
from relight.sandbox.spec import Counted, Limits, SandboxExit, SandboxSpec, ShellSpec

TOLD_SECONDS = 1.0
"""How long an end that is seen waits for the template to say how it was."""

KEPT_LINES = 1000
"""So many lines that were written while nobody waited for the template are kept for the first worker."""

_log = logging.getLogger("relight.agent")

TellLines = Callable[[str, list[Line]], None]


class RunsTemplate(Protocol):
    """A template's sandbox, and its process."""

    @property
    def pid(self) -> int:
        """Its process, as this machine sees it."""

    def signal(self, number: int) -> None:
        """Send a signal to its process."""

    async def kill(self) -> object:
        """End every process of it; returns when none is left."""


class MakesSandboxes(Protocol):
    """Where sandboxes and shells come from."""

    async def start(self, spec: SandboxSpec, *, channel: socket.socket, stdout: int, stderr: int) -> RunsTemplate:
        """Start one.  Raises StartFailed."""

    async def start_shell(self, spec: ShellSpec) -> Sandbox:
        """Make a shell.  Raises StartFailed."""


class AdoptsDoors(Protocol):
    """Serves the sockets that lead from workers to the server."""

    async def adopt(self, listening: socket.socket) -> Door:
        """Serve one that listens in a shell."""

    def name(self, worker: str, door: Door) -> None:
        """Say whose it is."""


@dataclass(slots=True)
class _Shell:
    sandbox: Sandbox
    door: Door

    async def give_up(self) -> None:
        """It is of no use; returns when nothing of it is left."""
        self.door.close()
        await self.sandbox.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ahead:
    """A process in its shell that is to be the next worker with these limits."""

    shell: _Shell
    limits: Limits
    forked: ForkedWorker
    cable: Cable

    @property
    def has_ended(self) -> bool:
        """Whether its shell has, and with it the process."""
        return self.shell.sandbox.has_ended

    def drop(self) -> None:
        """It has ended, or nobody can see when it does: nothing of it will be left soon."""
        self.cable.drop()
        self.forked.let_go()
        self.shell.door.close()
        self.shell.sandbox.signal(signal.SIGKILL)


class ForkedWorker:
    """A worker's sandbox: its shell, and the process in it."""

    def __init__(self, shell: Sandbox, when_gone: Callable[[], None]) -> None:
        self.id = shell.id
        self._shell = shell
        self._when_gone = when_gone
        self._pidfd = -1
        self._unsent: list[int] = []
        self._told: asyncio.Future[Exited | None] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int:
        """Its process, as this machine sees it; 0 before it is there, and after."""
        if self._pidfd < 0:
            return 0
        with open(f"/proc/self/fdinfo/{self._pidfd}", encoding="utf-8") as file:
            return max(0, next(int(line.split()[1]) for line in file if line.startswith("Pid:")))

    async def wait(self) -> SandboxExit:
        """How it ended; nothing of it is left."""
        gone = asyncio.ensure_future(self._shell.wait())
        await asyncio.wait((self._told, gone), return_when=asyncio.FIRST_COMPLETED)
        was_killed = gone.done()
        how = await self._shell.kill()
        if not self._told.done():  # killed with all its shell: its parent is about to see that
            await asyncio.wait((self._told,), timeout=TOLD_SECONDS)
        self._close()
        told = self._told.result() if self._told.done() else None
        if told is None:  # where it was not killed nobody saw how it ended
            return SandboxExit(
                signal=signal.SIGKILL if was_killed else None,
                out_of_memory=how.out_of_memory,
                is_evicted=how.is_evicted,
                peak_memory_bytes=how.peak_memory_bytes,
                counted=how.counted,
            )
        return SandboxExit(
            code=told.code,
            signal=told.signal,
            out_of_memory=how.out_of_memory and told.code != 0,
            is_evicted=how.is_evicted,
            peak_memory_bytes=how.peak_memory_bytes or told.peak_memory_bytes,
            counted=how.counted,
        )

    def counted(self) -> Counted:
        """What is counted of its shell by now, or was by its end."""
        return self._shell.counted()

    async def wait_empty(self) -> None:
        """Return once the kernel has let go of the last process in its shell."""
        await self._shell.wait_empty()

    def signal(self, number: int) -> None:
        """Send a signal to its process, as soon as that is there."""
        if self._told.done():
            return
        if self._pidfd < 0:
            self._unsent.append(number)
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def settle(self) -> None:
        """It has started: hold it to its share of the CPU."""
        self._shell.settle()

    async def kill(self) -> object:
        """End every process of it; returns when none is left."""
        return await self._shell.kill()

    def begun(self, pidfd: int) -> None:
        """Its process is there.  Raises OSError when that is no process."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, 0)
        self._pidfd = os.dup(pidfd)
        for number in self._unsent:
            self.signal(number)

    @property
    def has_begun(self) -> bool:
        """Whether its process is known."""
        return self._pidfd >= 0

    def end(self, told: Exited | None) -> None:
        """Its parent says how it ended; None: nobody can."""
        if not self._told.done():
            self._told.set_result(told)

    def orphan(self) -> None:
        """Its parent is gone: it lives on, and how it ends is seen by nobody."""
        if self.has_begun and not self._told.done():
            asyncio.get_running_loop().add_reader(self._pidfd, self._end_unseen)
        else:
            self.end(None)

    def let_go(self) -> None:
        """Nobody waits for it."""
        self.end(None)
        self._close()

    def _end_unseen(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self.end(None)

    def _close(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self._when_gone()


class Template:
    """One that is being made, or is ready, or is gone.  Its methods are called on the event loop."""

    def __init__(self, name: str, spec: WorkerSpec, sandboxes: MakesSandboxes, doors: AdoptsDoors) -> None:
        self.id = name
        self.spec = spec
        self.frozen: Frozen | None = None
        self.workers: dict[str, ForkedWorker] = {}
        self._sandboxes = sandboxes
        self._doors = doors
        self.layout: Layout | None = None
        self._shells: dict[Limits, deque[_Shell]] = {}
        self._ahead: dict[str, _Ahead] = {}
        self._control = Control(FROM_TEMPLATE, self._take, self._end)
        self._sandbox: RunsTemplate | None = None
        self._told: asyncio.Future[Frozen] = asyncio.get_running_loop().create_future()
        self._told.add_done_callback(lambda told: told.cancelled() or told.exception())  # it may be nobody's any more
        self._unheard: set[str] = set()  # workers that are gone, and of which it has not said so
        self._tells: list[TellLines] = []
        self._early: deque[tuple[str, Line]] = deque(maxlen=KEPT_LINES)
        self._output: Output | None = None
        self.is_gone = False
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @property
    def pid(self) -> int:
        """Its process, as this machine sees it; 0 before there is one."""
        return self._sandbox.pid if self._sandbox is not None else 0

    # -- making it

    async def build(self, layout: Layout) -> Frozen:
        """Start it and have it load; returns once it can fork, or says why it cannot.  Raises RelightError."""
        self.layout = layout
        cable = Cable.lay()
        cable.ours.close()  # a template is spoken to by packets
        self._output = Output(cable, Owners(lambda call: False, lambda: ""), self._hear_lines)
        try:
            channel, stdout, stderr = self._control.theirs, cable.ends.stdout, cable.ends.stderr
            self._sandbox = await self._sandboxes.start(layout.sandbox, channel=channel, stdout=stdout, stderr=stderr)
        finally:
            self._control.hand_over()
            cable.hand_over()
        self._control.listen()
        self._control.try_send(
            replace(load_of(self.spec, layout.module_paths, mark=cable.mark), gpus=_gpus_to_come(self.spec, layout))
        )
        try:
            async with asyncio.timeout(self.spec.function.startup_timeout_seconds):
                self.frozen = await self._told
        except TimeoutError:
            seconds = self.spec.function.startup_timeout_seconds
            raise StartFailed(
                f"cannot start {self.spec.function.name}: loading it took more than {seconds:g} s; "
                "raise startup_timeout=, or load less"
            ) from None
        return self.frozen

    def listen(self, tell: TellLines) -> None:
        """A worker waits for it: what it writes is shown as that worker's; what it wrote unheard comes first."""
        early, self._early = self._early, deque(maxlen=KEPT_LINES)
        for source, line in early:
            tell(source, [line])
        self._tells.append(tell)

    def unlisten(self, tell: TellLines) -> None:
        """That worker waits no more."""
        with suppress(ValueError):
            self._tells.remove(tell)

    # -- workers

    async def fork(self, worker: str, limits: Limits, ends: Ends, grant: Grant = NO_GPU) -> ForkedWorker:
        """Fork a worker into a shell; returns when the order is on its way.  Raises RelightError."""
        shell = await self._take_shell(limits)
        is_forking = False
        try:
            await shell.sandbox.equip(grant.devices)
            is_forking = self._send_fork(worker, limits, shell, ends, env=grant.env)
        finally:
            if not is_forking:
                await shell.give_up()
        if not is_forking:
            raise TemplateLost(f"cannot fork {worker}: its template has ended, or does not listen; start it afresh")
        forked = ForkedWorker(shell.sandbox, partial(self._forget, worker))
        self._employ(worker, worker, forked, shell)
        return forked

    async def fork_ahead(self, limits: Limits) -> None:
        """Have one more process wait for the next worker with these limits, in one of the shells that wait."""
        shell, cable, is_forking = await self._take_shell(limits), None, False
        name = shell.sandbox.id
        try:
            cable = Cable.lay()
            is_forking = self._send_fork(name, limits, shell, cable.ends, is_ahead=True)
        finally:
            if cable is not None:
                cable.hand_over()
                if not is_forking:
                    cable.drop()
            if not is_forking:
                await shell.give_up()
        if is_forking:
            forked = ForkedWorker(shell.sandbox, partial(self._forget, name))
            self._ahead[name] = _Ahead(shell=shell, limits=limits, forked=forked, cable=cable)

    def take(self, worker: str, limits: Limits) -> tuple[ForkedWorker, Cable] | None:
        """A process that was forked ahead, and speaks by this cable; None where none waits."""
        name = next((name for name, one in self._ahead.items() if one.limits == limits and not one.has_ended), None)
        if name is None:
            return None
        ahead = self._ahead.pop(name)
        self._employ(name, worker, ahead.forked, ahead.shell)
        return ahead.forked, ahead.cable

    def _send_fork(
        self,
        name: str,
        limits: Limits,
        shell: _Shell,
        ends: Ends,
        *,
        env: tuple[tuple[str, str], ...] = (),
        is_ahead: bool = False,
    ) -> bool:
        entrance = shell.sandbox.entrance
        own = (ends.channel.fileno(), ends.stdout, ends.stderr)
        order = Fork(worker=name, namespaces=len(entrance.namespaces), cpu=limits.cpu, is_ahead=is_ahead, env=env)
        is_sent = self._control.try_send(order, (*own, *entrance.namespaces, *entrance.doors))
        if is_sent:
            shell.sandbox.close_entrance()
        return is_sent

    def _employ(self, name: str, worker: str, forked: ForkedWorker, shell: _Shell) -> None:
        """A process, by the name that this template has for it, is this worker's."""
        self._is_idle.clear()
        self.workers[name] = forked
        self._doors.name(worker, shell.door)

    async def make_shell(self, limits: Limits) -> None:
        """Have one more shell waiting."""
        shell = await self._new_shell(limits)
        if self.is_gone:
            await shell.give_up()
            return
        self._shells.setdefault(limits, deque()).append(shell)

    def ahead(self, limits: Limits) -> int:
        """How many processes wait for a worker."""
        return sum(one.limits == limits for one in self._ahead.values())

    def waiting_shells(self, limits: Limits) -> int:
        """How many shells wait for a worker."""
        return len(self._shells.get(limits, ()))

    async def _take_shell(self, limits: Limits) -> _Shell:
        shells = self._shells.get(limits)
        while shells:
            shell = shells.popleft()
            if not shell.sandbox.has_ended:
                return shell
            shell.door.close()
        return await self._new_shell(limits)

    async def _new_shell(self, limits: Limits) -> _Shell:
        sandbox = await self._sandboxes.start_shell(ShellSpec(id=new_id("shell", 0), template=self.id, limits=limits))
        shell = None
        try:
            shell = _Shell(sandbox, await self._doors.adopt(sandbox.take_listening()))
        finally:
            if shell is None:
                await sandbox.kill()
        return shell

    # -- its end

    async def retire(self) -> None:
        """End it once the workers it made have ended; nobody is to ask it for more."""
        await self._is_idle.wait()
        await self.close()

    async def close(self) -> None:
        """End it; the workers it made live on.  Its sandbox is empty when they have ended, too."""
        self._disconnect()
        if self._sandbox is not None:
            self._sandbox.signal(signal.SIGKILL)
        waiting = [shell for shells in self._shells.values() for shell in shells]
        self._shells.clear()
        for shell in waiting:
            await shell.give_up()
        if self._sandbox is not None and not self.workers:
            await self._sandbox.kill()

    def _disconnect(self) -> None:
        if self.is_gone:
            return
        self.is_gone = True
        self._control.close()
        if self._output is not None:
            self._output.close()
        for forked in self.workers.values():
            forked.orphan()
        for name in tuple(self._ahead):
            self._ahead.pop(name).drop()
        self._is_idle.set()
        if self.frozen is not None:
            _log.info("template ended", extra={"template": self.id, "last_lines": self._last_lines})
        if not self._told.done():
            last = f"; its last words: {self._last_lines[-1][:200]}" if self._last_lines else ""
            name = self.spec.function.name
            self._told.set_exception(
                TemplateLost(f"cannot start {name}: its process was killed while loading it{last}; start it afresh")
            )

    @property
    def _last_lines(self) -> tuple[str, ...]:
        return self._output.last_lines if self._output is not None else ()

    # -- it speaks

    def _end(self, why: str) -> None:
        self._disconnect()
        if why:
            _log.warning("template killed", extra={"template": self.id, "why": why})
            if self._sandbox is not None:
                self._sandbox.signal(signal.SIGKILL)

    def _take(self, message: object, descriptors: Sequence[int]) -> None:
        if isinstance(message, Frozen):
            self._drain()
            self._settle(message)
        elif isinstance(message, LoadFailed):
            self._drain()
            self._fail(message.failure)
        elif isinstance(message, Forked):
            if message.worker in self._unheard:
                return
            forked = self._forked(message.worker)
            if forked is None or forked.has_begun or len(descriptors) != 1:
                raise ProtocolError(f"cannot believe a fork of {message.worker[:40]!r}")
            forked.begun(descriptors[0])
        elif isinstance(message, Exited):
            self._take_end(message)

    def _take_end(self, message: Exited) -> None:
        if message.worker in self._unheard:
            self._unheard.discard(message.worker)
            return
        if message.worker in self._ahead:  # of nothing that anybody asked of it: another is made when one is missed
            self._ahead.pop(message.worker).drop()
            return
        forked = self.workers.pop(message.worker, None)
        if forked is None:
            raise ProtocolError(f"cannot believe an end of {message.worker[:40]!r}")
        forked.end(message)
        if not self.workers:
            self._is_idle.set()

    def _forked(self, name: str) -> ForkedWorker | None:
        ahead = self._ahead.get(name)
        return ahead.forked if ahead is not None else self.workers.get(name)

    def _forget(self, worker: str) -> None:
        """Nothing of a worker is left; whether its template says so or not."""
        if self.workers.pop(worker, None) is None:
            return
        if not self.is_gone:
            self._unheard.add(worker)
        if not self.workers:
            self._is_idle.set()

    def _settle(self, frozen: Frozen) -> None:
        if self._told.done():
            raise ProtocolError("cannot believe a template that is ready twice")
        self._told.set_result(frozen)

    def _fail(self, failure: Failure) -> None:
        if self._told.done():
            raise ProtocolError("cannot believe a template that was ready and says that it cannot load")
        self._told.set_exception(LoadingFailed(failure))

    def _drain(self) -> None:
        if self._output is not None:
            self._output.end_call()

    def _hear_lines(self, source: str, lines: list[Line]) -> None:
        if not self._tells:
            self._early.extend((source, line) for line in lines)
        for tell in self._tells[:1]:
            tell(source, lines)


class TemplateLost(StartFailed):
    """Its process ended, and nobody knows why: a worker that is started afresh shows whether it is the function's fault."""


class LoadingFailed(StartFailed):
    """The user's code raised while it was loaded; `failure` has its traceback."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_in(error: RelightError) -> Failure:
    """What is told of a start that failed so."""
    return error.failure if isinstance(error, LoadingFailed) else failure_of(error)


def _gpus_to_come(spec: WorkerSpec, layout: Layout) -> int:
    """How many real GPUs each worker will have; 1 also where that is known once one is placed."""
    return (
        max((request.count for request in spec.function.resources.gpu), default=0)
        if layout.sandbox.device_places
        else 0
    )


def load_of(
    spec: WorkerSpec, module_paths: tuple[str, ...], *, mark: str, platform: str = "", worker: str = ""
) -> Load:
    """What a worker, or a template, is to become."""
    function = spec.function
    return Load(
        module=function.module,
        qualname=function.qualname,
        is_class=function.is_class,
        paths=module_paths,
        mark=mark,
        serialized=function.serialized,
        parameters=spec.parameters,
        app=spec.app,
        environment=spec.environment,
        platform=platform,
        cpu=function.resources.cpu,
        max_inputs=function.concurrency.max_inputs,
        batches=tuple(
            (one.name, one.batching.max_batch_size, one.batching.wait_seconds)
            for one in function.methods
            if one.batching is not None
        ),
        web=next((method.web.kind for method in function.methods if method.web is not None), ""),
        worker=worker,
    )
