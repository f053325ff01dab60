"""What a template may say and do, and what its agent makes of that: the test is the template."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest

from relight.agent.cable import Ends
from relight.agent.control import PACKETS
from relight.agent.gpu import Grant
from relight.agent.layout import Layout
from relight.agent.sandboxes import Entrance
from relight.agent.template import ForkedWorker, Template, TemplateLost
from relight.protocol.channel import TO_TEMPLATE, Exited, Fork, Forked, Frozen, LoadFailed
from relight.protocol.codec import pack
from relight.protocol.errors import Failure, StartFailed
from relight.protocol.link import WorkerSpec
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage
from relight.sandbox.spec import Limits, SandboxExit, SandboxSpec, ShellSpec

LIMITS = Limits()
FROZEN = Frozen(python="3.11.7", import_seconds=0.1)
FUNCTION = FunctionSpec(
    name="f",
    module="app",
    qualname="f",
    image=HostImage(python="/usr/bin/python3", prefix="/usr", base_prefix="/usr", version="3.11.7"),
)
SPEC = WorkerSpec(
    workspace="default",
    app="app",
    environment="main",
    version="v1",
    function=FUNCTION,
    code=CodeBundle(digest="0", size=1, folder="/srv/app"),
)
LAYOUT = Layout(sandbox=SandboxSpec(id="template", argv=("/bin/true",)), module_paths=("/app",), platform="/p")


class FakeSandbox:
    """The template's, or a shell."""

    def __init__(self, name: str, entrance: Entrance = Entrance()) -> None:  # noqa: B008 - it is frozen
        self.id, self.entrance = name, entrance
        self.signals: list[int] = []
        self.is_killed = False
        self._ended: asyncio.Future[SandboxExit] = asyncio.get_running_loop().create_future()

    @property
    def has_ended(self) -> bool:
        return self._ended.done()

    def take_listening(self) -> socket.socket:
        return socket.socket()

    async def equip(self, devices: tuple[str, ...]) -> None:
        if devices:
            raise StartFailed("cannot show devices here")

    def close_entrance(self) -> None:
        entrance, self.entrance = self.entrance, Entrance()
        for descriptor in (*entrance.namespaces, *entrance.doors):
            os.close(descriptor)

    def settle(self) -> None:
        """Nothing is limited."""

    def signal(self, number: int) -> None:
        self.signals.append(number)

    async def wait(self) -> SandboxExit:
        return await asyncio.shield(self._ended)

    async def wait_empty(self) -> None:
        await self.wait()

    async def kill(self) -> SandboxExit:
        if not self._ended.done():
            self.is_killed = True
            self._ended.set_result(SandboxExit(signal=signal.SIGKILL, peak_memory_bytes=7))
            self.close_entrance()
        return await self.wait()


class FakeDoor:
    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class Bench:
    """A template's agent; `says` and `hears` are the template's."""

    def __init__(self) -> None:
        self.template = Template("template", SPEC, self, self)  # type: ignore[arg-type]  # it makes fakes
        self.sandbox: FakeSandbox | None = None
        self.shells: list[FakeSandbox] = []
        self.doors: list[FakeDoor] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.refusal: Exception | None = None
        self.is_adopting = asyncio.Event()
        self.channel, self.others = socket.socketpair()
        self._control: socket.socket | None = None

    async def start(self, spec: SandboxSpec, *, channel: socket.socket, stdout: int, stderr: int) -> FakeSandbox:
        if self.refusal is not None:
            raise self.refusal
        self._control = channel.dup()
        self.sandbox = FakeSandbox(spec.id)
        return self.sandbox

    async def start_shell(self, spec: ShellSpec) -> FakeSandbox:
        self.shells.append(FakeSandbox(spec.id, Entrance(tuple(os.open("/dev/null", os.O_RDONLY) for _ in range(5)))))
        return self.shells[-1]

    async def adopt(self, listening: socket.socket) -> FakeDoor:
        listening.close()
        self.is_adopting.set()
        await self.gate.wait()
        self.doors.append(FakeDoor())
        return self.doors[-1]

    def name(self, worker: str, door: FakeDoor) -> None: ...

    @property
    def control(self) -> socket.socket:
        assert self._control is not None, "it is not started"
        return self._control

    async def build(self) -> None:
        """Have it ready."""
        building = asyncio.ensure_future(self.template.build(LAYOUT))
        while self._control is None:
            await turn()
        self.says(FROZEN)
        await building
        self.control.recv(1 << 20)  # Load

    async def fork(self, worker: str = "worker-1") -> ForkedWorker:
        """Ask for one, and hear of it."""
        forked = await self.template.fork(worker, LIMITS, Ends(channel=self.channel, stdout=1, stderr=2))
        data, descriptors, _, _ = socket.recv_fds(self.control, 1 << 20, 32)
        assert isinstance(TO_TEMPLATE.unpack(data), Fork)
        for descriptor in descriptors:
            os.close(descriptor)
        return forked

    def says(self, message: object, *descriptors: int) -> None:
        socket.send_fds(self.control, [pack(message)], list(descriptors))

    async def is_heard(self, count: int = 3) -> None:
        for _ in range(count):
            await turn()

    @property
    def was_killed(self) -> bool:
        return self.sandbox is not None and signal.SIGKILL in self.sandbox.signals

    def close(self) -> None:
        for one in (self.channel, self.others, *((self._control,) if self._control is not None else ())):
            one.close()


