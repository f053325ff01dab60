"""A generator's items on a node: believed in their order and as far as they were granted, told before the end."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from relight.agent.items import KEPT_BYTES, KEPT_ENDED, UntakenItems
from relight.agent.node import Identity, Node
from relight.protocol.calls import CallEvent, Token
from relight.protocol.channel import Grant, Interrupt, Item
from relight.protocol.errors import Unavailable
from relight.protocol.link import CallItem, GrantItems, Orders, StartWorker
from relight.protocol.payload import INLINE_BYTES, Payload
from relight.sandbox.spec import SandboxExit

TOKEN = Token(1, 1)
IDENTITY = Identity(node="n", incarnation="agent-1", cpu=1.0, memory_mib=1, gpus=(), isolation="process", pid=1)


def value(data: bytes = b"1") -> Payload:
    return Payload(format="json", data=data, size=len(data))


def item(number: int, **fields: Any) -> Item:
    return Item(**{"call": "call-1", "number": number, "payload": value(b"%d" % number), **fields})


def grant(items: int, taken: int = 0, token: Token = TOKEN, call: str = "call-1") -> GrantItems:
    return GrantItems(call=call, token=token, items=items, taken=taken)


def large(data: bytes) -> tuple[Payload, int]:
    descriptor = os.memfd_create("item")
    os.write(descriptor, data)
    return Payload(format="pickle5", data=None, size=len(data)), descriptor


def told(number: int, call: str = "call-1", data: bytes = b"1") -> CallItem:
    return CallItem(call=call, token=TOKEN, number=number, payload=value(data))


def numbers(items: list[CallItem] | tuple[CallItem, ...]) -> list[int]:
    return [one.number for one in items]


async def test_items_are_told_as_they_come_and_before_the_end(bench):
    worker, sandbox = await bench.running()

    sandbox.say(item(1))
    await bench.settle()
    assert numbers(bench.items) == [1]
    worker.calls.grant(grant(3))
    sandbox.say(item(2))
    sandbox.say(item(3))
    sandbox.say(bench.ended())
    await bench.workers_settled()
    report = bench.outbox.take()

    assert (numbers(report.items), [(end.call, end.items) for end in report.ends]) == ([2, 3], [("call-1", 3)])
    assert {(one.call, one.token) for one in bench.items} == {("call-1", TOKEN)}


async def test_a_grant_is_passed_on_once_and_to_its_attempt_alone(bench):
    worker, sandbox = await bench.running()

    assert worker.calls.grant(grant(3))
    assert worker.calls.grant(grant(3, taken=1))
    assert not worker.calls.grant(grant(9, token=Token(0, 7)))
    assert not worker.calls.grant(grant(9, call="call-2"))

    assert sandbox.hear()[0] == Grant(call="call-1", items=3)
    with pytest.raises(BlockingIOError):
        sandbox.hear()


async def test_a_grant_that_comes_while_the_input_is_on_its_way_comes_after_the_call(bench):
    worker, sandbox = await bench.ready()
    bench.values.blobs["digest"] = b"large"
    bench.give(worker, bench.order(payload=Payload(format="pickle5", data=None, blob="digest", size=5)))

    worker.calls.grant(grant(7, taken=5))
    bench.values.gate.set()
    await bench.settle()
    heard = [sandbox.hear() for _ in range(2)]
    os.close(heard[0][1][0])

    assert [type(message).__name__ for message, _ in heard] == ["Run", "Grant"]
    assert heard[1][0] == Grant(call="call-1", items=7)


@pytest.mark.parametrize(
    "message",
    [
        item(2),
        item(0),
        item(1, call="call-2"),
        item(1, payload=Payload(format="json", data=b"x" * (INLINE_BYTES + 1), size=1)),
        item(1, payload=Payload(format="exe", data=b"1", size=1)),
        item(1, payload=Payload(format="json", data=None, size=9)),
    ],
    ids=["skips one", "before the first", "not its call", "too long", "format", "no descriptor"],
)
async def test_an_item_that_cannot_be_believed_ends_the_worker(bench, message):
    _, sandbox = await bench.running()

    sandbox.say(message)
    await bench.settle()

    assert sandbox.is_killed
    assert bench.changes[-1].exit.reason == "killed:protocol"
    assert bench.items == []


async def test_an_item_that_was_not_granted_ends_the_worker(bench):
    _, sandbox = await bench.running()

    sandbox.say(item(1))
    sandbox.say(item(2))
    await bench.settle()

    assert numbers(bench.items) == [1]
    assert bench.changes[-1].exit.reason == "killed:protocol"


async def test_a_large_item_is_with_the_server_before_it_is_told_and_nothing_overtakes_it(bench):
    worker, sandbox = await bench.running()
    worker.calls.grant(grant(3))
    payload, descriptor = large(b"large")

    sandbox.say(item(1))
    sandbox.say(item(2, payload=payload), descriptor)
    sandbox.say(item(3))
    sandbox.say(bench.ended())
    await bench.settle()
    assert (numbers(bench.items), bench.ends) == ([1], [])
    assert [held.call for held in bench.outbox.held()] == ["call-1"], "nobody may run it again meanwhile"
    bench.values.gate.set()
    await bench.settle()

    assert numbers(bench.items) == [1, 2, 3]
    assert bench.values.blobs[bench.items[1].payload.blob] == b"large"
    assert [end.outcome for end in bench.ends] == [CallEvent.SUCCEEDED]
    os.close(descriptor)


async def test_the_end_of_a_worker_that_died_comes_after_its_items_too(bench):
    _, sandbox = await bench.running()
    payload, descriptor = large(b"large")

    sandbox.say(item(1, payload=payload), descriptor)
    sandbox.end(SandboxExit(code=3))
    await bench.settle()
    assert bench.ends == []
    bench.values.gate.set()
    await bench.settle()

    assert numbers(bench.items) == [1]
    assert [end.outcome for end in bench.ends] == [CallEvent.LEASE_LOST]
    os.close(descriptor)


async def test_an_item_that_cannot_be_kept_stops_its_call_which_fails_by_that(bench):
    worker, sandbox = await bench.running()
    worker.calls.grant(grant(3))
    payload, descriptor = large(b"large")
    bench.values.refusal = Unavailable("cannot keep it: the disk is full")
    bench.values.gate.set()
    sandbox.hear()

    sandbox.say(item(1, payload=payload), descriptor)
    await bench.settle()
    sandbox.say(item(2))
    message, _ = sandbox.hear()
    sandbox.say(bench.ended(outcome=CallEvent.CANCELLED, result=None))
    await bench.settle()

    assert message == Interrupt(call="call-1", reason=CallEvent.CANCELLED)
    assert sandbox.signals == [signal.SIGUSR1]
    assert [(end.outcome, end.failure.message, end.items) for end in bench.ends] == [
        (CallEvent.FAILED, "cannot keep it: the disk is full", 0)
    ]
    assert bench.items == [], "the second is nothing without the first"
    os.close(descriptor)


async def test_items_are_told_again_on_a_new_link_until_they_are_taken(bench):
    worker, sandbox = await bench.running()
    worker.calls.grant(grant(3))
    for number in (1, 2, 3):
        sandbox.say(item(number))
    await bench.settle()

    bench.outbox.taken(("call-1", TOKEN), 2)
    bench.outbox.rewind()

    assert numbers(bench.outbox.take().items) == [3]


async def test_untaken_items_outlive_the_acknowledgement_of_their_call(bench):
    _, sandbox = await bench.running()
    sandbox.say(item(1))
    sandbox.say(bench.ended())
    await bench.settle()

    bench.outbox.acknowledge([("call-1", TOKEN)])
    bench.outbox.rewind()
    report = bench.outbox.take()

    assert (numbers(report.items), report.ends) == ([1], ())
    bench.outbox.taken(("call-1", TOKEN), 1)
    bench.outbox.rewind()
    assert bench.outbox.take() is None


def test_of_calls_that_have_ended_only_the_latest_items_are_kept():
    items = UntakenItems()

    for n in range(KEPT_ENDED + 1):
        items.add(told(1, call=f"call-{n}"))
        items.ended((f"call-{n}", TOKEN))
    items.rewind()

    assert [one.call for one in items.take(1 << 20)] == [f"call-{n}" for n in range(1, KEPT_ENDED + 1)]


def test_of_calls_that_have_ended_only_so_many_bytes_are_kept():
    items = UntakenItems()

    for call in ("call-a", "call-b", "call-c"):
        items.add(told(1, call=call, data=b"x" * (KEPT_BYTES // 2)))
        items.ended((call, TOKEN))
    items.rewind()

    assert [one.call for one in items.take(KEPT_BYTES)] == ["call-b", "call-c"]


def test_what_was_taken_before_it_could_be_told_is_not_told():
    items = UntakenItems()
    items.add(told(1))
    items.add(told(2))

    items.taken(("call-1", TOKEN), 1)

    assert numbers(items.take(1 << 20)) == [2]


async def test_an_end_waits_for_the_report_that_has_the_last_of_its_items(bench):
    worker, sandbox = await bench.running()
    worker.calls.grant(grant(40))
    for number in range(1, 41):
        sandbox.say(item(number, payload=value(b"x" * INLINE_BYTES)))
        await bench.workers_settled()
    sandbox.say(bench.ended())
    await bench.workers_settled()

    reports = []
    while (report := bench.outbox.take()) is not None:
        reports.append(report)

    assert numbers([one for report in reports for one in report.items]) == list(range(1, 41))
    assert [bool(report.ends) for report in reports] == [False, True]


async def test_a_node_obeys_grants(bench):
    bench.workers.start(StartWorker(worker="worker-1", spec=bench.spec()))
    await bench.settle()
    sandbox = bench.sandboxes.started[-1]
    sandbox.say(bench.word_ready())
    await bench.settle()
    bench.workers.run((bench.order(),))
    sandbox.hear(), sandbox.hear()
    sandbox.say(item(1))
    await bench.settle()

    Node(IDENTITY, bench.workers, bench.templates, bench.outbox).obey(Orders(grant=(grant(3, taken=1),)))
    bench.outbox.rewind()

    assert sandbox.hear()[0] == Grant(call="call-1", items=3)
    assert bench.outbox.take() is None, "the first was taken"
