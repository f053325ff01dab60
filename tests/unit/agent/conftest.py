"""A worker's surroundings under the test's control: sandboxes whose worker the test plays, and timers it lets go off."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest

from relight.agent.cable import Cable
from relight.agent.meter import Meter
from relight.agent.outbox import Outbox
from relight.agent.slots import Slots
from relight.agent.starter import Begun
from relight.agent.starts import BeginPhase
from relight.agent.surroundings import Surroundings
from relight.agent.template import TellLines
from relight.agent.worker import Worker
from relight.agent.workers import Workers
from relight.protocol.calls import CallEvent, Token
from relight.protocol.channel import TO_WORKER, Ended, Load, Ready
from relight.protocol.codec import pack
from relight.protocol.link import CallEnd, CallItem, LogLines, RunCall, WorkerSpec
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage
from relight.protocol.payload import Payload
from relight.protocol.starts import StartLevel
from relight.protocol.templates import TemplateOutcome
from relight.protocol.usage import UsageRecord
from relight.sandbox.spec import UNCOUNTED, Counted, Isolation, SandboxExit, SandboxSpec

_LENGTH = struct.Struct("!I")
IMAGE = HostImage(python="/usr/bin/python3", prefix="/usr", base_prefix="/usr", version="3.11.7")


async def turn() -> None:
    """Let the loop go round once."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_soon(passed.set)
    await passed.wait()


class Clock:
    """A clock that stands still; sleeps return at once."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await turn()


@dataclass(eq=False)
class Timer:
    """Goes off when the test says so."""

    seconds: float
    act: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeSandbox:
    """A sandbox whose worker the test plays."""

    def __init__(self, spec: SandboxSpec, channel: socket.socket, stdout: int, stderr: int) -> None:
        self.spec = spec
        self._channel: socket.socket | None = channel.dup()
        self._channel.setblocking(False)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400_000)  # nobody reads while the test writes
        self.stdout, self.stderr = os.dup(stdout), os.dup(stderr)
        self._exit: asyncio.Future[SandboxExit] = asyncio.get_running_loop().create_future()
        self.emptied = asyncio.Event()
        self.emptied.set()
        self.signals: list[int] = []
        self.is_killed = False
        self.counted_now = UNCOUNTED

    def say(self, message: object, *descriptors: int) -> None:
        """The worker sends this."""
        data = pack(message)
        self.say_bytes(_LENGTH.pack(len(data)) + data, *descriptors)

    def say_bytes(self, data: bytes, *descriptors: int) -> None:
        """The worker sends these bytes, whatever they mean."""
        assert self._channel is not None
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self._channel.sendmsg([data], rights)

    def hear(self) -> tuple[object, list[int]]:
        """What the agent has sent next, and the descriptors with it."""
        assert self._channel is not None
        head, descriptors, _, _ = socket.recv_fds(self._channel, 4, 4)
        data = self._channel.recv(_LENGTH.unpack(head)[0], socket.MSG_WAITALL)
        return TO_WORKER.unpack(data), descriptors

    def hang_up(self) -> None:
        """The worker closes its channel."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    @property
    def id(self) -> str:
        return self.spec.id

    def end(self, how: SandboxExit) -> None:
        """Everything in it is over."""
        if not self._exit.done():
            self.hang_up()
            os.close(self.stdout)
            os.close(self.stderr)
            self._exit.set_result(how)

    async def wait(self) -> SandboxExit:
        return await asyncio.shield(self._exit)

    async def wait_empty(self) -> None:
        await self.emptied.wait()

    def counted(self) -> Counted:
        return self.counted_now

    def settle(self) -> None:
        """Nothing is limited."""

    def signal(self, number: int) -> None:
        self.signals.append(number)

    async def kill(self) -> None:
        self.is_killed = True
        self.end(SandboxExit(signal=9))