async def turn() -> None:
    """Let the loop look at its descriptors once."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(0, passed.set)
    await passed.wait()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.template.close()
    made.close()


@pytest.fixture
async def ready(bench: Bench) -> Bench:
    await bench.build()
    return bench


@pytest.fixture
def child() -> Any:
    """A process with its pidfd, which the test owns."""
    process = subprocess.Popen(["/bin/sleep", "600"])
    pidfd = os.pidfd_open(process.pid)
    yield process, pidfd
    process.kill()
    process.wait()
    os.close(pidfd)


@pytest.mark.parametrize(
    "message",
    [
        FROZEN,
        LoadFailed(failure=Failure(code="x", message="x")),
        Forked(worker="worker-2"),
        Exited(worker="worker-2", code=0),
        Fork(worker="worker-1", namespaces=1),
    ],
    ids=lambda message: type(message).__name__,
)
async def test_a_template_that_says_what_cannot_be_is_killed_and_its_descriptors_are_closed(
    ready: Bench, message: object
) -> None:
    await ready.fork()
    before = descriptors()
    given = [os.dup(0) for _ in range(32)]

    ready.says(message, *given)
    for one in given:
        os.close(one)
    await ready.is_heard()

    assert (ready.was_killed, ready.template.is_gone) == (True, True)
    assert descriptors() == before - 1  # our end of its socket


async def test_a_process_that_is_none_is_not_believed(ready: Bench) -> None:
    forked = await ready.fork()

    ready.says(Forked(worker="worker-1"), ready.channel.fileno())
    await ready.is_heard()
    ended = await forked.wait()

    assert ready.was_killed
    assert (ended.code, ended.signal) == (None, None)


async def test_a_second_process_for_a_worker_is_not_believed(ready: Bench, child: Any) -> None:
    await ready.fork()

    ready.says(Forked(worker="worker-1"), child[1])
    ready.says(Forked(worker="worker-1"), child[1])
    await ready.is_heard()

    assert ready.was_killed


async def test_a_template_that_floods_lets_others_have_their_turn(ready: Bench) -> None:
    names = [f"worker-{number}" for number in range(PACKETS + 10)]
    for name in names:
        await ready.fork(name)
    for name in names:
        ready.says(Exited(worker=name, code=0))

    await turn()
    left = len(ready.template.workers)
    await ready.is_heard()

    assert left >= 10
    assert ready.template.workers == {}


async def test_a_worker_outlives_its_template(ready: Bench, child: Any) -> None:
    forked = await ready.fork()
    process, pidfd = child
    ready.says(Forked(worker="worker-1"), pidfd)
    await ready.is_heard()
    waiting = asyncio.ensure_future(forked.wait())

    ready.control.shutdown(socket.SHUT_RDWR)
    await ready.is_heard()
    was_alive = not waiting.done()
    forked.signal(signal.SIGTERM)
    ended = await waiting

    assert (ready.template.is_gone, was_alive, ready.was_killed) == (True, True, False)
    assert ended == SandboxExit(peak_memory_bytes=7)
    assert process.wait() == -signal.SIGTERM


async def test_a_template_that_dies_with_an_order_on_its_way_leaves_no_shell(ready: Bench) -> None:
    forked = await ready.fork()

    ready.control.shutdown(socket.SHUT_RDWR)
    ended = await forked.wait()

    assert ready.shells[0].is_killed
    assert (ended.code, ended.signal) == (None, None)


async def test_a_template_that_never_answers_is_no_ones_death(ready: Bench, child: Any) -> None:
    forked = await ready.fork()
    before = descriptors()

    await forked.kill()
    ended = await forked.wait()
    retiring = asyncio.ensure_future(ready.template.retire())
    ready.says(Forked(worker="worker-1"), child[1])
    ready.says(Exited(worker="worker-1", code=0))
    await ready.is_heard()

    assert ended.signal == signal.SIGKILL
    assert ready.template.workers == {}
    await retiring
    assert descriptors() == before - 1


async def test_a_template_that_does_not_read_forks_nobody(ready: Bench) -> None:
    async def fork_many() -> None:
        for number in range(10_000):
            await ready.template.fork(f"worker-{number}", LIMITS, Ends(channel=ready.channel, stdout=1, stderr=2))

    with pytest.raises(TemplateLost, match=r"cannot fork worker-.*does not listen; start it afresh"):
        await fork_many()

    assert (ready.shells[-1].is_killed, ready.doors[-1].is_closed) == (True, True)
    assert len(ready.template.workers) == len(ready.shells) - 1


async def test_a_shell_that_comes_after_its_template_went_is_given_up(ready: Bench) -> None:
    ready.gate.clear()
    making = asyncio.ensure_future(ready.template.make_shell(LIMITS))
    await ready.is_adopting.wait()

    await ready.template.close()
    ready.gate.set()
    await making

    assert (ready.shells[0].is_killed, ready.doors[0].is_closed) == (True, True)


async def test_a_fork_that_is_not_wanted_any_more_leaves_no_shell(ready: Bench) -> None:
    ready.gate.clear()
    forking = asyncio.ensure_future(
        ready.template.fork("worker-1", LIMITS, Ends(channel=ready.channel, stdout=1, stderr=2))
    )
    await ready.is_adopting.wait()

    forking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forking

    assert ready.shells[0].is_killed
    assert ready.template.workers == {}


async def test_a_template_that_could_not_be_started_leaves_no_word_unheard(bench: Bench) -> None:
    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    bench.refusal = StartFailed("cannot start sandbox: no room")

    with pytest.raises(StartFailed, match="no room"):
        await bench.template.build(LAYOUT)
    await bench.template.close()
    del bench.template._told
    await turn()

    assert unheard == []
    bench.template = Template("another", SPEC, bench, bench)  # type: ignore[arg-type]  # it makes fakes


async def test_a_shell_that_cannot_be_given_its_devices_is_given_up_and_no_worker_begins(ready: Bench) -> None:
    grant = Grant(devices=("/dev/nvidia0",))

    with pytest.raises(StartFailed, match="cannot show devices here"):
        await ready.template.fork("w", LIMITS, Ends(channel=ready.channel, stdout=1, stderr=2), grant)

    assert [shell.is_killed for shell in ready.shells] == [True]
    assert ready.template.workers == {}


async def ahead_of(bench: Bench) -> tuple[str, list[int]]:
    """A process that waits: the template's name for it, and what came with the order to fork it."""
    await bench.template.make_shell(LIMITS)
    await bench.template.fork_ahead(LIMITS)
    data, descriptors, _, _ = socket.recv_fds(bench.control, 1 << 20, 32)
    order = TO_TEMPLATE.unpack(data)
    assert isinstance(order, Fork)
    assert order.is_ahead
    for descriptor in descriptors[3:]:
        os.close(descriptor)
    return order.worker, descriptors[:3]


