"""A generator's items between a node, played here, and its reader: what is handed out, granted, dropped, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from relight.blobs.store import BlobStore
from relight.clock import now_ms
from relight.control import streams
from relight.control.platform import Control, Rules, open_control
from relight.protocol import PROTOCOL
from relight.protocol.api import Await, Items, ReadItems, Submit
from relight.protocol.calls import CallEvent, CallRequest, CallState, Token
from relight.protocol.errors import Conflict, NotFound
from relight.protocol.ids import new_id
from relight.protocol.link import (
    CallEnd,
    CallItem,
    GrantItems,
    HeldWorker,
    Hello,
    Orders,
    Reports,
    RunCall,
    WorkerChange,
    WorkerSpec,
)
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest, MethodSpec, Retries
from relight.protocol.payload import Payload
from relight.protocol.workers import WorkerState
from relight.scheduler.loop import Timing
from relight.store.rows import NewVersion
from relight.store.store import Store, open_store

WS, NODE = "default", "n1"
NOTHING = Payload(format="json", data=b"null", size=4)


class Clock:
    """Stands still, unless it is moved."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


def payload(number: int, size: int = 1) -> Payload:
    data = b"%d" % number * size
    return Payload(format="json", data=data, size=len(data))


def hello(incarnation: str = "agent-1", workers: tuple[HeldWorker, ...] = ()) -> Hello:
    return Hello(node=NODE, incarnation=incarnation, protocol=PROTOCOL, cpu=8.0, memory_mib=8000, workers=workers)


class Stage:
    """A server, and a node whose words the test says."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store, self.clock = folder, store, Clock()
        self.control: Control
        self.orders: list[Orders] = []
        self._changed = asyncio.Event()

    async def open(self) -> None:
        """Start the server, or another over the same store."""
        rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
        self.control = await open_control(self.store, BlobStore(self.folder / "blobs"), self.clock, rules)
        self.orders.clear()

    def connect(self, said: Hello) -> None:
        self.control.nodes.connect(said, self._hear)

    async def submit(self) -> str:
        """A call that a worker has."""
        call = new_id("call", now_ms())
        request = CallRequest(id=call, app="a", function="f", payload=NOTHING)
        await self.control.calls.submit(WS, Submit(calls=(request,)))
        return call

    async def start_worker(self) -> str:
        """Let the worker that was ordered last be ready."""
        order = await self.ordered(lambda orders: orders.start)
        self.report(workers=(WorkerChange(worker=order[-1].worker, state=WorkerState.READY, at=self.clock.time),))
        return order[-1].worker

    async def running(self) -> RunCall:
        """A call, and the order by which a worker has it."""
        self.connect(hello())
        call = await self.submit()
        await self.start_worker()
        return await self.run_of(call)

    async def run_of(self, call: str, attempt: int = 1) -> RunCall:
        """The order by which a worker has a call."""

        def found(orders: Orders) -> tuple[RunCall, ...]:
            return tuple(run for run in orders.run if run.call == call and run.attempt == attempt)

        return (await self.ordered(found))[0]

    async def ordered(self, find: Callable[[Orders], tuple[object, ...]]) -> tuple:
        """What the node was ordered last of a kind; waits for it."""
        async with asyncio.timeout(10):
            while True:
                for orders in reversed(self.orders):
                    if found := find(orders):
                        return found
                self._changed.clear()
                await self._changed.wait()

    async def grants(self) -> list[tuple[int, int]]:
        """All that was granted up to now: how many items, and how many of them were taken."""
        passed = asyncio.Event()
        asyncio.get_running_loop().call_soon(passed.set)  # orders leave at the end of the turn
        await passed.wait()
        return [(one.items, one.taken) for orders in self.orders for one in orders.grant]

    def report(self, **said: object) -> None:
        self.control.nodes.report(NODE, Reports(**said))

    def tell(self, run: RunCall, *numbers: int, size: int = 1, token: Token | None = None) -> None:
        """The node tells items."""
        self.report(
            items=tuple(
                CallItem(call=run.call, token=token or run.token, number=n, payload=payload(n, size)) for n in numbers
            )
        )

    def end(self, run: RunCall, outcome: CallEvent = CallEvent.SUCCEEDED, items: int = 0) -> None:
        """The node tells an end."""
        result = NOTHING if outcome is CallEvent.SUCCEEDED else None
        end = CallEnd(call=run.call, token=run.token, outcome=outcome, worker=run.worker, result=result, items=items)
        self.report(ends=(end,))

    async def read(self, call: str, taken: int = 0, wait: float = 0.0) -> Items:
        return await self.control.calls.items(WS, ReadItems(call=call, taken=taken, wait_seconds=wait))

    async def read_end(self, call: str, taken: int) -> Items:
        """Read until there is something, or the end."""
        async with asyncio.timeout(10):
            return await self.read(call, taken, wait=60.0)

    async def ended(self, call: str) -> None:
        """Return when a call's end is kept."""
        await self.control.calls.wait(WS, Await(ids=(call,), wait_seconds=10.0))

    def held(self) -> int:
        """How many streams the server holds."""
        return len(self.control.calls._streams._streams)

    def _hear(self, orders: Orders) -> None:
        self.orders.append(orders)
        self._changed.set()


