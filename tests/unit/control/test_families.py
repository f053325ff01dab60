"""Calls made by calls: who is believed to have made them, who ends with whom, and what is shown of it; a node is played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from relight.blobs.store import BlobStore
from relight.clock import SystemClock, now_ms
from relight.control.platform import Control, Rules, open_control
from relight.protocol import PROTOCOL
from relight.protocol.api import Await, Submit
from relight.protocol.calls import CallEvent, CallRequest, CallState
from relight.protocol.errors import Forbidden, NotFound
from relight.protocol.ids import new_id
from relight.protocol.link import CallEnd, Hello, Orders, Reports, RunCall, WorkerChange
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest, Resources
from relight.protocol.payload import Payload
from relight.protocol.views import Scope
from relight.protocol.workers import WorkerState
from relight.scheduler.loop import Timing
from relight.store.rows import NewVersion
from relight.store.store import Store, open_store

WS = "default"
RESULT = Payload(format="json", data=b"1", size=1)
RULES = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))


class PlayedNode:
    """A node with two cores that starts what it is told to, and runs nothing until the test says how it ends."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.runs: dict[str, RunCall] = {}
        self.cancels: list[str] = []
        self._changed = asyncio.Condition()
        hello = Hello(node="n", incarnation="i", protocol=PROTOCOL, cpu=2.0, memory_mib=4096)
        control.nodes.connect(hello, self._obey)

    def _obey(self, orders: Orders) -> None:
        for start in orders.start:
            ready = WorkerChange(worker=start.worker, state=WorkerState.READY, at=1.0)
            asyncio.get_running_loop().call_soon(self._control.nodes.report, "n", Reports(workers=(ready,)))
        self.runs.update({run.call: run for run in orders.run})
        self.cancels += [cancel.call for cancel in orders.cancel]
        self._note = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def run(self, call: str) -> str:
        """The worker that has a call, once one has."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: call in self.runs)
        return self.runs[call].worker

    async def cancelled(self, call: str) -> None:
        """Return once the node was told to cancel a call."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: call in self.cancels)

    def end(self, call: str, outcome: CallEvent = CallEvent.SUCCEEDED) -> None:
        run = self.runs.pop(call)
        result = RESULT if outcome is CallEvent.SUCCEEDED else None
        end = CallEnd(call=call, token=run.token, outcome=outcome, worker=run.worker, result=result)
        self._control.nodes.report("n", Reports(ends=(end,)))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    image = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
    functions = tuple(
        FunctionSpec(name=name, module="m", qualname=name, image=image, resources=Resources(cpu=cpu))
        for name, cpu in (("f", None), ("large", 2.0), ("half", 1.0))
    )
    manifest = Manifest(app="a", code=CodeBundle(digest="d" * 64, size=1, folder="/a"), functions=functions)
    await opened.versions.deploy(
        NewVersion(workspace=WS, id="version-1", app="a", environment="main", manifest=manifest, at=1.0)
    )
    yield opened
    await opened.close()


@pytest.fixture
async def control(store: Store, tmp_path: Path) -> Control:
    return await open_control(store, BlobStore(tmp_path / "blobs"), SystemClock(), RULES)


@pytest.fixture
def node(control: Control) -> PlayedNode:
    return PlayedNode(control)


def request(parent: str = "", *, function: str = "f", is_awaited: bool = False, group: str = "") -> CallRequest:
    return CallRequest(
        id=new_id("call", now_ms() + 1),
        app="a",
        function=function,
        payload=RESULT,
        parent=parent,
        is_awaited=is_awaited,
        group=group,
    )


async def submit(control: Control, *calls: CallRequest, worker: str = "") -> list[str]:
    await control.calls.submit(WS, Submit(calls=calls), worker=worker)
    return [call.id for call in calls]


async def family(control: Control, node: PlayedNode) -> tuple[str, str, str, str]:
    """A call that runs, its worker, a call that it waits for, and one that it spawned; both of these run."""
    (parent,) = await submit(control, request())
    worker = await node.run(parent)
    awaited, spawned = await submit(control, request(parent, is_awaited=True), request(parent), worker=worker)
    await node.run(awaited)
    await node.run(spawned)
    return parent, worker, awaited, spawned


async def parents(control: Control, calls: Sequence[str]) -> list[str]:
    return [(await control.calls.show(WS, call)).call.parent for call in calls]


# -- who asks


async def test_a_worker_is_known_by_what_it_was_started_for(control: Control, node: PlayedNode) -> None:
    (call,) = await submit(control, request())
    worker = await node.run(call)

    principal = control.nodes.principal("n", worker)

    assert (principal.workspace, principal.environment, principal.worker) == (WS, "main", worker)
    assert (principal.scope, principal.token_id) == (Scope.CALL, "")


async def test_a_node_cannot_speak_for_a_worker_of_another(control: Control, node: PlayedNode) -> None:
    (call,) = await submit(control, request())
    worker = await node.run(call)

    for name, of in (("m", worker), ("n", "worker-x"), ("", worker)):
        with pytest.raises(Forbidden, match="was not asked to start it"):
            control.nodes.principal(name, of)