@dataclass
class FakeSandboxes:
    """Starts what the test then plays."""

    started: list[FakeSandbox] = field(default_factory=list)
    refusal: Exception | None = None
    level: StartLevel = StartLevel.FORK

    def take(self, worker: str, spec: WorkerSpec, tell: TellLines) -> None:
        """None waits."""

    async def start(self, worker: str, spec: WorkerSpec, tell: TellLines, begin: BeginPhase) -> Begun:
        begin("fork")
        if self.refusal is not None:
            raise self.refusal
        cable = Cable.lay()
        ends = cable.ends
        sandbox = SandboxSpec(id=worker, argv=("/bin/true",), isolation=Isolation.NAMESPACES)
        self.started.append(FakeSandbox(sandbox, ends.channel, ends.stdout, ends.stderr))
        cable.hand_over()
        return Begun(
            sandbox=self.started[-1],
            cable=cable,
            module_paths=("/app",),
            platform="/run/relight/platform.sock",
            isolation="namespaces",
            level=self.level,
        )


@dataclass
class FakeTemplates:
    """Hears what is asked of templates."""

    prepared: list[WorkerSpec] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    is_closed: bool = False

    def prepare(self, spec: WorkerSpec) -> None:
        self.prepared.append(spec)

    def forget(self, version: str) -> None:
        self.forgotten.append(version)

    def outcomes(self) -> tuple[TemplateOutcome, ...]:
        return ()

    async def close(self) -> None:
        self.is_closed = True


@dataclass
class FakeProvider:
    """Has everything, unless told otherwise."""

    is_here: bool = True
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: Exception | None = None
    released: list[str] = field(default_factory=list)

    def has(self, spec: WorkerSpec) -> bool:
        return self.is_here

    async def fetch(self, spec: WorkerSpec) -> None:
        await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal

    def release(self, worker: str) -> None:
        self.released.append(worker)


class FakeWays:
    """Opens connections to nobody; `refusal` is raised instead."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.refusal: Exception | None = None

    async def open(self, secret: str) -> int:
        if self.refusal is not None:
            raise self.refusal
        self.opened.append(secret)
        return os.memfd_create("way")


@dataclass
class FakeValues:
    """Holds blobs in memory."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: Exception | None = None

    async def fetch(self, digest: str) -> int:
        await self.gate.wait()
        descriptor = os.memfd_create("input")
        os.write(descriptor, self.blobs[digest])
        return descriptor

    async def deliver(self, end: CallEnd, descriptors: Sequence[int]) -> CallEnd:
        await self.gate.wait()
        self.blobs["given"] = os.pread(descriptors[0], 1 << 20, 0)
        for descriptor in descriptors:
            os.close(descriptor)
        assert end.result is not None
        return replace(end, result=replace(end.result, blob="given"))

    async def keep(self, payload: Payload, descriptor: int) -> Payload:
        await self.gate.wait()
        data = os.pread(descriptor, 1 << 20, 0)
        os.close(descriptor)
        if self.refusal is not None:
            raise self.refusal
        name = f"kept-{len(self.blobs)}"
        self.blobs[name] = data
        return replace(payload, blob=name)


class Line:
    """A line that was told."""

    def __init__(self, group: LogLines, text: str) -> None:
        self.text, self.call, self.source, self.worker = text, group.call, group.source, group.worker