def data(answer: Items) -> list[bytes]:
    return [one.data or b"" for one in answer.items]


@pytest.fixture
def retries() -> Retries:
    """How often the function is tried again."""
    return Retries()


def manifest(retries: Retries) -> Manifest:
    image = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
    method = MethodSpec(is_generator=True)
    function = FunctionSpec(name="f", module="m", qualname="f", image=image, methods=(method,), retries=retries)
    return Manifest(app="a", code=CodeBundle(digest="d" * 64, size=1, folder="/a"), functions=(function,))


@pytest.fixture
async def stage(tmp_path: Path, retries: Retries) -> AsyncIterator[Stage]:
    store = await open_store(tmp_path)
    version = NewVersion(workspace=WS, id="version-1", app="a", environment="main", manifest=manifest(retries), at=1.0)
    await store.versions.deploy(version)
    stage = Stage(tmp_path, store)
    await stage.open()
    yield stage
    await store.close()


async def test_the_second_item_is_granted_when_the_first_is_with_its_reader_and_not_before(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1)

    first = await stage.read(run.call)
    before = await stage.grants()
    await stage.read(run.call, taken=1)

    assert (data(first), first.call.state) == ([b"1"], CallState.RUNNING)
    assert (before, await stage.grants()) == ([], [(3, 1)])


async def test_a_reader_that_goes_on_is_kept_supplied_by_a_window(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, *range(1, 101))

    for taken in (1, 3, 9, 40):
        await stage.read(run.call, taken)

    assert await stage.grants() == [(3, 1), (9, 3), (27, 9), (40 + streams.WINDOW, 40)]


async def test_asking_again_for_the_same_items_grants_nothing_more(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1, 2)

    answers = [await stage.read(run.call, taken=1) for _ in range(3)]

    assert [data(answer) for answer in answers] == [[b"2"]] * 3
    assert await stage.grants() == [(3, 1)]


async def test_a_reader_waits_for_the_next_item(stage: Stage) -> None:
    run = await stage.running()
    reading = asyncio.ensure_future(stage.read_end(run.call, taken=0))
    await stage.read(run.call)
    assert not reading.done()

    stage.tell(run, 1, 2)

    assert data(await reading) == [b"1", b"2"]


async def test_a_reader_that_waits_hears_of_the_end(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1)
    reading = asyncio.ensure_future(stage.read_end(run.call, taken=1))
    await stage.read(run.call, taken=1)

    stage.end(run)
    answer = await reading

    assert (data(answer), answer.call.state) == ([], CallState.SUCCEEDED)
    assert stage.held() == 0


async def test_the_last_items_come_with_the_end_of_their_call(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1, 2)
    stage.end(run)
    await stage.read_end(run.call, taken=2)
    run = await stage.run_of(await stage.submit())

    stage.tell(run, 1)
    reading = asyncio.ensure_future(stage.read_end(run.call, taken=1))
    await stage.read(run.call, taken=1)
    stage.tell(run, 2, 3)
    stage.end(run)

    assert data(await reading) == [b"2", b"3"]
    last = await stage.read_end(run.call, taken=3)
    assert (data(last), last.call.state) == ([], CallState.SUCCEEDED)


async def test_a_call_has_not_ended_for_a_reader_before_its_last_item_is_read(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "ANSWER_BYTES", 10)
    run = await stage.running()
    stage.tell(run, 1, 2, 3, size=6)
    stage.end(run)
    await stage.ended(run.call)

    states = []
    for taken in range(4):
        answer = await stage.read(run.call, taken)
        states.append((len(answer.items), answer.call.state))

    running, ended = CallState.RUNNING, CallState.SUCCEEDED
    assert states == [(1, running), (1, running), (1, ended), (0, ended)]