async def test_a_process_that_waits_is_the_next_workers_and_its_shell_answers_for_it(ready: Bench, child: Any) -> None:
    name, (channel, *others) = await ahead_of(ready)
    ready.says(Forked(worker=name), child[1])
    await ready.is_heard()
    assert (ready.template.ahead(LIMITS), ready.template.workers) == (1, {})

    taken = ready.template.take("worker-1", LIMITS)
    assert taken is not None
    forked, cable = taken
    os.write(channel, b"ready")
    said = cable.ours.recv(10)
    ready.says(Exited(worker=name, code=3))
    ended = await forked.wait()

    assert (said, ended.code) == (b"ready", 3)
    assert ready.shells[0].is_killed
    assert (ready.template.ahead(LIMITS), ready.template.take("worker-2", LIMITS)) == (0, None)
    cable.drop()
    for descriptor in (channel, *others):
        os.close(descriptor)


async def test_a_process_with_other_limits_is_not_taken(ready: Bench) -> None:
    _, own = await ahead_of(ready)

    assert ready.template.take("worker-1", Limits(cpu=7.0)) is None
    assert ready.template.ahead(LIMITS) == 1
    for descriptor in own:
        os.close(descriptor)


@pytest.mark.parametrize("end", ["exits", "template dies", "template is closed"])
async def test_of_a_process_that_waits_no_longer_nothing_is_left(ready: Bench, child: Any, end: str) -> None:
    before = descriptors()
    name, own = await ahead_of(ready)
    ready.says(Forked(worker=name), child[1])
    await ready.is_heard()

    if end == "exits":
        ready.says(Exited(worker=name, code=1))
    elif end == "template dies":
        ready.control.shutdown(socket.SHUT_RDWR)
    else:
        await ready.template.close()
    await ready.is_heard()

    assert ready.template.take("worker-1", LIMITS) is None
    assert signal.SIGKILL in ready.shells[0].signals or ready.shells[0].is_killed
    assert ready.doors[0].is_closed
    for descriptor in own:
        os.close(descriptor)
    assert descriptors() <= before