class Bench:
    """One node's workers, with everything around them in the test's hand."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.sandboxes, self.provider, self.values = FakeSandboxes(), FakeProvider(), FakeValues()
        self.ways = FakeWays()
        self.clock, self.outbox, self.templates = Clock(), Outbox(), FakeTemplates()
        self.timers: list[Timer] = []
        self.items: list[CallItem] = []
        self.ends: list[CallEnd] = []
        self.changes: list[Any] = []
        self.usage: list[UsageRecord] = []
        self.logs: list[Any] = []
        self.around = Surroundings(
            starter=self.sandboxes,
            provider=self.provider,
            values=self.values,
            ways=self.ways,
            outbox=self.outbox,
            slots=Slots(),
            meter=partial(Meter, clock=self.clock),
            clock=self.clock,
            later=self._later,
            tasks=tasks,
        )
        self.workers = Workers(self.around)
        self._tasks = tasks

    def spec(self, **function: object) -> WorkerSpec:
        """A worker of a function `f`."""
        fields: dict[str, Any] = {"name": "f", "module": "app", "qualname": "f", "image": IMAGE, **function}
        return WorkerSpec(
            workspace="default",
            app="app",
            environment="main",
            version="v1",
            function=FunctionSpec(**fields),
            code=CodeBundle(digest="0" * 64, size=1, folder="/app"),
        )

    async def begin(self, name: str = "worker-1", **function: object) -> tuple[Worker, FakeSandbox]:
        """A worker whose sandbox runs and has not said anything."""
        worker = Worker(name, self.spec(**function), self.around)
        self._tasks.create_task(worker.live())
        await self.settle()
        return worker, self.sandboxes.started[-1]

    async def ready(self, **function: object) -> tuple[Worker, FakeSandbox]:
        """A worker that waits for its first call."""
        worker, sandbox = await self.begin(**function)
        assert isinstance(sandbox.hear()[0], Load)
        sandbox.say(self.word_ready())
        await self.settle()
        return worker, sandbox

    async def running(self, **function: object) -> tuple[Worker, FakeSandbox]:
        """A worker that runs `call-1`."""
        worker, sandbox = await self.ready(**function)
        self.give(worker, self.order())
        sandbox.hear()
        return worker, sandbox

    @staticmethod
    def give(worker: Worker, *orders: RunCall) -> None:
        """Give a worker calls to run, as one message does."""
        for order in orders:
            worker.calls.take(order)
        worker.calls.feed()

    @staticmethod
    def order(call: str = "call-1", n: int = 1, payload: Payload | None = None) -> RunCall:
        """An order to run a call."""
        payload = payload or Payload(format="json", data=b"[]", size=2)
        return RunCall(worker="worker-1", call=call, token=Token(1, n), attempt=1, payload=payload)

    @staticmethod
    def ended(call: str = "call-1", **fields: Any) -> Ended:
        """A worker's word that a call succeeded."""
        given = {"outcome": CallEvent.SUCCEEDED, "result": Payload(format="json", data=b"1", size=1), **fields}
        return Ended(call=call, **given)

    @staticmethod
    def word_ready() -> Ready:
        """A worker's word that it has loaded its function."""
        return Ready(import_seconds=0.1, enter_seconds=0.0, python="3.11")

    def go_off(self, seconds: float) -> None:
        """Let the timer of so many seconds go off."""
        timer = next(timer for timer in self.timers if timer.seconds == seconds and not timer.is_cancelled)
        timer.is_cancelled = True
        timer.act()

    async def settle(self) -> None:
        """Let the loop do all it can do, and take what there is to tell."""
        await self.workers_settled()
        while (report := self.outbox.take()) is not None:
            self.items += report.items
            self.ends += report.ends
            self.changes += report.workers
            self.usage += report.usage
            self.logs += [Line(group, text) for group in report.logs for text in group.texts]
            self.outbox.lines_kept(report.log_batch)

    async def workers_settled(self) -> None:
        """Let the loop do all it can do."""
        for _ in range(20):
            await turn()

    def states(self) -> list[str]:
        """The states that were told, in order."""
        return [change.state.value for change in self.changes]

    def _later(self, seconds: float, act: Callable[[], None]) -> Timer:
        self.timers.append(Timer(seconds, act))
        return self.timers[-1]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A bench; what still runs on it when the test is over is ended."""
    async with asyncio.TaskGroup() as tasks:
        bench = Bench(tasks)
        yield bench
        for sandbox in bench.sandboxes.started:
            sandbox.end(SandboxExit(code=0))
            sandbox.emptied.set()
        bench.provider.gate.set()
        bench.values.gate.set()