async def test_items_that_are_told_again_are_read_once(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1, 2)
    await stage.read(run.call, taken=1)

    stage.tell(run, 1, 2, 3)

    assert data(await stage.read(run.call, taken=1)) == [b"2", b"3"]


async def test_items_of_another_attempt_count_for_nothing(stage: Stage) -> None:
    run = await stage.running()

    stage.tell(run, 1, token=Token(0, 9))
    stage.tell(run, 1, token=Token(9, 9))

    assert data(await stage.read(run.call)) == []


async def test_a_call_whose_worker_is_lost_after_items_were_delivered_is_not_run_again(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1, 2)
    await stage.read(run.call)

    stage.end(run, CallEvent.LEASE_LOST)
    answers = [await stage.read_end(run.call, taken) for taken in (0, 2)]

    assert data(answers[0]) == [b"1", b"2"], "what was made before is still there"
    failure = answers[1].call.failure
    assert failure is not None
    assert (answers[1].call.state, failure.code) == (CallState.FAILED, "worker_lost")
    assert "after 2 of its items were delivered" in failure.message


async def test_a_call_of_which_nothing_was_delivered_is_run_again_from_the_first_item(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1)

    stage.end(run, CallEvent.LEASE_LOST)
    between = await stage.read(run.call)
    stage.tell(run, 2)
    again = await stage.run_of(run.call, attempt=2)
    stage.tell(run, 2)
    stage.tell(again, 1)

    assert data(between) == []
    assert data(await stage.read(run.call)) == [b"1"]


@pytest.mark.parametrize("retries", [Retries(count=1, delay_seconds=0.0)])
@pytest.mark.parametrize("how", [CallEvent.LEASE_LOST, CallEvent.FAILED])
async def test_a_call_that_is_run_again_on_request_goes_on_where_its_reader_is(stage: Stage, how: CallEvent) -> None:
    run = await stage.running()
    stage.tell(run, 1, 2, 3)
    await stage.read(run.call, taken=2)

    stage.end(run, how)
    again = await stage.run_of(run.call, attempt=2)
    order = (await stage.ordered(lambda orders: orders.grant))[-1]
    stage.tell(again, 1, 2, 3)

    assert order == GrantItems(call=run.call, token=again.token, items=6, taken=2)
    assert data(await stage.read(run.call, taken=2)) == [b"3"]


async def test_a_new_link_is_told_what_was_granted(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1)
    await stage.read(run.call, taken=1)
    before = await stage.grants()

    stage.connect(hello(workers=(held(run),)))

    assert before == [(3, 1)]
    assert await stage.grants() == [(3, 1), (3, 1)]


async def test_a_new_server_goes_on_where_reader_and_node_are(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1, 2, 3)
    await stage.read(run.call, taken=2)

    await stage.open()
    early = await stage.read(run.call, taken=2)
    stage.connect(hello(workers=(held(run),)))
    told = await stage.grants()
    stage.tell(run, 3, 4)
    answer = await stage.read(run.call, taken=2)

    assert data(early) == []
    assert set(told) == {(6, 2)}, "the order of the server before may have been lost with it"
    assert data(answer) == [b"3", b"4"]


@pytest.mark.parametrize("retries", [Retries(count=1, delay_seconds=0.0)])
async def test_a_call_that_a_new_server_runs_again_goes_on_where_its_reader_is(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1, 2, 3)
    await stage.read(run.call, taken=2)

    await stage.open()
    await stage.read(run.call, taken=2)
    stage.connect(hello("agent-2"))  # the one before has died, and its workers with it
    await stage.start_worker()
    (again,) = await stage.ordered(lambda orders: orders.run)
    await stage.grants()

    since = next(
        at for at, orders in enumerate(stage.orders) if again in orders.run
    )  # before, the node knows no such call
    granted = [order for orders in stage.orders[since:] for order in orders.grant]
    assert granted == [GrantItems(call=run.call, token=again.token, items=6, taken=2)]


async def test_a_new_server_knows_by_the_first_number_told_that_items_were_delivered(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1, 2, 3)
    await stage.read(run.call, taken=2)

    await stage.open()
    stage.connect(hello(workers=(held(run),)))
    stage.tell(run, 3)
    stage.end(run, CallEvent.LEASE_LOST)
    await stage.ended(run.call)

    assert (await stage.control.calls.show(WS, run.call)).call.state is CallState.FAILED


