"""The node on its link: who it says it is, what it takes over a cut, and values both ways, against a scripted server."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relight.agent.link import LEAVE_SECONDS, Link, LinkOptions
from relight.agent.node import Identity, Node
from relight.agent.values import Values
from relight.protocol import PROTOCOL
from relight.protocol.calls import CallEvent, Token
from relight.protocol.errors import NotFound, RelightError
from relight.protocol.link import CallEnd, RunCall, StartWorker, StopWorker, WorkerChange
from relight.protocol.payload import Payload
from relight.protocol.workers import WorkerState
from relight.sandbox.spec import SandboxExit
from scripted_server import ScriptedServer

IDENTITY = Identity(
    node="here", incarnation="agent-1", cpu=2.0, memory_mib=1024, gpus=(), isolation="namespaces", pid=7
)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer(str(tmp_path / "link.sock"))
    await scripted.open()
    yield scripted
    scripted.close()


class Running:
    """A node that serves its link."""

    def __init__(self, bench, path: str) -> None:
        self.link = Link(LinkOptions(path=path, heartbeat_seconds=30.0), bench.outbox, bench.clock)
        self.leave = asyncio.Event()
        self.task = bench.around.tasks.create_task(
            Node(IDENTITY, bench.workers, bench.templates, bench.outbox).serve(self.link, self.leave.wait)
        )


@pytest.fixture
async def node(bench, server: ScriptedServer) -> AsyncIterator[Running]:
    running = Running(bench, server.path)
    await server.until(lambda: bool(server.reports))
    yield running
    bench.outbox.acknowledge([(end.call, end.token) for end in server.ends()])
    running.leave.set()
    for sandbox in bench.sandboxes.started:
        sandbox.end(SandboxExit(code=0))
    server.close()
    await asyncio.wait([running.task], timeout=10)


async def start(bench, server: ScriptedServer) -> None:
    """A worker that is ready, over the link."""
    server.order(start=(StartWorker(worker="worker-1", spec=bench.spec()),))
    await server.until(lambda: "starting" in server.states())
    sandbox = bench.sandboxes.started[-1]
    sandbox.hear()
    sandbox.say(bench.word_ready())
    await server.until(lambda: "ready" in server.states())


async def begun(bench) -> None:
    """The order has come: the worker has a call."""
    while not bench.workers.held_calls():
        await bench.workers_settled()


async def test_a_node_says_who_it_is_and_what_it_holds(bench, server, node):
    hello = server.hellos[0]

    assert (hello.node, hello.incarnation, hello.protocol, hello.cpu) == ("here", "agent-1", PROTOCOL, 2.0)
    assert hello.workers == ()
    assert server.reports[0].held == ()


async def test_an_order_becomes_an_end_and_is_repeated_over_a_cut_until_acknowledged(bench, server, node):
    await start(bench, server)
    server.order(run=(bench.order(),))
    await begun(bench)
    bench.sandboxes.started[0].hear()
    bench.sandboxes.started[0].say(bench.ended())
    await server.until(lambda: len(server.ends()) == 1)

    server.cut()
    await server.until(lambda: len(server.ends()) == 2)
    await server.until(lambda: any(report.usage for report in server.reports))
    kept = tuple({(one.worker, one.n) for report in server.reports for one in report.usage})
    server.order(acknowledged=(("call-1", Token(1, 1)),), usage_kept=kept)
    await asyncio.wait_for(bench.outbox.wait_told(), 10)
    server.cut()
    await server.until(lambda: len(server.hellos) == 3 and server.reports[-1].held == ())

    assert [end.outcome for end in server.ends()] == [CallEvent.SUCCEEDED, CallEvent.SUCCEEDED]
    assert server.hellos[1].workers[0].calls == (("call-1", Token(1, 1), 1),), "not acknowledged: it is still held"
    assert server.hellos[2].workers[0].calls == ()


async def test_a_call_that_runs_while_the_link_is_cut_is_adopted(bench, server, node):
    await start(bench, server)
    server.order(run=(bench.order(),))
    await begun(bench)

    server.cut()
    await server.until(lambda: len(server.hellos) == 2)
    (held,) = server.hellos[1].workers
    bench.sandboxes.started[0].say(bench.ended())
    await server.until(lambda: len(server.ends()) == 1)

    assert (held.worker, held.state.value, held.calls) == ("worker-1", "busy", (("call-1", Token(1, 1), 1),))


async def test_a_worker_that_died_while_the_link_was_cut_is_told_with_its_call(bench, server, node):
    await start(bench, server)
    server.order(run=(bench.order(),))
    await begun(bench)
    server.close()
    bench.sandboxes.started[0].end(SandboxExit(code=3))
    await bench.workers_settled()

    await server.open()
    await server.until(lambda: len(server.ends()) == 1 and "gone" in server.states())

    (held,) = server.hellos[-1].workers
    assert (held.state.value, held.calls) == ("draining", (("call-1", Token(1, 1), 1),))
    assert server.ends()[0].outcome is CallEvent.LEASE_LOST


async def test_a_call_for_a_worker_that_is_not_here_ends_uncharged(bench, server, node):
    server.order(run=(bench.order(),))
    await server.until(lambda: len(server.ends()) == 1)

    assert (server.ends()[0].outcome, server.ends()[0].is_charged) == (CallEvent.LEASE_LOST, False)


async def test_a_node_that_is_told_to_leave_stops_its_workers_and_says_so(bench, server, node):
    await start(bench, server)

    node.leave.set()
    await server.until(lambda: "draining" in server.states())
    bench.sandboxes.started[0].end(SandboxExit(code=0))
    await server.until(lambda: "gone" in server.states())
    await asyncio.wait_for(node.task, 10)

    assert server.states()[-1] == "gone"


async def test_a_node_that_leaves_with_its_server_does_so_once_that_is_gone_for_good(bench, tmp_path):
    options = LinkOptions(path=str(tmp_path / "nobody.sock"), leaves_with_server=True)
    link = Link(options, bench.outbox, bench.clock)
    began = bench.clock.monotonic()

    await asyncio.wait_for(link.run(Node(IDENTITY, bench.workers, bench.templates, bench.outbox)), 10)

    assert LEAVE_SECONDS <= bench.clock.monotonic() - began < LEAVE_SECONDS + 2


async def test_a_node_that_is_refused_dials_again(bench, server):
    server.is_welcoming = False
    running = Running(bench, server.path)
    await server.until(lambda: len(server.hellos) >= 2)

    server.is_welcoming = True
    await server.until(lambda: bool(server.reports))

    assert running.link.is_up
    running.leave.set()
    await asyncio.wait_for(running.task, 10)


async def test_values_go_both_ways(bench, server, node, tmp_path):
    content = os.urandom(3_000_000)
    digest = hashlib.sha256(content).hexdigest()
    values = Values(node.link, tmp_path, bench.clock)
    descriptor = os.memfd_create("result")
    os.write(descriptor, content)

    payload = await values.keep(Payload(format="pickle5", data=None, size=len(content)), descriptor)
    fetched = await values.fetch(payload.blob)

    assert (payload.blob, server.blobs[digest] == content) == (digest, True)
    assert os.pread(fetched, len(content) + 1, 0) == content
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fetched, b"x")
    os.close(fetched)


async def test_a_value_with_another_digest_is_not_taken(bench, server, node, tmp_path):
    server.blobs["0" * 64] = b"something else"

    with pytest.raises(NotFound, match="another digest"):
        await Values(node.link, tmp_path, bench.clock).fetch("0" * 64)


async def test_a_value_is_asked_for_again_where_the_server_refuses_a_few_times(bench, server, node, tmp_path):
    server.blobs[hashlib.sha256(b"x").hexdigest()] = b"x"
    server.refusals = 2

    descriptor = await Values(node.link, tmp_path, bench.clock).fetch(hashlib.sha256(b"x").hexdigest())

    assert os.pread(descriptor, 2, 0) == b"x"
    os.close(descriptor)


async def test_a_result_that_cannot_be_kept_fails_its_call_with_the_reason(bench, server, node, tmp_path):
    server.refusals = 99
    descriptor = os.memfd_create("result")
    os.write(descriptor, b"large")
    result = Payload(format="pickle5", data=None, size=5)
    end = CallEnd(call="call-1", token=Token(1, 1), outcome=CallEvent.SUCCEEDED, worker="w", result=result)

    told = await Values(node.link, tmp_path, bench.clock).deliver(end, [descriptor])

    assert (told.outcome, told.result) == (CallEvent.FAILED, None)
    assert told.failure is not None
    assert "cannot do that now" in told.failure.message
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


async def test_a_descriptor_that_is_no_file_or_too_short_is_not_taken(bench, server, node, tmp_path):
    values = Values(node.link, tmp_path, bench.clock)
    read, write = os.pipe()
    os.close(write)

    with pytest.raises(RelightError, match="not a file"):
        await values.keep(Payload(format="pickle5", data=None, size=5), read)
    with pytest.raises(RelightError, match="5 bytes are said, 0 are there"):
        await values.keep(Payload(format="pickle5", data=None, size=5), os.memfd_create("short"))


async def test_orders_come_in_their_order(bench, server, node):
    order: RunCall = bench.order()

    server.order(start=(StartWorker(worker="worker-1", spec=bench.spec()),), run=(order,))
    await server.until(lambda: "starting" in server.states())
    server.order(stop=(StopWorker(worker="worker-1", now=True),), run=(order,))
    await server.until(lambda: "gone" in server.states())

    (end,) = server.ends()
    assert (end.outcome, end.is_charged) == (CallEvent.LEASE_LOST, False), "it was taken first, and did not begin"


async def test_what_may_wait_goes_with_what_may_not_as_one_report(bench, server, node):
    def told(worker: str) -> WorkerChange:
        return WorkerChange(worker=worker, state=WorkerState.STARTING, at=1.0)

    bench.outbox.change(told("w1"), 3600.0)
    await bench.workers_settled()
    before = server.states()
    bench.outbox.change(told("w2"))
    await server.until(lambda: bool(server.states()))

    assert before == []
    assert [len(report.workers) for report in server.reports if report.workers] == [2]


async def test_what_may_wait_goes_by_itself_when_its_time_is_over(bench, server, node):
    change = WorkerChange(worker="w1", state=WorkerState.STARTING, at=1.0)

    bench.outbox.change(change, 3600.0)
    bench.outbox.change(change, 0.001)

    await server.until(lambda: len(server.states()) == 2)