async def test_a_parent_is_believed_only_of_the_worker_that_has_it(control: Control, node: PlayedNode) -> None:
    first, second = await submit(control, request(), request())
    worker, other = await node.run(first), await node.run(second)

    by_itself = await submit(control, request(first), worker=worker)
    by_another = await submit(control, request(first), worker=other)
    by_nobody = await submit(control, request(first))

    assert worker != other
    assert await parents(control, [*by_itself, *by_another, *by_nobody]) == [first, "", ""]


# -- who ends with whom


@pytest.mark.parametrize("outcome", [CallEvent.FAILED, CallEvent.CANCELLED, CallEvent.TIMED_OUT, CallEvent.LEASE_LOST])
async def test_what_a_call_waits_for_ends_with_it_unless_it_succeeds(
    control: Control, node: PlayedNode, outcome: CallEvent
) -> None:
    parent, _, awaited, spawned = await family(control, node)

    node.end(parent, outcome)

    await node.cancelled(awaited)
    assert node.cancels == [awaited]
    lease = control.scheduler.lease(spawned)
    assert lease is not None
    assert not lease.call.is_cancelled


async def test_a_call_that_succeeds_leaves_what_it_made(control: Control, node: PlayedNode) -> None:
    parent, _, awaited, _ = await family(control, node)

    node.end(parent)
    await control.calls.wait(WS, Await(ids=(parent,), wait_seconds=10.0))
    node.end(awaited)

    assert (await control.calls.wait(WS, Await(ids=(awaited,), wait_seconds=10.0))).calls[
        0
    ].state is CallState.SUCCEEDED
    assert node.cancels == []


async def test_what_waits_for_a_worker_ends_at_once(control: Control, node: PlayedNode) -> None:
    (parent,) = await submit(control, request(function="large"))
    worker = await node.run(parent)
    (child,) = await submit(control, request(parent, function="large", is_awaited=True), worker=worker)

    node.end(parent, CallEvent.FAILED)

    view = (await control.calls.wait(WS, Await(ids=(child,), wait_seconds=10.0))).calls[0]
    assert view.state is CallState.CANCELLED
    assert view.failure is not None
    assert view.failure.message.startswith(f"cannot finish the call: the call that waited for it, {parent}, has ended")


async def test_a_server_that_comes_back_ends_what_was_left_behind(
    store: Store, control: Control, node: PlayedNode, tmp_path: Path
) -> None:
    parent, _, awaited, spawned = await family(control, node)
    node.end(parent, CallEvent.FAILED)
    await control.calls.wait(WS, Await(ids=(parent,), wait_seconds=10.0))
    await store.calls.claim(WS, [])  # with it go the claims that are on their way

    again = await open_control(store, BlobStore(tmp_path / "blobs"), SystemClock(), RULES)

    leases = [again.scheduler.lease(call) for call in (awaited, spawned)]
    assert [lease is not None and lease.call.is_cancelled for lease in leases] == [True, False]


# -- what is lent


@pytest.mark.parametrize("way", ["submit", "wait", "group"])
async def test_a_call_that_waits_lends_its_cpu_to_the_one_it_waits_for(
    control: Control, node: PlayedNode, way: str
) -> None:
    (parent,) = await submit(control, request(function="large"))
    worker = await node.run(parent)
    child = request(parent, function="half", is_awaited=True, group="group-1" if way == "group" else "")
    message = Submit(calls=(child,), wait_seconds=10.0 if way == "submit" else 0.0)
    asking = asyncio.ensure_future(control.calls.submit(WS, message, worker=worker))
    if way != "submit":
        assert (await asking).calls[0].pending_reason.startswith("no_capacity:cpu")
        query = Await(
            ids=(child.id,) if way == "wait" else (),
            group="group-1" if way == "group" else "",
            wait_seconds=10.0,
            caller=parent,
        )
        asking = asyncio.ensure_future(control.calls.wait(WS, query, worker=worker))

    await node.run(child.id)
    node.end(child.id)

    assert [view.state for view in (await asking).calls] == [CallState.SUCCEEDED]
    assert not any(one.is_lending for one in control.scheduler.workers())


async def test_a_wait_that_its_caller_gives_up_lends_no_more(control: Control, node: PlayedNode) -> None:
    parent, worker, awaited, _ = await family(control, node)
    query = Await(ids=(awaited,), wait_seconds=10.0, caller=parent)
    asking = asyncio.ensure_future(control.calls.wait(WS, query, worker=worker))
    begun = asyncio.Event()
    asyncio.get_running_loop().call_soon(begun.set)
    await begun.wait()
    assert any(one.is_lending for one in control.scheduler.workers())

    asking.cancel()
    await asyncio.wait([asking])

    assert not any(one.is_lending for one in control.scheduler.workers())


# -- what is shown


async def test_a_tree_is_a_call_and_all_that_came_of_it(control: Control, node: PlayedNode) -> None:
    parent, _, awaited, spawned = await family(control, node)
    worker = node.runs[awaited].worker
    (below,) = await submit(control, request(awaited, is_awaited=True), worker=worker)

    views = await control.calls.tree(WS, parent)

    assert {view.id: view.parent for view in views} == {parent: "", awaited: parent, spawned: parent, below: awaited}
    assert [view.id for view in await control.calls.tree(WS, below)] == [below]
    with pytest.raises(NotFound):
        await control.calls.tree(WS, "call-x")