async def test_a_new_server_waits_for_the_items_of_a_call_that_has_ended(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1, 2, 3)
    await stage.read(run.call, taken=1)
    stage.end(run, items=3)
    await stage.ended(run.call)

    await stage.open()
    early = await stage.read(run.call, taken=1)
    reading = asyncio.ensure_future(stage.read_end(run.call, taken=1))
    await stage.read(run.call, taken=1)
    stage.connect(hello())
    stage.tell(run, 2, 3)
    late = await reading

    assert (data(early), early.call.state) == ([], CallState.RUNNING), "it has not ended for its reader"
    assert (data(late), late.call.state, late.call.items) == ([b"2", b"3"], CallState.SUCCEEDED, 3)
    await stage.read(run.call, taken=3)
    assert (await stage.grants())[-1][1] == 3
    assert stage.held() == 0


async def test_items_that_nobody_has_any_more_are_said_to_be_lost(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1, 2, 3)
    await stage.read(run.call, taken=1)
    stage.end(run, items=3)
    await stage.ended(run.call)
    await stage.open()

    stage.clock.time += streams.PATIENCE_SECONDS
    answer = await stage.read(run.call, taken=1)

    assert answer.call.failure is not None
    assert (answer.call.state, answer.call.failure.code) == (CallState.FAILED, "worker_lost")
    assert answer.call.failure.message.startswith(f"cannot read items 2 to 3 of {run.call}: ")
    assert (await stage.read(run.call, taken=3)).call.state is CallState.SUCCEEDED


async def test_items_that_were_taken_cannot_be_read_again(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1, 2, 3)
    await stage.read(run.call, taken=2)

    with pytest.raises(Conflict, match=r"cannot read item 1 of .*: those up to 2 were taken before"):
        await stage.read(run.call)


@pytest.mark.parametrize("workspace", [WS, "other"])
async def test_who_asks_for_a_call_that_is_not_there_leaves_nothing_behind(stage: Stage, workspace: str) -> None:
    run = await stage.running()
    call = run.call if workspace == "other" else new_id("call", now_ms())

    with pytest.raises(NotFound):
        await stage.control.calls.items(workspace, ReadItems(call=call))

    assert stage.held() == 0


async def test_another_workspace_cannot_read_a_stream_that_is_open(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1)
    await stage.read(run.call)

    with pytest.raises(NotFound):
        await stage.control.calls.items("other", ReadItems(call=run.call))

    assert data(await stage.read(run.call)) == [b"1"]


async def test_a_call_without_items_is_answered_with_how_it_stands(stage: Stage) -> None:
    call = await stage.submit()

    waiting = await stage.read(call)
    stage.connect(hello())
    await stage.start_worker()
    stage.end(await stage.run_of(call))
    ended = await stage.read_end(call, taken=0)

    assert (waiting.call.state, waiting.call.pending_reason[:7]) == (CallState.QUEUED, "no_node")
    assert (ended.call.state, ended.call.result) == (CallState.SUCCEEDED, NOTHING)
    assert stage.held() == 0


async def test_a_reader_that_leaves_leaves_nothing_behind(stage: Stage) -> None:
    call = await stage.submit()
    reading = asyncio.ensure_future(stage.read(call, wait=60.0))
    await stage.read(call)

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert stage.held() == 0


async def test_of_ended_calls_only_the_latest_items_are_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEPT_ENDED", 2)
    run = await stage.running()
    runs = [run]
    for _ in range(3):
        stage.tell(runs[-1], 1)
        stage.end(runs[-1])
        await stage.ended(runs[-1].call)
        runs.append(await stage.run_of(await stage.submit()))

    assert stage.held() == 2
    assert data(await stage.read(runs[2].call)) == [b"1"]


async def test_what_was_taken_last_is_told_to_the_node_of_a_call_that_has_ended(stage: Stage) -> None:
    run = await stage.running()
    stage.tell(run, 1)
    stage.end(run)
    await stage.ended(run.call)

    await stage.read(run.call, taken=1)

    assert [taken for _, taken in await stage.grants()] == [1]
    assert stage.held() == 0


def held(run: RunCall) -> HeldWorker:
    """The worker of a call, as its node says it has it."""
    spec = WorkerSpec(
        workspace=WS,
        app="a",
        environment="main",
        version="version-1",
        function=manifest(Retries()).functions[0],
        code=manifest(Retries()).code,
    )
    return HeldWorker(
        worker=run.worker, spec=spec, state=WorkerState.BUSY, since=1.0, calls=((run.call, run.token, run.attempt),)
    )
